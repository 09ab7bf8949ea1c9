"""A saved adapter written in another's format: as it is where the format holds it, else as the nearest LoRA."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from acetrain.acestep.names import official
from acetrain.acestep.relayout import planned
from acetrain.adapters.files import comfyui, delta, in_diffusers, kohya, lycoris, merged, peft, saved
from acetrain.adapters.files.configuration import lora_configuration
from acetrain.adapters.files.found import AdapterFiles
from acetrain.adapters.files.recognise import METADATA
from acetrain.adapters.files.spelling import told
from acetrain.adapters.files.written import write
from acetrain.adapters.formats import PAIRS, Target
from acetrain.adapters.held import Pairs, Products, as_products, pairs_of, products_of, truncated
from acetrain.adapters.updates import Updates, read_finite, updates_of
from acetrain.atomic import replacing_folder, write_text
from acetrain.tensorfile import Header
from acetrain.tracking.counted import counted

if TYPE_CHECKING:
    from acetrain.acestep.model import Model

_OF_LAYOUT = ("format", "algo", "lokr_config", "loha_config", "locon_config", METADATA)
"""Entries of a header that say how the file was laid out."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    modules: int
    loss: float
    """|dW - dW'| / |dW| over all modules; 0 where nothing was converted."""
    left_out: Mapping[str, float]
    """Changes of what is no weight of a layer, which the format does not hold -> their norms."""


def export(
    files: AdapterFiles,
    target: Target,
    output: Path,
    dtype: torch.dtype | None,
    rank: int | None,
    model: "Model | None",
) -> Exported:
    """Write the adapter for `target`, in `dtype` or as it is stored; a LoRA of `rank` where the format holds no other,
    and beside the base `model` where its type asks for it.

    Raises Refused where the adapter cannot be read, or a value is too large for `dtype`.
    """
    said = _metadata(files)
    if files.kind == delta.KIND and target in (Target.delta, Target.comfyui):
        tensors = {delta.filed_of(delta.parameter_of(name)): tensor for name, tensor in read_finite(files).items()}
        return _delta(tensors, output, dtype, said)
    if target is Target.delta:
        return _delta(_differences(updates_of(files, model)), output, dtype, said)
    if not target.holds(files.kind, peft.is_dora(files)):
        assert rank is not None
        updates = updates_of(files, model)
        with counted("decomposing", len(updates.names)) as advance:
            pairs, loss = truncated(updates, rank, advance)
        _write_pairs(pairs, target, output, dtype, said, saved.said_base(files))
        return Exported(len(pairs), loss, updates.left_out)
    if target is Target.peft:
        return _peft(files, output, dtype, said)
    if files.kind in PAIRS:
        pairs = pairs_of(files)
        _write_pairs(pairs, target, output, dtype, said, "")
        return Exported(len(pairs), 0.0, {})
    products = products_of(files)
    _write_products(products, target, output, dtype, said, saved.header_of(files))
    return Exported(len(products), 0.0, {})


def export_merged(
    adapters: "list[tuple[Path, float]]", output: Path, dtype: torch.dtype | None, model: "Model", other: bool
) -> Exported:
    """Write the base with adapters in its weights, each at its scale times its trained strength, added in fp32; in the
    `other` layout than the base's, or in its own. The folder appears when it is whole."""
    from acetrain.acestep.load import load_base
    from acetrain.adapters.merging import merged_weights

    dit = load_base(model, torch.float32).dit
    saved.load(dit, adapters)
    weights = merged_weights(dit)
    plan = planned(model.checkpoint) if other else None
    files = len(plan.weights if plan else model.checkpoint.files(merged.COMPONENT))
    with counted("writing", files) as advance, replacing_folder(output) as folder:
        if plan:
            merged.save_as(plan, model.checkpoint, weights, folder, dtype, advance)
        else:
            merged.save(model.checkpoint, weights, folder, dtype, advance)
    return Exported(len(weights), 0.0, {})


def _metadata(files: AdapterFiles) -> dict[str, str]:
    """What the header says of the adapter's making, and of its base."""
    found = saved.header_of(files).metadata
    kept = {key: value for key, value in found.items() if key not in _OF_LAYOUT}
    base = saved.said_base(files)
    return {**kept, "base": base} if base else kept


def _peft(files: AdapterFiles, folder: Path, dtype: torch.dtype | None, said: Mapping[str, str]) -> Exported:
    """A PEFT folder of the same tensors, whatever their type."""
    tensors = read_finite(files)
    modules = sorted({official(found.module) for name in tensors if (found := told(name))})
    config = {**peft.config_of(files), "target_modules": modules}
    write(tensors, folder / peft.WEIGHTS, dtype, said)
    write_text(folder / peft.CONFIG, json.dumps(config, indent=2, sort_keys=True))
    return Exported(len(modules), 0.0, {})


def _write_pairs(
    pairs: Pairs, target: Target, output: Path, dtype: torch.dtype | None, said: Mapping[str, str], base: str
) -> None:
    if target is Target.comfyui:
        comfyui.save(pairs, output, dtype, said)
    elif target is Target.diffusers:
        in_diffusers.save(pairs, output, dtype, said)
    elif target is Target.peft:
        _write_peft(pairs, output, dtype, said, base)
    else:
        _write_products(as_products(pairs), target, output, dtype, said, Header({}, {}))


def _write_peft(pairs: Pairs, folder: Path, dtype: torch.dtype | None, said: Mapping[str, str], base: str) -> None:
    ranks, alphas = ({name: getattr(pair, key) for name, pair in pairs.items()} for key in ("rank", "alpha"))
    tensors: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        key = peft.PREFIX + official(name)
        tensors |= {f"{key}.lora_A.weight": pair.a, f"{key}.lora_B.weight": pair.b}
    write(tensors, folder / peft.WEIGHTS, dtype, said)
    config = lora_configuration(ranks, alphas, False, base)
    write_text(folder / peft.CONFIG, json.dumps(config, indent=2, sort_keys=True))


def _write_products(
    products: Products,
    target: Target,
    output: Path,
    dtype: torch.dtype | None,
    said: Mapping[str, str],
    header: Header,
) -> None:
    if target is Target.kohya:
        kohya.save(products, output, dtype, said)
        return
    tensors = {
        f"{lycoris.key_of(name)}.{part}": value for name, parts in products.items() for part, value in parts.items()
    }
    write(tensors, output, dtype, {**said, **lycoris.header_for(products, header)})


def _differences(updates: Updates) -> dict[str, Tensor]:
    """All that is added to the DiT's parameters, by the names in a file, in fp32."""
    tensors = {delta.filed_of(name): change.float() for name, change in updates.beside.items()}
    with counted("multiplying", len(updates.names)) as advance:
        for name in updates.names:
            update = updates[name]
            change = update.dense().float().reshape(update.shape[0], -1, *update.kernel)
            tensors[delta.filed_of(f"{name}.weight")] = change
            advance()
    return tensors


def _delta(tensors: Mapping[str, Tensor], file: Path, dtype: torch.dtype | None, said: Mapping[str, str]) -> Exported:
    write(tensors, file, dtype, said)
    return Exported(len({name.rpartition(".")[0] for name in tensors}), 0.0, {})
