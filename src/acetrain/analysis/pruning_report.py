"""What `acetrain prune` writes: the smaller adapter, every figure of it, a plot, and what follows for the next run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acetrain import __version__
from acetrain.acestep.names import official
from acetrain.adapters.files import low_rank
from acetrain.adapters.files.fit import digest
from acetrain.adapters.updates import Updates, described
from acetrain.analysis import ranks
from acetrain.analysis.each import for_each
from acetrain.analysis.pruning import Pruned
from acetrain.atomic import write_text
from acetrain.tracking.provenance import commit

FORMAT = 1
"""Version of `prune.json`."""
ENOUGH = 0.99
"""Share of a module's squared singular values that the rank advised for the next run keeps."""
MOST = 0.9
"""Share of modules that it keeps them in."""


def write(found: Pruned, updates: Updates, folder: Path, balanced: bool, settings: Mapping[str, Any]) -> None:
    """Write the adapter, the plot and last `prune.json`, and print a summary."""
    save(found, updates, folder / "adapter", balanced, settings)
    report = document(found, updates, settings)
    from acetrain.analysis.pruning_plot import draw

    draw(found, folder / "pareto.png")
    write_text(folder / "prune.json", json.dumps(report, indent=1) + "\n")
    print("\n".join(summary(report, folder)))


def save(found: Pruned, updates: Updates, folder: Path, balanced: bool, settings: Mapping[str, Any]) -> None:
    """Write the truncated updates as a LoRA of the source's strength, with where they come from in its header."""
    kept = [name for name, rank in found.ranks.items() if rank]
    factors = for_each(
        "truncating",
        kept,
        lambda name: found.truncations[name].at(found.ranks[name]).factors(balanced, updates.strengths.get(name, 1.0)),
    )
    metadata = {
        "base": updates.base,
        "pruned": json.dumps(settings, sort_keys=True),
        "source": described(updates),
        "source_sha256": digest(updates.files.weights),
        "acetrain": __version__,
        "commit": commit(),
    }
    strengths = {name: updates.strengths.get(name, 1.0) for name in kept}
    low_rank.save(factors, strengths, updates.rslora, updates.dtype, folder, updates.base, metadata)


def document(found: Pruned, updates: Updates, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All figures, singular values in full precision."""
    size = updates.dtype.itemsize
    before = sum(_rank_before(found, updates, name) * one.whole.cost for name, one in found.truncations.items())
    next_rank, why = advice(found, updates)
    return {
        "format": FORMAT,
        "settings": dict(settings),
        "adapter": {
            "kind": updates.files.kind,
            "base": updates.base,
            "sha256": digest(updates.files.weights),
            "left_out": {official(name): norm for name, norm in updates.left_out.items()},
        },
        "total": {
            "parameters_before": before,
            "parameters": found.parameters,
            "bytes_before": before * size,
            "bytes": found.parameters * size,
            "modules_before": len(found.ranks),
            "modules": sum(rank > 0 for rank in found.ranks.values()),
            "retained": found.retained,
        },
        "next_rank": {"rank": next_rank, "why": why},
        "modules": [_module(found, updates, name) for name in found.ranks],
    }


def _rank_before(found: Pruned, updates: Updates, name: str) -> int:
    return updates.ranks.get(name, found.truncations[name].whole.rank)


def _module(found: Pruned, updates: Updates, name: str) -> dict[str, Any]:
    one, rank = found.truncations[name], found.ranks[name]
    squares = one.whole.s.square()
    return {
        "module": official(name),
        "outputs": one.whole.u.shape[0],
        "inputs": one.whole.v.shape[0],
        "rank_before": _rank_before(found, updates, name),
        "numerical_rank": one.whole.rank,
        "rank": rank,
        "parameters": rank * one.whole.cost,
        "retained": one.retained(rank),
        "norm": squares.sum().sqrt().item(),
        "singular_values": one.whole.s.tolist(),
        "values": one.values.tolist(),
    }


def advice(found: Pruned, updates: Updates) -> tuple[int, str]:
    """The rank to train with next time, and why."""
    needed = sorted(ranks.fewest(one.energies, ENOUGH) for one in found.truncations.values())
    had = max(_rank_before(found, updates, name) for name in found.ranks)
    rank = max(1, needed[min(len(needed) - 1, int(MOST * len(needed)))])
    middle, most = needed[len(needed) // 2], f"{MOST:.0%} of the modules"
    metric = {"weights": "the update", "activations": "what the update adds to outputs", "loss": "what it is worth"}
    keeps = f"it keeps {ENOUGH:.0%} of the squared singular values of {metric[found.method]} in {most}"
    if updates.ranks and rank > 0.75 * had:
        rank = 2 * had
        full = f"the {had} ranks of this one are used up: {ENOUGH:.0%} needs {needed[-1]} of them in the fullest module"
        return rank, f"train with rank {rank} next time: {full}, {middle} in the middle one"
    others = f"the middle module needs {middle}, the fullest {needed[-1]}"
    return rank, f"train with rank {rank} next time: {keeps}; {others}"


def summary(report: Mapping[str, Any], folder: Path) -> list[str]:
    """What is printed."""
    total = report["total"]
    share = total["parameters"] / total["parameters_before"]
    size = f"{total['parameters']:,} parameters of {total['parameters_before']:,}, {share:.1%}"
    lines = [
        f"adapter: {folder / 'adapter'} ({size})",
        f"modules: {total['modules']} of {total['modules_before']}, {total['retained']:.2%} retained",
    ]
    left = report["adapter"]["left_out"]
    lines += [f"left out: {len(left)} trained tensors that no LoRA holds, such as {next(iter(left))}"] if left else []
    return [*lines, f"figures: {folder / 'prune.json'}", f"plot: {folder / 'pareto.png'}", report["next_rank"]["why"]]
