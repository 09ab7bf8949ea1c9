"""Every type of adapter does what its paper writes, at any strength, and PEFT itself reads its folder."""

import json
from math import sqrt
from pathlib import Path

import pytest
import torch
from fabricate import base, official_module
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn

from acetrain.acestep.load import Base
from acetrain.acestep.model import Tiny
from acetrain.acestep.names import linear_layers, official
from acetrain.adapters.adapter import Adapter
from acetrain.adapters.files import peft, saved
from acetrain.adapters.injection import NAME, adapter_layers, adapter_state, trainable
from acetrain.adapters.lora import DoRA, Init, LoRA, RsLoRA
from acetrain.adapters.products import LoHa, LoKr
from acetrain.adapters.rotations import BOFT, OFT
from acetrain.adapters.through_peft import ThroughPeft
from acetrain.adapters.vectors import IA3, VeRA
from acetrain.errors import Refused

LAYERS = linear_layers(Tiny(variant="tiny", path="", steps=4, shift=1.0, guidance=1.0).config("transformer"))
NAMES = [
    "layers.0.self_attn.to_q",
    "layers.0.mlp.down_proj",
    "layers.1.cross_attn.to_k",
    "time_embed.linear_1",
    "condition_embedder",
]
KINDS: dict[str, ThroughPeft] = {
    "lora": LoRA(rank=4, alpha=6.0, dropout=0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from=""),
    "rslora": RsLoRA(
        rank=4, alpha=6.0, dropout=0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from=""
    ),
    "dora": DoRA(rank=4, alpha=6.0, dropout=0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from=""),
    "loha": LoHa(rank=3, alpha=6.0, rank_dropout=0.0, module_dropout=0.0, ranks={}, alphas={}, start_from=""),
    "lokr": LoKr(
        rank=2,
        alpha=6.0,
        rank_dropout=0.0,
        module_dropout=0.0,
        factor=4,
        decompose_both=False,
        ranks={},
        alphas={},
        start_from="",
    ),
    "lokr_both": LoKr(
        rank=1,
        alpha=3.0,
        rank_dropout=0.0,
        module_dropout=0.0,
        factor=8,
        decompose_both=True,
        ranks={},
        alphas={},
        start_from="",
    ),
    "oft": OFT(block_size=8, constrained=False, eps=6e-5, shared=False, neumann_terms=0, start_from=""),
    "oft_neumann": OFT(block_size=8, constrained=False, eps=6e-5, shared=False, neumann_terms=5, start_from=""),
    "oft_shared": OFT(block_size=16, constrained=False, eps=6e-5, shared=True, neumann_terms=0, start_from=""),
    "boft": BOFT(block_size=8, factors=3, start_from=""),
    "vera": VeRA(rank=16, start=0.1, dropout=0.0, start_from=""),
    "ia3": IA3(start_from=""),
}
SCALED = [name for name, adapter in KINDS.items() if adapter.peft_type not in ("OFT", "BOFT")]


def attached(kind: str) -> Base:
    """The tiny base with an adapter whose weights have moved from where they start."""
    loaded = base()
    KINDS[kind].attach(loaded.dit, NAMES, seed=0)
    draw = torch.Generator().manual_seed(1)
    for parameter in trainable(loaded.dit).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
    loaded.dit.eval()
    return loaded


@torch.no_grad()
def effective(layer: nn.Module, inputs: int) -> Tensor:
    """The layer's weight with all that is attached to it, from what it does."""
    zero = layer(torch.zeros(1, inputs))
    return (layer(torch.eye(inputs)) - zero).T


@pytest.mark.parametrize("kind", KINDS)
def test_peft_itself_reads_the_folder_on_official_names(kind: str, tmp_path: Path) -> None:
    ours = attached(kind)
    peft.save(ours.dit, tmp_path, "tiny", {})
    assert json.loads((tmp_path / peft.CONFIG).read_text())["peft_type"] == KINDS[kind].peft_type
    theirs = PeftModel.from_pretrained(official_module(), str(tmp_path)).base_model.model
    for name, layer in adapter_layers(ours.dit).items():
        expected = effective(layer, LAYERS[name][1])
        found = effective(theirs.get_submodule(official(name)), LAYERS[name][1])  # pyright: ignore
        assert torch.allclose(found, expected, atol=1e-5), name


def cayley(blocks: Tensor) -> Tensor:
    """The rotation (I + Q)^-1 (I - Q) of skew-symmetric blocks, made of those above the diagonal."""
    size = blocks.shape[-1]
    return torch.linalg.solve(torch.eye(size) + blocks, torch.eye(size) - blocks, left=False)


def skew(values: Tensor, size: int) -> Tensor:
    rows, columns = torch.triu_indices(size, size, 1)
    upper = torch.zeros(len(values), size, size)
    upper[:, rows, columns] = values
    return upper - upper.mT


def written(kind: str, w: Tensor, t: dict[str, Tensor], shared: dict[str, Tensor], name: str) -> Tensor:
    """The weight that the paper's formula makes of W and the tensors in the file."""
    if kind in ("lora", "rslora", "dora"):
        moved = w + (6 / sqrt(4) if kind == "rslora" else 6 / 4) * t["lora_B.weight"] @ t["lora_A.weight"]
        return moved if kind != "dora" else (t["lora_magnitude_vector"] / moved.norm(dim=1))[:, None] * moved
    if kind == "loha":
        return w + 6 / 3 * (t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"])
    if kind == "lokr":
        return w + 6 / 2 * torch.kron(t["lokr_w1"], t.get("lokr_w2", t.get("lokr_w2_a", w) @ t.get("lokr_w2_b", w.T)))
    if kind == "lokr_both":
        return w + 3 * torch.kron(t["lokr_w1_a"] @ t["lokr_w1_b"], t["lokr_w2_a"] @ t["lokr_w2_b"])
    if kind in ("oft", "oft_shared"):
        size = KINDS[kind].block_size  # pyright: ignore
        blocks = cayley(skew(t["oft_R.weight"], size))
        return w @ torch.block_diag(*(blocks if len(blocks) > 1 else blocks.repeat(w.shape[1] // size, 1, 1))).T
    if kind == "vera":
        a, b = shared["vera_A"][:, : w.shape[1]], shared["vera_B"][: w.shape[0]]
        return w + t["vera_lambda_b"][:, None] * b @ (t["vera_lambda_d"][:, None] * a)
    assert kind == "ia3"
    return w * t["ia3_l"]


FORMULAS = [kind for kind in KINDS if kind not in ("oft_neumann", "boft")]


@pytest.mark.parametrize("kind", FORMULAS)
def test_the_weight_is_the_papers_formula_of_the_file(kind: str, tmp_path: Path) -> None:
    ours = attached(kind)
    peft.save(ours.dit, tmp_path, "tiny", {})
    tensors = load_file(tmp_path / peft.WEIGHTS)
    shared = {name: tensors[f"base_model.{name}"] for name in ("vera_A", "vera_B") if f"base_model.{name}" in tensors}
    weights = dict(base().dit.named_parameters())
    for name in NAMES:
        start = f"{peft.PREFIX}{official(name)}."
        own = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        expected = written(kind, weights[f"{name}.weight"].data, own, shared, name)
        found = effective(adapter_layers(ours.dit)[name], LAYERS[name][1])
        assert torch.allclose(found, expected, atol=1e-5), name


@pytest.mark.parametrize("kind", ["oft", "oft_shared", "boft"])
def test_a_rotation_keeps_the_lengths_of_rows(kind: str) -> None:
    ours, weights = attached(kind), dict(base().dit.named_parameters())
    for name, layer in adapter_layers(ours.dit).items():
        found = effective(layer, LAYERS[name][1]).norm(dim=1)
        factor = layer.boft_s[NAME].flatten().abs() if kind == "boft" else 1
        assert torch.allclose(found, factor * weights[f"{name}.weight"].norm(dim=1), rtol=1e-4)


def test_butterfly_factors_mix_what_lies_in_different_blocks() -> None:
    def mixed(factors: int) -> int:
        loaded = base()
        BOFT(block_size=8, factors=factors, start_from="").attach(loaded.dit, NAMES[:1], seed=0)
        for parameter in trainable(loaded.dit).values():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        rotation, _ = adapter_layers(loaded.dit)[NAMES[0]].get_delta_weight(NAME)
        return int((rotation[0].abs() > 1e-7).sum())

    assert [mixed(factors) for factors in (1, 2, 3)] == [8, 16, 32]


def test_the_gradient_of_butterfly_blocks_is_right() -> None:
    from peft.tuners.boft.layer import FastBlockDiag

    blocks = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(FastBlockDiag.apply, (blocks,))


@pytest.mark.parametrize("scale", [0.0, 0.5, -1.0, 2.0])
@pytest.mark.parametrize("kind", SCALED)
def test_a_scale_multiplies_what_is_added_to_the_weight(kind: str, scale: float, tmp_path: Path) -> None:
    ours, weights = attached(kind), dict(base().dit.named_parameters())
    peft.save(ours.dit, tmp_path, "tiny", {})
    loaded = base()
    saved.load(loaded.dit, [(tmp_path, scale)])
    for name, layer in adapter_layers(loaded.dit).items():
        w, inputs = weights[f"{name}.weight"].data, LAYERS[name][1]
        whole = effective(adapter_layers(ours.dit)[name], inputs)
        assert torch.allclose(effective(layer, inputs), w + scale * (whole - w), atol=1e-5), name


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_updates_of_several_add_up(kind: str, tmp_path: Path) -> None:
    ours, weights = attached(kind), dict(base().dit.named_parameters())
    peft.save(ours.dit, tmp_path, "tiny", {})
    loaded = base()
    saved.load(loaded.dit, [(tmp_path, 0.5), (tmp_path, 2.0)])
    for name, layer in adapter_layers(loaded.dit).items():
        w, inputs = weights[f"{name}.weight"].data, LAYERS[name][1]
        whole = effective(adapter_layers(ours.dit)[name], inputs)
        assert torch.allclose(effective(layer, inputs), w + 2.5 * (whole - w), atol=1e-5), name


@pytest.mark.parametrize(
    ("kinds", "scale", "message"),
    [
        (["oft"], 0.5, "scale: must be 1 for the OFT adapter .*no strength, got 0.5"),
        (["boft"], 0.0, "scale: must be 1 for the BOFT adapter"),
        (["oft", "oft"], 1.0, "adapter_paths: must be of one type, LORA or LOHA or LOKR.*got 'OFT, OFT'"),
        (["dora", "dora"], 1.0, "adapter_paths: must be of one type"),
        (["lora", "lokr"], 1.0, "adapter_paths: must be of one type.*'LORA, LOKR'"),
        (["vera", "vera"], 1.0, "adapter_paths: must be of one type"),
    ],
)
def test_what_cannot_be_attached_so_is_refused(kinds: list[str], scale: float, message: str, tmp_path: Path) -> None:
    for kind in kinds:
        peft.save(attached(kind).dit, tmp_path / kind, "tiny", {})
    with pytest.raises(Refused, match=message):
        saved.check([(tmp_path / kind, scale) for kind in kinds])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dora"])
def test_the_start_is_the_same_on_a_base_of_another_dtype(kind: str) -> None:
    def start(dtype: torch.dtype) -> dict[str, Tensor]:
        loaded = base()
        nn.Module.to(loaded.dit, dtype)
        KINDS[kind].attach(loaded.dit, NAMES, seed=0)
        return adapter_state(loaded.dit)

    whole, half = start(torch.float32), start(torch.bfloat16)
    assert all(half[name].dtype is torch.float32 and torch.equal(half[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            OFT(24, False, 6e-5, False, 5, start_from=""),
            "adapter.block_size: 24 must divide .*layers.0.self_attn.q_proj has 128",
        ),
        (OFT(256, False, 6e-5, False, 5, start_from=""), "adapter.block_size: 256 must divide"),
        (BOFT(8, 6, start_from=""), "adapter.block_size: 256 must divide .* got 8"),
    ],
)
def test_blocks_that_do_not_divide_the_inputs_are_refused(adapter: Adapter, message: str) -> None:
    with pytest.raises(Refused, match=message):
        adapter.check({name: LAYERS[name] for name in NAMES})
