"""Adapters that must be refused: each request with its message, and nothing changed on disk."""

import re
from pathlib import Path

import pytest
from fabricate import files

from acetrain.cli import main
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import Sources
from acetrain.errors import Refused

FILES = {
    "conf/adapter/typo.yaml": "defaults:\n  - adalora\n  - _self_\nfinal_rank: 2\n",
    "conf/adapter/large.yaml": "defaults:\n  - adalora\n  - _self_\ntarget_rank: 200\n",
}

TABLE: list[tuple[str, str]] = [
    ("adapter=adalor", r"adapter: there is no option 'adalor'; nearest: adalora"),
    ("adapter=adalora adapter.target_rnk=4", r"adapter.target_rnk: there is no such key in adapter \(AdaLoRA\)"),
    (
        "adapter=adalora adapter.target_rank=96",
        r"adapter.target_rank: must be at least 1 and below adapter.rank \(96\), got 96",
    ),
    (
        "adapter=adalora adapter.final_share=0.95",
        r"adapter.final_share: must be below 1 with adapter.warmup_share \(0.1\), got 0.95",
    ),
    ("adapter=adalora adapter.interval=often", r"adapter.interval: must be a whole number, got 'often'"),
    ("adapter=typo", r"conf/adapter/typo.yaml: adapter.final_rank: there is no such key in adapter"),
    ("adapter=large", r"conf/adapter/large.yaml: adapter.target_rank: must be at least 1 and below"),
    ("adapter=lokr_licoris", r"adapter: there is no option 'lokr_licoris'; nearest: lokr_lycoris"),
    ("adapter=lokr_lycoris adapter.factor=0", r"adapter.factor: must be at least 2, or -1, got 0"),
    ("adapter=loha_lycoris adapter.factor=4", r"adapter.factor: there is no such key in adapter \(LoHaLycoris\)"),
    (
        "adapter=locon_dora adapter.module_dropout=1",
        r"adapter.module_dropout: must be in \[0, 1\), got 1.0",
    ),
    ("adapter=locon_dora adapter.dora=true", r"adapter.dora: there is no such key in adapter \(LoConDora\)"),
    ("adapter=locon_dora adapter.alpha=0", r"adapter.alpha: must be above 0 and finite, got 0.0"),
    ("adapter.init=evaa", r"adapter.init: must be one of .*, got 'evaa'"),
    ("adapter.init=eva adapter.init_songs=0", r"adapter.init_songs: must be at least 1, got 0"),
    (
        "adapter.init=corda targets=all_linear",
        r"adapter.init: corda must have modules that see many rows of a song, time_embed.linear_1 sees one",
    ),
    (
        "model=tiny adapter.init=lora_ga adapter.rank=65",
        r"adapter.init: lora_ga must have a rank of at most half the module's smaller side",
    ),
    (
        "adapter=dora adapter.init=lora_ga",
        r"adapter.init: must be default, gaussian, orthogonal or eva for DoRA, got 'lora_ga'",
    ),
    ("adapter=full adapter.rank=8", r"adapter.rank: there is no such key in adapter \(Full\); valid: everything"),
    ("adapter=full adapter.everything=maybe", r"adapter.everything: must be true or false, got 'maybe'"),
]
"""Arguments of a training, split at blanks, and what it is told."""


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with files of its own."""
    return files(tmp_path_factory.mktemp("working"), FILES)


@pytest.fixture(scope="module")
def composer(working: Path) -> Composer:
    return Composer("train", Sources.of(working))


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_it_is_refused_with_its_message_and_nothing_changes(
    working: Path, composer: Composer, arguments: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in working.rglob("*")}
    monkeypatch.chdir(working)
    with pytest.raises(Refused) as refusal:
        composer.compose([read(argument) for argument in ("cache=x", *arguments.split(" "))]).build().check()
    assert re.match(message, str(refusal.value)) and len(str(refusal.value).splitlines()) <= 4
    assert {path: path.stat().st_mtime_ns for path in working.rglob("*")} == before


def test_a_command_line_is_told_so(
    working: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(working)
    assert main(["train", "cache=x", "adapter=lokr_lycoris", "adapter.factor=0"]) == 2
    assert capsys.readouterr().err == "adapter.factor: must be at least 2, or -1, got 0\n"
