"""What `acetrain prune` writes: the smaller adapter, every figure of it, a plot, and what follows for the next run."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from acetrain import __version__
from acetrain.acestep.names import official
from acetrain.adapters.files import low_rank
from acetrain.adapters.kinds import needs_base
from acetrain.adapters.updates import Updates
from acetrain.analysis import ranks
from acetrain.analysis.each import for_each
from acetrain.analysis.pruning import Evidence, Pruned
from acetrain.atomic import write_text
from acetrain.tracking.provenance import commit

REPORT = "prune.json"
PLOT = "pareto.png"
FORMAT = 1
"""Version of `prune.json`."""
ENOUGH = 0.99
"""Share of a module's squared singular values that the rank advised for the next run keeps."""
MOST = 0.9
"""Share of modules that it keeps them in."""
USED_UP = 0.75
"""Share of the ranks there are above which those needed say that more would be used."""
METRICS = {
    "weights": "the update",
    "activations": "what the update adds to outputs",
    "loss": "what the update is worth",
}


def write(
    found: Pruned, updates: Updates, folder: Path, balanced: bool, settings: Mapping[str, Any], sha256: str
) -> None:
    """Write the adapter, the plot and last `prune.json`, and print a summary."""
    save(found, updates, folder / "adapter", balanced, {"pruned": json.dumps(settings), "source_sha256": sha256})
    report = document(found, updates, settings, sha256)
    from acetrain.analysis.pruning_plot import draw

    draw(found, folder / PLOT)
    write_text(folder / REPORT, json.dumps(report, indent=1) + "\n")
    print("\n".join(summary(report, folder)))


def save(found: Pruned, updates: Updates, folder: Path, balanced: bool, origin: Mapping[str, str]) -> None:
    """Write the truncated updates as a LoRA of the source's strength, with `origin` and what is known in its header."""
    strengths = {name: updates.strengths.get(name, 1.0) for name, rank in found.ranks.items() if rank}
    factors = for_each(
        "truncating",
        strengths,
        lambda name: found.truncations[name].at(found.ranks[name]).factors(balanced, strengths[name]),
    )
    metadata = {
        **origin,
        "base": updates.base,
        "source": json.dumps(updates.metadata, sort_keys=True),
        "acetrain": __version__,
        "commit": commit(),
    }
    low_rank.save(factors, strengths, updates.rslora, updates.dtype, folder, updates.base, metadata)


def document(found: Pruned, updates: Updates, settings: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    """All figures, singular values in full precision; changes of loss are means over songs and times."""
    size = updates.dtype.itemsize
    parameters, length = updates.size
    next_rank, why = advice(found, updates)
    return {
        "format": FORMAT,
        "settings": dict(settings),
        "adapter": {
            "kind": updates.kind,
            "base": updates.base,
            "sha256": sha256,
            "left_out": {official(name): norm for name, norm in updates.left_out.items()},
        },
        "total": {
            "parameters_before": parameters,
            "parameters": found.parameters,
            "bytes_before": length,
            "bytes": found.parameters * size,
            "modules_before": len(found.ranks),
            "modules": sum(rank > 0 for rank in found.ranks.values()),
            "retained": found.retained,
            **conversion(found, updates),
            **({} if found.evidence is None else _losses(found.evidence)),
        },
        "next_rank": {"rank": next_rank, "why": why},
        "modules": [_module(found, updates, name) for name in found.ranks],
    }


def _rank_before(found: Pruned, updates: Updates, name: str) -> int:
    return updates.ranks.get(name, found.truncations[name].whole.rank)


def _losses(evidence: Evidence) -> dict[str, Any]:
    """Changes of loss by set of songs, and the curves of all methods."""
    changes = {}
    for songs, judged in evidence.judged.items():
        parts = evidence.predicted[songs].values()
        linear, quadratic = (math.fsum(getattr(part, key) for part in parts) for key in ("linear", "quadratic"))
        predicted = {"linear": linear, "quadratic": quadratic, "total": linear + quadratic}
        changes[songs] = {**asdict(judged), "measured": judged.change, "predicted": predicted}
    return {
        "loss": changes,
        "judged_on": evidence.judged_on,
        "curve": [asdict(point) for point in evidence.curve],
    }


def conversion(found: Pruned, updates: Updates) -> dict[str, float]:
    """Of an adapter that is no sum of low rank: what a plain LoRA of its own ranks cannot hold of its update, as a
    share of its length; nothing of others."""
    if not (needs_base(updates.files.kind, updates.kind == "DoRA") and updates.ranks):
        return {}
    squares = [one.whole.s.square() for one in found.truncations.values()]
    lost = [part[updates.ranks[name] :].sum() for name, part in zip(found.truncations, squares, strict=True)]
    return {"conversion_loss": math.sqrt(float(sum(lost)) / float(sum(part.sum() for part in squares)))}


def _module(found: Pruned, updates: Updates, name: str) -> dict[str, Any]:
    one, rank = found.truncations[name], found.ranks[name]
    squares, before = one.whole.s.square(), _rank_before(found, updates, name)
    error = (one.whole.s.diag() - one.core(rank)).norm() / one.whole.s.norm() if one.whole.rank else 0.0
    entry = {
        "module": official(name),
        "outputs": one.whole.u.shape[0],
        "inputs": one.whole.v.shape[0],
        "rank_before": before,
        "numerical_rank": one.whole.rank,
        "rank": rank,
        "parameters": rank * one.whole.cost,
        "retained": one.retained(rank),
        "norm": squares.sum().sqrt().item(),
        "error": float(error),
        "singular_values": one.whole.s.tolist(),
        "values": one.values.tolist(),
    }
    if conversion(found, updates):
        entry["conversion_loss"] = (squares[before:].sum() / squares.sum()).sqrt().item() if one.whole.rank else 0.0
    if found.evidence is not None:
        predicted = {songs: asdict(by_name[name]) for songs, by_name in found.evidence.predicted.items()}
        entry |= {"predicted": predicted, "measured": found.evidence.measured.get(name)}
    return entry


def advice(found: Pruned, updates: Updates) -> tuple[int, str]:
    """The rank to train with next time, and why."""
    needed = sorted(ranks.fewest(one.energies, ENOUGH) for one in found.truncations.values())
    rank = max(1, needed[min(len(needed) - 1, int(MOST * len(needed)))])
    others = f"the middle module needs {needed[len(needed) // 2]}, the fullest {needed[-1]}"
    share = f"{ENOUGH:.0%} of the squared singular values of {METRICS[found.method]}"
    had = max(updates.ranks.values(), default=0) if updates.kind != "DoRA" else 0
    if had and rank > USED_UP * had:
        why = f"{share} takes {rank} of the {had} ranks in {MOST:.0%} of the modules, so that more would be used"
        return 2 * had, f"train with rank {2 * had} next time: {why}; {others}"
    return rank, f"train with rank {rank} next time: it keeps {share} in {MOST:.0%} of the modules; {others}"


def summary(report: Mapping[str, Any], folder: Path) -> list[str]:
    """What is printed."""
    total = report["total"]
    share = total["parameters"] / total["parameters_before"]
    size = f"{total['parameters']:,} parameters of {total['parameters_before']:,}, {share:.1%}"
    lines = [
        f"adapter: {folder / 'adapter'} ({size})",
        f"modules: {total['modules']} of {total['modules_before']}, {total['retained']:.2%} retained",
    ]
    for songs, found in total.get("loss", {}).items():
        change = f"{found['measured']:+.3g} measured, {found['predicted']['total']:+.3g} predicted"
        name = songs.replace("_", "-")
        lines.append(f"loss: {change} on {found['songs']} {name} songs, from {found['whole']:.4f}")
    if "conversion_loss" in total:
        lines.append(f"conversion: a plain LoRA of the same ranks is {total['conversion_loss']:.2%} off its update")
    left = report["adapter"]["left_out"]
    lines += [f"left out: {len(left)} trained tensors that no LoRA holds, such as {next(iter(left))}"] if left else []
    return [*lines, f"figures: {folder / REPORT}", f"plot: {folder / PLOT}", report["next_rank"]["why"]]
