"""Modules and ranks as a measurement of gradients says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from acetrain.acestep.names import diffusers, official
from acetrain.adapters.adapter import Shapes
from acetrain.adapters.targets import Targets
from acetrain.analysis.allocate import Candidate, allocate, falling
from acetrain.analysis.report import Report
from acetrain.errors import Refused, require

RANKS = "rank_pattern"
"""Where Side-Step's map (version 2) keeps its ranks, by official names."""


@dataclass
class BySensitivity(Targets):
    """The modules, and the rank of a LoRA on each, that a report of `acetrain sensitivity` shares out of one budget.

    Ranks are taken one by one, each where the squared singular value of the mean gradient is largest for its price,
    outputs + inputs; modules that get none are left out. `adapter.rank` and `adapter.alpha` then say nothing but the
    strength. `include` and `exclude` narrow down which of the report's modules may get ranks.
    """

    report: str = field(kw_only=True)
    """The `sensitivity.json` of `acetrain sensitivity`, or Side-Step's `fisher_map.json`, whose ranks are taken as they
    are: the modules it leaves out are left out."""
    budget: float | None = field(kw_only=True)
    """What is shared out, above 0: up to 1 the LoRA's parameters as a share of the weights of all candidates, above 1
    their number; null for a map that has ranks already."""
    force: bool = field(kw_only=True)
    """Take a report of another model or data set too; the run says so and records it."""

    def __post_init__(self) -> None:
        usable = self.budget is None or 0 < self.budget < float("inf")
        require(usable, "targets.budget", "above 0 and finite, or null", self.budget)

    def select(self, layers: Mapping[str, object]) -> list[str]:
        """The modules that get a rank, in the model's order. Raises Refused where `ranks` does."""
        return list(self.ranks(cast(Shapes, layers)))

    def ranks(self, layers: Shapes) -> dict[str, int]:
        """The rank of each module that gets one.

        Raises Refused for a report that is none or is about other modules, and for a budget that buys no rank.
        """
        candidates = super().select(layers)
        if self._map is not None:
            require(self.budget is None, "targets.budget", "null for a map that has ranks of its own", self.budget)
            found = self._mapped(self._map, layers)
        else:
            found = self._shared_out({name: layers[name] for name in candidates})
        chosen = {name: found[name] for name in candidates if found.get(name)}
        require(bool(chosen), "targets.budget", "enough for one rank of a module with a signal", self.budget)
        return chosen

    def check(self, measured_elsewhere: str) -> None:
        if measured_elsewhere and not self.force:
            raise Refused(
                f"targets.report: {self.report} was measured on {measured_elsewhere}\n"
                "measure again with acetrain sensitivity, or take it all the same with targets.force=true"
            )

    def differs(self, data: str, weights: str, variant: str) -> str:
        """What the report was measured on that is not this data set or this model; empty where all is the same."""
        if self._map is not None:
            theirs = self._map.get("model_variant")
            return "" if theirs == variant else f"another model ({theirs})"
        pairs = (("model", self._measured.model, weights), ("data set", self._measured.data, data))
        differing = [f"another {what}" for what, theirs, ours in pairs if theirs != ours]
        return " and ".join(differing)

    def _shared_out(self, shapes: Shapes) -> dict[str, int]:
        if self.budget is None:
            raise Refused(
                "targets.budget: must be given for a report: LoRA parameters, or their share of the candidates' weights"
            )
        measured = {diffusers(module.name): module for module in self._measured.modules}
        for name, shape in shapes.items():
            if name in measured and measured[name].shape != tuple(shape):
                ours, theirs = list(shape), list(measured[name].shape)
                raise Refused(f"targets.report: {official(name)} is {theirs} in {self.report} and {ours} in this model")
        known = [name for name in shapes if name in measured]
        whole = sum(rows * columns for rows, columns in (shapes[name] for name in known))
        candidates = {
            name: Candidate(falling([max(value, 0.0) ** 2 for value in measured[name].spectrum]), sum(shapes[name]))
            for name in known
        }
        return allocate(candidates, self.budget * whole if self.budget <= 1 else self.budget)

    def _mapped(self, content: Mapping[str, Any], layers: Shapes) -> dict[str, int]:
        found = {diffusers(name): rank for name, rank in content[RANKS].items()}
        for name, rank in found.items():
            if name not in layers or not isinstance(rank, int) or rank < 0:
                raise Refused(f"targets.report: {self.report} gives {official(name)} rank {rank!r}; there is no such")
        return found

    @cached_property
    def _map(self) -> dict[str, Any] | None:
        """Side-Step's map, where the report is one."""
        return self._content if isinstance(self._content.get(RANKS), dict) else None

    @cached_property
    def _measured(self) -> Report:
        return Report.of(self._content, self.report, "targets.report")

    @cached_property
    def _content(self) -> dict[str, Any]:
        return _json(self.report)


def _json(path: str) -> dict[str, Any]:
    require(bool(path), "targets.report", "the sensitivity.json of acetrain sensitivity", path)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"targets.report: {path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise Refused(f"targets.report: {path} must hold a JSON object")
    return content
