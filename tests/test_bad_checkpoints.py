"""Broken checkpoints: each is refused with its message and exit code 2, and nothing changed on disk."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from checkpoints import change_json, write_official
from fabricate import cache
from safetensors.torch import load_file, save_file
from test_bad_inputs import state
from tones import write_tone

from acetrain.acestep.model import Released
from acetrain.cli import main

WHOLE, SHARD = "model.safetensors", "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"
GATE = "decoder.layers.0.mlp.gate_proj.weight"
QUERY = "encoder.lyric_encoder.layers.0.self_attn.q_proj.weight"


class Row(NamedTuple):
    """One way in which a checkpoint is broken, and what is said of it."""

    what: str
    jobs: str
    shards: int
    harm: Callable[[Path], object]
    message: str


class Planted:
    """A pickle of it would run code."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


def tensors(file: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Harm by changing the tensors of a file."""

    def harm(folder: Path) -> None:
        stored = load_file(folder / file)
        change(stored)
        save_file(stored, folder / file)

    return harm


def renamed(old: str, new: str) -> Callable[[dict], object]:
    return lambda stored: stored.update({new: stored.pop(old)})


def cut(file: str, keep: int) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:keep])


def index_without(key: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        stored = json.loads((folder / INDEX).read_text())
        del stored["weight_map"][key]
        (folder / INDEX).write_text(json.dumps(stored))

    return harm


def as_ints(stored: dict) -> None:
    stored[GATE] = stored[GATE].to(torch.int8)


def turned(name: str) -> Callable[[dict], object]:
    return lambda stored: stored.update({name: stored[name].T.contiguous()})


def fewer(stored: dict) -> None:
    for name in [name for name in stored if name.startswith("decoder.layers.1.")]:
        del stored[name]


SILENT = "silence_latent.pt"
TABLE = [
    Row("a cut shard", "both", 3, cut(SHARD, 4000), rf"model: .*{SHARD} cannot be read \("),
    Row("a cut file", "both", 1, cut(WHOLE, -1), rf"model: .*{WHOLE} cannot be read \(its length does not fit"),
    Row("an empty file", "both", 1, cut(WHOLE, 0), rf"model: .*{WHOLE} cannot be read \(not a whole safetensors file"),
    Row("no weights", "both", 1, lambda at: (at / WHOLE).unlink(), rf"model: .*{WHOLE} is missing"),
    Row(
        "a lost shard", "both", 3, lambda at: (at / SHARD).unlink(), rf"model: .*{SHARD}, named by {INDEX}, is missing"
    ),
    Row("a lost index", "both", 3, lambda at: (at / INDEX).unlink(), rf"model: .*{WHOLE} is missing"),
    Row(
        "a name off the index",
        "both",
        3,
        index_without(GATE),
        rf"model: .*{INDEX}: '{GATE}' is in a shard, but not nam",
    ),
    Row(
        "a name no shard has",
        "both",
        3,
        lambda at: change_json(
            at / INDEX, weight_map={**json.loads((at / INDEX).read_text())["weight_map"], "x": SHARD}
        ),
        rf"model: .*{INDEX}: 'x' is not in the shard it names",
    ),
    Row(
        "an index of nothing",
        "both",
        3,
        lambda at: change_json(at / INDEX, weight_map={}),
        r"model: .* has no weight_map",
    ),
    Row("an index cut short", "both", 3, cut(INDEX, 20), rf"model: .*{INDEX} cannot be read as JSON"),
    Row(
        "whole numbers", "both", 1, tensors(WHOLE, as_ints), rf"model: .*{WHOLE}: '{GATE}' is stored as I8, weights are"
    ),
    Row(
        "a renamed key",
        "train",
        1,
        tensors(WHOLE, renamed(GATE, GATE.replace("gate", "gaet"))),
        r"model: .* lacks 'layers.0.mlp.gate_proj.weight' of the transformer",
    ),
    Row(
        "a stray tensor",
        "both",
        1,
        tensors(WHOLE, renamed(GATE, "lm_head.weight")),
        r"model: .*'lm_head.weight' belongs",
    ),
    Row(
        "a surplus tensor",
        "train",
        1,
        tensors(WHOLE, lambda stored: stored.update({"decoder.extra": stored[GATE].clone()})),
        r"model: .* holds 'extra', which the transformer does not have",
    ),
    Row(
        "a turned matrix",
        "train",
        1,
        tensors(WHOLE, turned(GATE)),
        r"model: .* holds 'layers.0.mlp.gate_proj.weight' of the transformer in shape \(128, 224\), .* \(224, 128\)",
    ),
    Row("missing layers", "train", 1, tensors(WHOLE, fewer), r"model: .* lacks 'layers.1.* \(\d\d more like it\)"),
    Row(
        "no null condition",
        "preprocess",
        1,
        tensors(WHOLE, lambda s: s.pop("null_condition_emb")),
        r"model: .* lacks 'null_con",
    ),
    Row(
        "another variant",
        "both",
        1,
        lambda at: change_json(at / "config.json", model_version="sft"),
        r"model: .* is a xl_sft",
    ),
    Row(
        "no configuration",
        "both",
        1,
        lambda at: (at / "config.json").unlink(),
        r"model: .* holds no checkpoint: neither",
    ),
    Row("a configuration cut short", "both", 1, cut("config.json", 50), r"model: .*config.json cannot be read as JSON"),
    Row(
        "a list",
        "both",
        1,
        lambda at: (at / "config.json").write_text("[]"),
        r"model: .*config.json must hold a JSON obj",
    ),
    Row(
        "another model's",
        "both",
        1,
        lambda at: (at / "config.json").write_text('{"hidden_size": 8}'),
        r"model: .*config.json has no num_attention_heads: it is not the configuration of an ACE-Step",
    ),
    Row("no silence", "both", 1, lambda at: (at / SILENT).unlink(), rf"model: .*{SILENT} is missing"),
    Row(
        "a pickle with code",
        "both",
        1,
        lambda at: torch.save(Planted(), at / SILENT),
        rf"model: .*{SILENT} cannot be read as",
    ),
    Row(
        "no pickle",
        "both",
        1,
        lambda at: (at / SILENT).write_text("x"),
        rf"model: .*{SILENT} cannot be read as tensors",
    ),
    Row(
        "silence of two channels",
        "preprocess",
        1,
        lambda at: torch.save(torch.zeros(1, 2, 900), at / SILENT),
        r"model: .* holds a \(1, 900, 2\) silence_latent; it must have 18 channels",
    ),
    Row(
        "no autoencoder",
        "both",
        1,
        lambda at: shutil.rmtree(at.parent / "vae"),
        r"model: vae is not in .*\nget it: hf download",
    ),
    Row(
        "no text encoder",
        "both",
        1,
        lambda at: shutil.rmtree(at.parent / "Qwen3-Embedding-0.6B"),
        r"model: Qwen3-Embedding-0.6B is not in .*\nget it: hf download ACE-Step/Ace-Step1.5 --include 'Qwen3",
    ),
    Row(
        "an encoder's renamed key",
        "preprocess",
        1,
        tensors(WHOLE, renamed(QUERY, QUERY.replace("q_proj", "qq_proj"))),
        r"model: .* lacks 'lyric_encoder.layers.0.self_attn.to_q.weight' of the condition_encoder",
    ),
    Row(
        "a text encoder without a layer",
        "preprocess",
        1,
        lambda at: tensors("model.safetensors", lambda s: s.pop("layers.1.mlp.up_proj.weight"))(
            at.parent / "Qwen3-Embedding-0.6B"
        ),
        r"model: .*Qwen3-Embedding-0.6B lacks 'layers.1.mlp.up_proj.weight' of the text encoder",
    ),
    Row(
        "no tokenizer",
        "preprocess",
        1,
        lambda at: [file.unlink() for file in (at.parent / "Qwen3-Embedding-0.6B").glob("tokenizer*")],
        r"model: .*Qwen3-Embedding-0.6B holds no tokenizer: neither tokenizer.json nor vocab.json with merges.txt",
    ),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[int, Path]:
    """Number of shards -> a working folder with a sound checkpoint, a cache of it and a song."""
    folders = {}
    for shards in (1, 3):
        folder = folders[shards] = tmp_path_factory.mktemp("sound")
        at = write_official(folder / "releases", "acestep-v15-xl-base", shards=shards)
        model = Released("xl_base", str(at), None, None, None, "nowhere", "", "", False)
        cache(folder / "cache", 4, model=model)
        write_tone(folder / "songs" / "a.wav", 1.0, 22050, 1, None)
    return folders


JOBS = {
    "train": "train cache=cache out_dir=run max_steps=1 trainer=cpu logger=csv",
    "preprocess": "preprocess songs=songs cache=new accelerator=cpu",
}
MODEL = "model=xl_base model.path=releases/acestep-v15-xl-base model.checkpoints=nowhere"


@pytest.mark.parametrize("row", TABLE, ids=[row.what for row in TABLE])
def test_a_broken_checkpoint_is_refused(row: Row, sound, tmp_path, monkeypatch, capsys):
    folder = Path(shutil.copytree(sound[row.shards], tmp_path / "working"))
    monkeypatch.chdir(folder)
    row.harm(folder / "releases" / "acestep-v15-xl-base")
    before = state(folder)
    for job in JOBS if row.jobs == "both" else [row.jobs]:
        code = main(f"{JOBS[job]} {MODEL}".split())
        stderr = capsys.readouterr().err
        assert re.search(f"^{row.message}", stderr, re.MULTILINE), stderr
        assert code == 2 and len(stderr.splitlines()) <= 4 and "Traceback" not in stderr
        assert state(folder) == before


@pytest.mark.parametrize("shards", [1, 3], ids=["whole", "sharded"])
def test_a_sound_one_is_encoded_and_trained(sound, shards, tmp_path, monkeypatch, capsys):
    folder = Path(shutil.copytree(sound[shards], tmp_path / "working"))
    monkeypatch.chdir(folder)
    for job in JOBS.values():
        assert main(f"{job} {MODEL}".split()) == 0, capsys.readouterr().err
