"""CSV tables of a folder of songs, as Key-BPM-Finder writes them: `File,Artist,Title,BPM,Key,Camelot`, and more."""

import csv
import io
import os
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from acetrain.data import prompt
from acetrain.data.folder import Listing
from acetrain.data.sample import FIELDS, OTHER_NAMES, renamed
from acetrain.data.sidecars.text import read_text, why

FILE = "file"
"""Header of the column that names the song's file."""
_NAMES = OTHER_NAMES | {"key": "keyscale", "signature": "timesignature"}


@dataclass(frozen=True)
class Row:
    """What a table says of one file."""

    table: str
    line: int
    """Counted from 1."""
    given: dict[str, Any]


@dataclass
class Tables:
    """The rows of all tables of one folder."""

    names: list[str] = field(default_factory=list)
    """The tables that name files."""
    rows: dict[str, list[Row]] = field(default_factory=dict)
    """By name of the file, in Unicode's composed form."""
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Table and why it cannot be read."""
    warnings: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, listing: Listing) -> "Tables":
        """Read every CSV of a folder."""
        tables = cls()
        for name in sorted(name for name in listing.files if name.lower().endswith(".csv")):
            try:
                header, found = _read(name, read_text(os.path.join(listing.path, name)))
            except (OSError, ValueError, csv.Error) as error:
                tables.faults.append((name, why(error)))
                continue
            if FILE in header:
                tables._add(name, found, {unicodedata.normalize("NFC", file) for file in listing.files})
            else:
                tables.warnings.append((name, "has no column File, so it is not read"))
        return tables

    def _add(self, name: str, found: list[Row], files: set[str]) -> None:
        self.names.append(name)
        named = [(_file_of(row), row) for row in found]
        for file, row in named:
            self.rows.setdefault(file, []).append(row)
        absent = sorted({file for file, _ in named if file and file not in files})
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            self.warnings.append((name, f"names {absent[0]!r}{more}, not in this folder"))

    def row_of(self, file: str) -> tuple[Row | None, list[str]]:
        """The row of a file, and what is to be said: of several rows that differ none is taken."""
        rows = self.rows.get(unicodedata.normalize("NFC", file), [])
        if not rows:
            return None, [f"{' and '.join(self.names)}: no row for it"] if self.names else []
        if any(prompt.read(row.given, FIELDS) != prompt.read(rows[0].given, FIELDS) for row in rows):
            places = ", ".join(f"{row.table} line {row.line}" for row in rows)
            return None, [f"{len(rows)} rows for it that differ ({places}): none is taken"]
        return rows[0], []


def _read(table: str, text: str) -> tuple[list[str], list[Row]]:
    """The header in lower case, and every row that is not blank. Raises csv.Error where the text is no table."""
    first = text.lstrip("\n").partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count), strict=True)
    header: list[str] = []
    rows = []
    for cells in reader:
        stripped = [cell.strip() for cell in cells]
        if header and any(stripped):
            rows.append(Row(table, reader.line_num, renamed(dict(zip(header, stripped, strict=False)), _NAMES)))
        elif any(stripped):
            header = [name.lower() for name in stripped]
    return header, rows


def _file_of(row: Row) -> str:
    """The file a row names, without folders, in Unicode's composed form."""
    return unicodedata.normalize("NFC", row.given.get(FILE, "").replace("\\", "/").rpartition("/")[2])
