"""A CSV file that grows row by row and holds each step once, after any number of kills."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from acetrain.atomic import stored, write_text


class Table:
    """Rows under fixed columns, the first of which is `step`."""

    def __init__(self, path: Path, columns: Sequence[str], last_step: int | None) -> None:
        """Keep the rows of `path` up to `last_step` (none for None) and append after them."""
        self.path, self.columns = path, ["step", *columns]
        kept = [] if last_step is None else [row for row in read(path) if int(row["step"]) <= last_step]
        lines = [",".join(self.columns), *(_line(row, self.columns) for row in kept)]
        write_text(path, "\n".join(lines) + "\n")

    def append(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add whole rows; columns a row lacks stay empty."""
        with stored(self.path), self.path.open("a") as file:
            file.write("".join(_line(row, self.columns) + "\n" for row in rows))


def read(path: Path) -> list[dict[str, str]]:
    """The whole rows of a table; one torn by a kill is left out. No file, no rows."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(whole.splitlines()))


def as_written(value: float) -> float:
    """A number with the digits that a table keeps."""
    return float(_cell(value))


def _line(row: Mapping[str, object], columns: Sequence[str]) -> str:
    cells = ["" if (value := row.get(column)) is None else _cell(value) for column in columns]
    return ",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' if set(cell) & set(',"\n\r') else cell for cell in cells)


def _cell(value: object) -> str:
    return f"{value:.8g}" if isinstance(value, float) else str(value)
