"""Formats, trainers and presets that must be refused: each request with its message, and nothing changed on disk."""

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
    "conf/precision/typo.yaml": "defaults:\n  - bf16\n  - _self_\nstored: fp32\n",
    "conf/precision/half.yaml": "defaults:\n  - /schema/precision@_here_: precision\n  - _self_\nbase: bf16\n",
    "conf/trainer/often.yaml": "defaults:\n  - auto\n  - _self_\ngradient_checkpointing: often\n",
    "conf/trainer/switch.yaml": "defaults:\n  - auto\n  - _self_\ncompile: on\n",
    "experiments/bits.yaml": "defaults:\n  - override /precision: nf8\n",
    "experiments/every.yaml": "trainer:\n  gradient_checkpointing_every: 0\n",
}

TABLE: list[tuple[str, str]] = [
    ("train precision=nf5", r"precision: there is no option 'nf5'; nearest: nf4"),
    ("train precision=null", r"precision: there is no option None"),
    ("train precision.bese=bf16", r"precision.bese: there is no such key in precision \(Precision\); nearest: base"),
    ("train precision.base=int8", r"precision.base: must be one of fp32, bf16, fp16, auto, got 'int8'"),
    ("train precision.compute=nf4", r"precision.compute: must be one of fp32, bf16, fp16, auto, got 'nf4'"),
    ("train precision.quantised=int4", r"precision.quantised: must be one of none, int8, nf4, got 'int4'"),
    ("train precision.quantised=true", r"precision.quantised: must be one of none, int8, nf4, got True"),
    ("train precision=typo", r"conf/precision/typo.yaml: precision.stored: there is no such key in precision"),
    ("train cache=x precision=half", r"precision.compute: must be given, one of fp32, bf16, fp16, auto"),
    ("train experiment=bits", r"experiments/bits.yaml: precision: there is no option 'nf8'; nearest: .*"),
    (
        "preprocess songs=x cache=y precision=int8",
        r"\S*/int8.yaml: precision.quantised: must be none for preprocess, got int8; train alone can",
    ),
    (
        "preprocess songs=x cache=y precision=fp16",
        r"\S*/fp16.yaml: precision.base: must be fp32, bf16 or auto for prepr",
    ),
    (
        "generate prompt=x output=x.wav precision=nf4",
        r"\S*/nf4.yaml: precision.quantised: must be none for generate, got",
    ),
    (
        "generate prompt=x output=x.wav precision=fp16",
        r"\S*/fp16.yaml: precision.base: must be fp32, bf16 or auto for gen",
    ),
    ("train trainer=fdsp", r"trainer: there is no option 'fdsp'; nearest: fsdp"),
    ("train trainer.comple=block", r"trainer.comple: there is no such key in trainer \(TrainerOption\); nearest: comp"),
    ("train trainer.compile=whole", r"trainer.compile: must be one of off, block, got 'whole'"),
    ("train trainer=switch", r"conf/trainer/switch.yaml: trainer.compile: must be one of off, block, got 'True'"),
    ("train trainer=often", r"conf/trainer/often.yaml: trainer.gradient_checkpointing: must be one of none, full, sel"),
    ("train trainer.gradient_checkpointing=true", r"trainer.gradient_checkpointing: must be one of none, full, selec"),
    (
        "train cache=x trainer.gradient_checkpointing_every=0",
        r"trainer.gradient_checkpointing_every: must be at least 1, got 0",
    ),
    ("train cache=x experiment=every", r"experiments/every.yaml: trainer.gradient_checkpointing_every: must be at le"),
    ("train cache=x trainer.shard=true", r"trainer.shard: must be false for a single process, got True"),
    (
        "train cache=x trainer=fsdp trainer.devices=1",
        r"\S*/fsdp.yaml: trainer.shard: must be false for a single process",
    ),
    ("train trainer.shard=some", r"trainer.shard: must be true or false, got 'some'"),
]
"""Arguments, split at blanks, and what stderr must start with."""


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with files of its own."""
    return files(tmp_path_factory.mktemp("working"), FILES)


@pytest.fixture(scope="module")
def composers(working: Path) -> dict[str, Composer]:
    return {job: Composer(job, Sources.of(working)) for job in ("train", "preprocess", "generate")}


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_it_is_refused_with_its_message_and_nothing_changes(arguments, message, working, composers, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in working.rglob("*")}
    monkeypatch.chdir(working)
    job, *given = arguments.split(" ")
    with pytest.raises(Refused) as refusal:
        composers[job].compose([read(argument) for argument in given]).build()
    assert re.match(message, str(refusal.value)) and len(str(refusal.value).splitlines()) <= 4, refusal.value
    assert {path: path.stat().st_mtime_ns for path in working.rglob("*")} == before


def test_a_command_line_is_told_so(working, monkeypatch, capsys):
    monkeypatch.chdir(working)
    assert main(["train", "cache=x", "trainer.shard=true"]) == 2
    assert capsys.readouterr().err == "trainer.shard: must be false for a single process, got True\n"
