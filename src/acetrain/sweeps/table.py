"""The jobs of a sweep as a table in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from acetrain.sweeps.record import varied
from acetrain.sweeps.state import Standing, State

CELL = 44
"""Characters of a value that are shown."""


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table under its head; a column of numbers stands to the right."""
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_is_number(cell) for cell in column[1:]) for column in columns]
    return ["  ".join(map(_placed, row, widths, right)).rstrip() for row in (head, *rows)]


def jobs(standings: Sequence[Standing]) -> list[str]:
    """A line a job: its number, what tells it from the others, how far it is, and its folder."""
    keys = varied([one.entry for one in standings])
    head = ["job", *keys, "steps", "state", "run"]
    rows = [
        [
            str(number),
            *(shown(one.entry.given.get(key, "")) for key in keys),
            str(one.entry.steps),
            _state(one),
            one.entry.run,
        ]
        for number, one in enumerate(standings, 1)
    ]
    return aligned(head, rows)


def shown(value: Any) -> str:
    """A value as one types it, on one line and cut to a cell's width."""
    text = written(value).replace("\n", "\\n")
    return text if len(text) <= CELL else f"{text[: CELL - 3]}..."


def written(value: Any) -> str:
    """A value as one types it, whole."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{written(one)}' for key, one in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _state(one: Standing) -> str:
    if one.state is State.queued and one.slurm is not None:
        why = f" ({one.slurm.place.reason})" if one.slurm.place.reason not in ("", "None") else ""
        return f"queued as {one.slurm.job}{why}" + (f" at step {one.step}" if one.step else "")
    if one.state in (State.interrupted, State.pruned, State.running):
        return f"{one.state.value} at step {one.step}"
    return one.state.value


def _is_number(cell: str) -> bool:
    try:
        float(cell or "0")
    except ValueError:
        return False
    return True


def _placed(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)
