"""A survey as people read it: the songs, their sum, what is wrong, what the tutorials advise."""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from acetrain.data.survey.collect import Row, Survey, Usable
from acetrain.data.survey.document import totals
from acetrain.data.survey.rules import Advice, flags

PLAIN_WIDTH = 120
"""Columns where there is no terminal."""
NAMED = 3
"""Songs that an advice names before it counts the rest."""

COLUMNS = ("song", "length", "caption", "lyrics", "bpm", "key", "problems")
NAME, CAPTION, PROBLEMS = (COLUMNS.index(title) for title in ("song", "caption", "problems"))
_SHARING = (NAME, CAPTION, PROBLEMS)
_NUMBERS = ("length", "bpm")
_GAP = 2
_UNKNOWN = "–"


def page(found: Survey, advice: Sequence[Advice], out: Console) -> str:
    """A survey and what is advised, laid out for a console."""
    with out.capture() as captured:
        out.print(_songs(found, out.width))
        out.print()
        out.print(_sum(found))
        faults = [(row.name, what) for row in found.faulty for what in row.faults]
        _list(out, f"problems ({len(faults)} in {len(found.faulty)} of {len(found.rows)})", faults, "red")
        warnings = [(warning.file, warning.what) for warning in found.warnings]
        _list(out, f"warnings ({len(warnings)})", warnings, "yellow")
        _list(out, f"advice ({len(advice)})", [(one.rule, _with_names(one, found)) for one in advice], "cyan")
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def console() -> Console:
    """Standard output: as wide as the terminal, or plain text of `PLAIN_WIDTH` columns."""
    terminal = Console(highlight=False, markup=False)
    return terminal if terminal.is_terminal else Console(highlight=False, markup=False, width=PLAIN_WIDTH)


def _songs(found: Survey, width: int) -> Table:
    """One line a song: names, captions and problems share what width the numbers leave."""
    usable = {song.name: song for song in found.songs}
    rows = [list(_cells(row, usable.get(row.name))) for row in found.rows]
    widest = [max([cell_len(title), *(row[at].cell_len for row in rows)]) for at, title in enumerate(COLUMNS)]
    left = width - _GAP * (len(COLUMNS) - 1) - sum(widest[at] for at in range(len(COLUMNS)) if at not in _SHARING)
    widest[NAME] = min(widest[NAME], left * 2 // 5)
    widest[PROBLEMS] = min(widest[PROBLEMS], left * 3 // 10)
    widest[CAPTION] = min(widest[CAPTION], left - widest[NAME] - widest[PROBLEMS])
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for at, title in enumerate(COLUMNS):
        table.add_column(
            title, justify="right" if title in _NUMBERS else "left", width=max(1, widest[at]), no_wrap=True
        )
    for row in rows:
        table.add_row(_tail(row[NAME], widest[NAME]), *row[NAME + 1 :])
    return table


def _tail(name: Text, width: int) -> Text:
    """The end of a name, which tells more than its start."""
    if name.cell_len <= width:
        return name
    shown = name.plain
    while cell_len(shown) > max(0, width - 1):
        shown = shown[1:]
    return Text(f"…{shown}")


def _cells(row: Row, song: Usable | None) -> Iterable[Text]:
    prompt, audio = row.song and row.song.prompt, row.audio
    yield _text(row.name)
    yield _text(length(audio.seconds) if audio else _UNKNOWN)
    yield _text(prompt.caption if prompt else _UNKNOWN)
    yield _text(lyrics(prompt.lyrics) if prompt else _UNKNOWN)
    yield _text(str(prompt.bpm or _UNKNOWN) if prompt else _UNKNOWN)
    yield _text(prompt.keyscale or _UNKNOWN if prompt else _UNKNOWN)
    yield _text(", ".join(flags(song)), "yellow") if song else _text("; ".join(row.faults), "red")


def _sum(found: Survey) -> Text:
    sums = totals(found)
    count = f"{sums['usable']} of {sums['files']} usable" if sums["faulty"] else f"{sums['usable']} songs"
    known = ", ".join(f"{what} {sums[f'with_{what}']}" for what in ("caption", "lyrics", "bpm", "key"))
    return Text(f"{count} · {sums['seconds'] / 60:.1f} min · with {known}", style="bold")


def _list(out: Console, title: str, items: Sequence[tuple[str, str]], style: str) -> None:
    """Print items under a title; a label that stays the same is printed once."""
    if not items:
        return
    table = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column(overflow="fold", max_width=out.width // 3)
    table.add_column(overflow="fold")
    last = ""
    for label, what in items:
        table.add_row(_text("" if label == last else label, style), _text(what))
        last = label
    out.print()
    out.print(Text(title, style="bold"))
    out.print(table)


def _with_names(advice: Advice, found: Survey) -> str:
    if len(advice.songs) in (0, len(found.songs)):
        return advice.what
    more = len(advice.songs) - NAMED
    shown = ", ".join(advice.songs[:NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{advice.what} ({shown})"


def length(seconds: float) -> str:
    """`m:ss`."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"


def lyrics(text: str) -> str:
    """How many lines are sung."""
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("[")]
    return f"{len(lines)} line{'s' * (len(lines) > 1)}" if lines else "none"


def _text(shown: str, style: str = "") -> Text:
    """One line of what can be printed."""
    return Text("".join(letter if letter.isprintable() else " " for letter in " ".join(shown.split())), style=style)
