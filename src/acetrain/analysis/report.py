"""What a sensitivity run found: written as JSON in full precision and as CSV, and read back by whoever builds on it."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from acetrain.atomic import write_text
from acetrain.errors import Refused

SCHEMA = 1
JSON, CSV = "sensitivity.json", "sensitivity.csv"


@dataclass(frozen=True)
class Measured:
    """What is known about a module in one bin of timesteps, or in all."""

    score: float
    """Squared norm of the mean gradient, by the two halves' inner product; noise may make it negative."""
    standard_error: float | None
    interval: tuple[float, float] | None
    spectrum: tuple[float, ...]
    """Cross-validated singular values of the mean gradient, as many as `rank_max` or the module's own rank."""
    baselines: dict[str, float]


@dataclass(frozen=True)
class Bin(Measured):
    """A module in one bin."""


@dataclass(frozen=True)
class Module(Measured):
    """A module in all bins together, and in each."""

    name: str
    """Official spelling."""
    shape: tuple[int, int]
    """Outputs, inputs."""
    method: str
    """exact or sketch: how gradients were added up."""
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Report:
    """All modules, and what the figures follow from."""

    acetrain: str
    """Version that wrote it."""
    data: str
    """Digest of the cached data set."""
    model: str
    """Digest of the DiT's weights."""
    settings: dict[str, Any]
    songs: int
    interval_over: str
    """songs or draws: what the halves, and the groups that the jackknife leaves out, are made of."""
    groups: tuple[int, int]
    """Groups of either half."""
    draws: int
    """Visits of a song in a bin."""
    edges: tuple[float, ...]
    """Timesteps at which bins begin and end."""
    modules: tuple[Module, ...]

    def write(self, folder: Path) -> None:
        """Write `sensitivity.csv`, then `sensitivity.json`."""
        write_text(folder / CSV, self._table())
        write_text(folder / JSON, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path, key: str = "report") -> "Report":
        """Read a report. Raises `Refused`, naming `key`, where it is missing, broken, or of another schema version."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise _none(path, key, error) from error
        return cls.of(content, path, key)

    @classmethod
    def of(cls, content: Any, path: str | Path, key: str = "report") -> "Report":
        """The report that the JSON in `path` holds; otherwise as `read`."""
        try:
            content = dict(content)
            found = content.pop("schema")
            if found != SCHEMA:
                raise Refused(f"{key}: {path} has schema version {found!r}, this version reads {SCHEMA}; measure again")
            modules = [_module(row) for row in content.pop("modules")]
            content |= {"modules": tuple(modules), **{name: tuple(content[name]) for name in ("groups", "edges")}}
            if set(content) != {field.name for field in fields(cls)}:
                raise ValueError("its fields do not match")
            return cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _none(path, key, error) from error

    def ranked(self) -> list[Module]:
        """The modules, the highest score first."""
        return sorted(self.modules, key=lambda module: -module.score)

    def _table(self) -> str:
        text = io.StringIO()
        bins, ranks = range(len(self.edges) - 1), max((len(module.spectrum) for module in self.modules), default=0)
        names = list(self.modules[0].baselines) if self.modules else []
        scores = [f"score_bin{bin}" for bin in bins]
        values = [f"sigma_{place + 1}" for place in range(ranks)]
        head = ["name", "outputs", "inputs", "method", "score", "standard_error", "low", "high"]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*head, *names, *scores, *values])
        for module in self.modules:
            interval = module.interval or ("", "")
            known = [module.name, *module.shape, module.method, module.score, module.standard_error, *interval]
            binned = [bin.score for bin in module.bins]
            writer.writerow([*known, *(module.baselines[name] for name in names), *binned, *module.spectrum])
        return text.getvalue()


def _none(path: str | Path, key: str, error: Exception) -> Refused:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return Refused(f"{key}: {path} is not a report of acetrain sensitivity ({reason})")


def significant(module: Measured) -> bool:
    """Whether the interval of a score lies above 0."""
    return module.interval is not None and module.interval[0] > 0


def _module(row: Mapping[str, Any]) -> Module:
    bins = tuple(Bin(**_measured(one)) for one in row["bins"])
    outputs, inputs = row["shape"]
    return Module(**_measured(row), name=row["name"], shape=(outputs, inputs), method=row["method"], bins=bins)


def _measured(row: Mapping[str, Any]) -> dict[str, Any]:
    error, interval = row["standard_error"], row["interval"]
    low, high = interval or (0.0, 0.0)
    return {
        "score": float(row["score"]),
        "standard_error": None if error is None else float(error),
        "interval": None if interval is None else (float(low), float(high)),
        "spectrum": tuple(map(float, row["spectrum"])),
        "baselines": {name: float(value) for name, value in row["baselines"].items()},
    }
