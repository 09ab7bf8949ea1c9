"""The results of a sweep as one page that needs nothing else: no network, no other file."""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import yaml

from acetrain import __version__
from acetrain.atomic import write_text
from acetrain.sweeps import drawing, listing
from acetrain.sweeps.cost import duration
from acetrain.sweeps.importance import importance
from acetrain.sweeps.listing import loss, number
from acetrain.sweeps.record import Record, typed
from acetrain.sweeps.results import Result, Results, Setting, collect
from acetrain.sweeps.state import State
from acetrain.sweeps.table import shown

FILE = "report.html"


def tell(record: Record) -> None:
    """Print the results of a sweep and write them to its `results.csv` and `report.html`.

    Raises Refused where there is no such sweep.
    """
    results = collect(record)
    print("\n".join(listing.lines(results)))
    print(f"table: {listing.write_csv(results)}")
    print(f"report: {write(results)}")


def write(results: Results) -> Path:
    """Write the report into the sweep's folder."""
    path = results.record.path / FILE
    write_text(path, page(results))
    return path


def page(results: Results) -> str:
    """The report as HTML."""
    parts: Sequence[Callable[[Results], str]] = (
        _head,
        _best,
        _settings,
        _curves,
        _coordinates,
        _importance,
        _left,
        _runs,
    )
    body = "\n".join(part(results) for part in parts)
    here = files(__package__ or "")
    style, script = ((here / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(results.record.name)}: results</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _head(results: Results) -> str:
    runs, finished = results.runs, sum(run.state is State.finished for run in results.runs)
    hours = math.fsum(run.figures.get("device_hours", 0.0) for run in runs)
    best = results.settings[0].mean if results.settings else math.nan
    pruned = sum(run.state is State.pruned for run in runs)
    facts = [
        (f"{finished} of {len(runs)}", "runs finished" + (f", {pruned} pruned" if pruned else "")),
        (str(len(results.settings)), "settings"),
        (loss(best), f"lowest {results.objective}"),
        (duration(3600 * hours), "of a device's time"),
    ]
    cells = "".join(f"<li><b>{escape(value)}</b><span>{escape(what)}</span></li>" for value, what in facts)
    return f"<h1>{escape(results.record.name)}</h1>{_question(results.content.question)}<ul class=facts>{cells}</ul>"


def _question(text: str) -> str:
    """What the sweep's file says at its beginning: commands stand by themselves, other lines run on."""
    parts = []
    for are_commands, lines in itertools.groupby(text.splitlines(), lambda line: line.strip().startswith("acetrain ")):
        body = escape("\n".join(line.strip() for line in lines))
        said = re.sub(r"`([^`]+)`", r"<code>\1</code>", body.replace("\n", " "))
        parts.append(f"<pre>{body}</pre>" if are_commands else f'<p class="question">{said}</p>')
    return "".join(parts)


def _best(results: Results) -> str:
    best = results.best
    if best is None:
        finished = any(run.state is State.finished for run in results.runs)
        said = "No finished run has a loss." if finished else "No run is finished."
        return _section("best", "Best setting", f'<p class="soft">{said}</p>')
    setting = results.settings[0]
    rows = "".join(f"<tr><th>{escape(key)}<td>{escape(shown(value))}</tr>" for key, value in setting.values.items())
    sure = f" ± {loss(setting.interval, 2)}" if math.isfinite(setting.interval) else ""
    said = f"{results.objective} {loss(setting.mean)}{sure}, finished runs: {len(setting.losses)}"
    commands = [
        "# its best run again, in a folder of its own",
        results.record.repeating(best.run, "out_dir=repeated"),
        "# the whole sweep: only what is missing is run",
        typed(*results.content.command) if results.content.command else "",
        "# music with its adapter",
        typed("generate", *_model(best), f"adapter_path={best.folder / _kept(best)}", "prompt=...", "output=music.wav"),
    ]
    text = escape("\n".join(line for line in commands if line))
    return _section("best", "Best setting", f"<p>{escape(said)}.</p><table class=plain>{rows}</table><pre>{text}</pre>")


def _kept(run: Result) -> str:
    return "best" if (run.folder / "best").is_dir() else "adapter"


def _model(run: Result) -> list[str]:
    """The choice of the model that a run was trained on."""
    file = run.folder / "config.yaml"
    chosen = yaml.safe_load(file.read_text(encoding="utf-8")).get("defaults", []) if file.is_file() else []
    return [f"model={option}" for choice in chosen for group, option in choice.items() if group == "override /model"]


def _settings(results: Results) -> str:
    keys, pictures = results.compared, drawing.losses(results)
    head = ["", *keys, "losses", results.objective, "±", "runs", "parameters", "seconds", "MiB"]
    rows = [
        _row(place, setting, keys, picture)
        for place, (setting, picture) in enumerate(zip(results.settings, pictures, strict=True))
    ]
    note = "Ring: a run. Dot and line: the mean over seeds and its 95 % interval by Student's t."
    return _section("settings", "Settings", f'<p class="note">{note}</p>{_table(head, rows)}')


def _row(place: int, setting: Setting, keys: Sequence[str], picture: str) -> str:
    texts = listing.cells(place + 1, setting, keys)
    values, figures = texts[1 : 1 + len(keys)], texts[1 + len(keys) :]
    cells = "".join(f"<td>{escape(text)}" for text in values)
    numbers = "".join(f'<td class="n">{escape(text)}' for text in figures)
    key = f'<td><span class="key {drawing.style(place, setting)}"></span>{place + 1}'
    return f'<tr data-s="{place}" tabindex="0">{key}{cells}<td>{picture}{numbers}</tr>'


def _curves(results: Results) -> str:
    charts = [("Held-out loss", drawing.held_out(results)), ("Training loss", drawing.training(results))]
    drawn = "".join(f"<figure><figcaption>{name}</figcaption>{svg}</figure>" for name, svg in charts if svg)
    note = (
        "Line: the mean over seeds. Band: from the lowest to the highest of them. Colours are those of the table above."
    )
    return _section("curves", "Curves", f'<p class="note">{note}</p><div class="pair">{drawn}</div>')


def _coordinates(results: Results) -> str:
    chart = drawing.coordinates(results)
    if not chart:
        return _section(
            "coordinates", "Parallel coordinates", '<p class="soft">Fewer than two settings have a loss.</p>'
        )
    note = (
        "A line is a setting, the strongest the best one. Dashed: not finished, or pruned, at the lowest loss so far. "
    )
    note += "Point at a line, or at a row above, to see it alone."
    return _section(
        "coordinates", "Parallel coordinates", f'<p class="note">{note}</p><figure class="scroll">{chart}</figure>'
    )


def _importance(results: Results) -> str:
    found = importance(results.settings, results.compared)
    if found is None:
        text = "Too few settings are finished, or they differ too little, to tell the keys apart."
        return _section("importance", "Importance of each key", f'<p class="soft">{text}</p>')
    share = "Share of the variance between settings that a key explains by itself"
    full = f"{share}: main effects of a functional ANOVA, exact on this full grid."
    rest = "an additive model is fitted, and what it explains is shared out among the keys; an estimate."
    how = full if found.exact else f"{share}. The settings are no full grid: {rest}"
    noise = f" The seeds alone would give the means {found.noise:.0%} of it." if math.isfinite(found.noise) else ""
    bars = [_bar(f"<code>{escape(key)}</code>", share, "fill") for key, share in found.shares.items()]
    bars.append(_bar("in combination, or noise", found.together, "fill other"))
    figure = f'<figure><div class="bars">{"".join(bars)}</div></figure>'
    return _section(
        "importance", "Importance of each key", f'<p class="note">{how}{noise}</p>{figure}{_effects(results)}'
    )


def _bar(name: str, share: float, style: str) -> str:
    track = f'<div class="track"><div class="{style}" style="width:{share:.1%}"></div></div>'
    return f'<div>{name}</div>{track}<div class="n">{share:.0%}</div>'


def _effects(results: Results) -> str:
    tables = [
        _table([key, f"mean {results.objective}", "settings"], [_effect(*row) for row in rows])
        for key, rows in drawing.effects(results)
    ]
    return f'<div class="pair">{"".join(f"<figure>{table}</figure>" for table in tables)}</div>' if tables else ""


def _effect(value: str, mean: float, count: int) -> str:
    return f'<tr><td>{escape(value)}<td class="n">{loss(mean)}<td class="n">{count}</tr>'


def _left(results: Results) -> str:
    left = drawing.failures(results)
    if not left:
        return _section("failures", "Failures", '<p class="soft">None: every run is finished, or was pruned.</p>')
    rows = [
        f"<tr><td>{escape(run.run)}<td>{_state(run)}"
        f'<td class="wrap">{escape(run.standing.message)}'
        f'<td class="wrap"><code>'
        f"{escape(results.record.repeating(run.run))}</code></tr>"
        for run in left
    ]
    note = "The sweep's own command, above, runs all of these again; the command of a row goes on with that run alone."
    head = ["run", "state", "what it said", "again"]
    return _section("failures", "Failures and what is left", f'<p class="note">{note}</p>{_table(head, rows)}')


def _runs(results: Results) -> str:
    figures = ("best_val_loss", "last_val_loss", "final_train_loss", "train_seconds", "most_memory_mb")
    head = ["run", *results.keys, "state", *figures, "W&B"]
    rows = []
    for run in results.runs:
        values = "".join(f"<td>{escape(shown(run.values.get(key, '')))}" for key in results.keys)
        told = "".join(f'<td class="n">{number(run.figures.get(name))}' for name in figures)
        rows.append(f"<tr><td>{escape(run.run)}{values}<td>{_state(run)}{told}<td>{escape(run.wandb)}</tr>")
    where = f"In <code>{escape(str(results.record.parent))}</code>; written by acetrain {__version__}."
    return _section("runs", "Runs", f'<p class="note">{where}</p>{_table(head, rows)}')


def _state(run: Result) -> str:
    step = "" if run.state in (State.finished, State.missing) else f" at step {run.standing.step}"
    return f'<span class="state {run.state.value}">{run.state.value}{step}</span>'


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th{' class=n' if _is_figure(name) else ''}>{escape(name)}" for name in head)
    return f'<div class="scroll"><table><thead><tr>{cells}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _is_figure(name: str) -> bool:
    return name in ("±", "runs", "parameters", "seconds", "MiB", "settings") or name.endswith(
        ("_loss", "_seconds", "_mb")
    )


def _section(name: str, title: str, content: str) -> str:
    return f'<section id="{name}"><h2>{title}</h2>{content}</section>'
