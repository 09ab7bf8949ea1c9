"""Averages and samples of a run that must be refused: each request with its message, and nothing changed on disk."""

import re
from pathlib import Path

import pytest
from fabricate import cache, files

from acetrain.cli import main
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import Sources
from acetrain.errors import Refused

FILES = {
    "conf/ema/typo.yaml": "defaults:\n  - ema\n  - _self_\ndecey: 0.9\n",
    "conf/ema/unfinished.yaml": "defaults:\n  - /schema/ema@_here_: ema\n  - _self_\ndecay: 0.9\n",
    "conf/samples/loud.yaml": "defaults:\n  - prompts\n  - _self_\nprompts:\n  - {caption: a, loudness: 3}\n",
    "experiments/long.yaml": (
        "defaults:\n  - override /samples: prompts\nsamples:\n  prompts:\n    - {caption: a, duration: 900}\n"
    ),
}
MAPPINGS = r"samples.prompts: must be a list of mappings like \[\{a: 1\}\], got "
TABLE: list[tuple[list[str], str]] = [
    (["ema=eme"], r"ema: there is no option 'eme'; nearest: ema"),
    (["ema=null"], r"ema: there is no option None"),
    (["ema=ema", "ema.decya=0.9"], r"ema.decya: there is no such key in ema \(Ema\); nearest: decay"),
    (["ema.decay=0.9"], r"ema.decay: there is no such key in ema \(NoEma\)"),
    (["ema=ema", "ema.decay=slow"], r"ema.decay: must be a number, got 'slow'"),
    (["ema=ema", "ema.decay=1"], r"ema.decay: must be in \(0, 1\), got 1.0"),
    (["ema=ema", "ema.decay=0"], r"ema.decay: must be in \(0, 1\), got 0.0"),
    (["ema=ema", "ema.warmup=0.5"], r"ema.warmup: must be at least 1 and finite, got 0.5"),
    (["ema=ema", "ema.warmup=inf"], r"ema.warmup: must be at least 1 and finite, got inf"),
    (["ema=ema", "ema.start=-1"], r"ema.start: must be at least 0 steps, got -1"),
    (["ema=ema", "ema.start=1.5"], r"ema.start: must be a whole number, got 1.5"),
    (["ema=ema", "max_steps=5", "ema.start=5"], r"ema.start: must be below the 5 steps of the run, got 5"),
    (
        ["ema=ema", "optimizer=adamw_schedulefree"],
        r"ema: must be none with AdamWScheduleFree, which averages its weights itself",
    ),
    (["ema=typo"], r"conf/ema/typo.yaml: ema.decey: there is no such key in ema \(Ema\); nearest: decay"),
    (["ema=unfinished"], r"ema.start: must be given, a whole number"),
    (["samples=prompt"], r"samples: there is no option 'prompt'; nearest: prompts"),
    (["samples.every=3"], r"samples.every: there is no such key in samples \(NoSamples\)"),
    (
        ["samples=prompts"],
        r".*samples.prompts: must be at least one prompt, such as \[\{caption: a slow waltz\}\], got \[\]",
    ),
    (
        ["samples=prompts", "samples.evry=3"],
        r"samples.evry: there is no such key in samples \(Samples\); nearest: every",
    ),
    (
        ["samples=prompts", "samples.prompts=[{caption: a}]", "samples.every=0"],
        r"samples.every: must be at least 1 step",
    ),
    (["samples=prompts", "samples.prompts=waltz"], MAPPINGS + "'waltz'"),
    (["samples=prompts", "samples.prompts=[waltz]"], MAPPINGS + r"\['waltz'\]"),
    (["samples=prompts", "samples.prompts=[{lyrics: la}]"], r"samples.prompts\[0\].caption: must be given"),
    (
        ["samples=prompts", "samples.prompts=[{caption: a},{captoin: b}]"],
        r"samples.prompts\[1\].captoin: there is no such field of a prompt; nearest: caption",
    ),
    (
        ["samples=prompts", "samples.prompts=[{caption: a, bpm: 1000}]"],
        r"samples.prompts\[0\].bpm: must be a number from 30 to 300, got 1000",
    ),
    (
        ["samples=prompts", "samples.prompts=[{caption: a, duration: 0}]"],
        r"samples.prompts\[0\].duration: must be above 0 and at most 600 s, got 0",
    ),
    (
        ["samples=prompts", "samples.prompts=[{caption: a, seed: x}]"],
        r"samples.prompts\[0\].seed: must be a whole number from 0 to 2\^63 - 1, got 'x'",
    ),
    (
        ["samples=prompts", "samples.prompts=[{caption: a}]", "samples.duration=601"],
        r"samples.duration: must be above 0 and at most 600 s, got 601.0",
    ),
    (
        ["samples=prompts", "samples.prompts=[{caption: a}]", "samples.seed=-1"],
        r"samples.seed: must be a whole number from 0 to 2\^63 - 1, got -1",
    ),
    (["samples=loud"], r".*samples.prompts\[0\].loudness: there is no such field of a prompt"),
    (["experiment=long"], r".*samples.prompts\[0\].duration: must be above 0 and at most 600 s, got 900"),
]


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with files of its own and a cache."""
    folder = files(tmp_path_factory.mktemp("working"), FILES)
    cache(folder / "cache", songs=2)
    return folder


@pytest.fixture(scope="module")
def composer(working: Path) -> Composer:
    return Composer("train", Sources.of(working))


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[" ".join(arguments) for arguments, _ in TABLE])
def test_it_is_refused_with_its_message_and_nothing_changes(
    working: Path, composer: Composer, arguments: list[str], message: str, monkeypatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in working.rglob("*")}
    monkeypatch.chdir(working)
    with pytest.raises(Refused) as refusal:
        composer.compose([read(argument) for argument in ("cache=cache", "logger=csv", *arguments)]).build().check()
    assert re.match(message, str(refusal.value)) and len(str(refusal.value).splitlines()) <= 4
    assert {path: path.stat().st_mtime_ns for path in working.rglob("*")} == before


def test_a_command_line_is_told_so(working: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(working)
    assert main(["train", "cache=cache", "ema=ema", "ema.decay=1"]) == 2
    assert capsys.readouterr().err == "ema.decay: must be in (0, 1), got 1.0\n"
