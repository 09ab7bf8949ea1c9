"""`acetrain inspect` tells every adapter apart, and a broken file in a line."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign
import pytest
import torch
from fabricate import base
from safetensors.torch import load_file, save_file
from test_full import NAMED, moved
from test_kinds import KINDS, NAMES
from test_lycoris import KINDS as LYCORIS
from test_lycoris import attached
from test_updates import PEFT, saved_by

from acetrain.acestep.names import official
from acetrain.adapters.files import saved
from acetrain.adapters.inspection import inspect
from acetrain.adapters.updates import read_updates
from acetrain.atomic import write_text
from acetrain.cli import main
from acetrain.errors import Refused
from acetrain.jobs.inspect import Inspect
from acetrain.tensorfile import LONGEST_HEADER

FOREIGN = {
    "infix": ("LORA", "PEFT"),
    "run": ("LORA", "PEFT"),
    "comfyui": ("LORA", "ComfyUI"),
    "comfyui native": ("LORA", "ComfyUI"),
    "kohya in bf16": ("LORA", "kohya"),
    "locon": ("LORA", "LyCORIS"),
    "diffusers": ("LORA", "diffusers"),
    "delta": ("delta", "ComfyUI"),
}


@pytest.mark.parametrize("producer", FOREIGN)
def test_a_foreign_adapter_is_told_with_its_strengths_and_norms(producer: str, tmp_path: Path) -> None:
    found = inspect(foreign.PRODUCERS[producer](tmp_path))
    assert (found.kind, found.layout) == FOREIGN[producer]
    rows, truth = {one.module: one for one in found.modules}, foreign.truth()
    assert set(rows) == set(map(official, NAMES))
    for name, change in truth.items():
        row = rows[official(name)]
        assert row.norm == pytest.approx(change.norm().item(), rel=1e-5)
        if producer != "delta":
            assert row.rank == foreign.RANKS[name]
            assert row.strength == pytest.approx(foreign.ALPHAS[name] / foreign.RANKS[name])


@pytest.mark.parametrize("kind", ["uneven rslora", "loha", "lokr_both", "adalora"])
def test_the_norm_is_that_of_the_update(kind: str, tmp_path: Path) -> None:
    folder = saved_by(PEFT[kind], tmp_path)
    updates = read_updates(folder)
    for one, name in zip(inspect(folder).modules, updates.names, strict=True):
        assert one.module == official(name) and one.norm == pytest.approx(updates[name].dense().norm().item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["dora", "oft", "boft", "vera", "ia3"])
def test_a_norm_that_only_the_base_tells_is_left_out(kind: str, tmp_path: Path) -> None:
    found = inspect(saved_by(PEFT[kind], tmp_path))
    assert found.kind == ("DoRA" if kind == "dora" else KINDS[kind].peft_type) and found.base == "tiny"
    assert all(one.norm is None for one in found.modules)


STRENGTHS = {"lokr": {3.0, 1.25}, "lokr_full": {1.0}, "locon_dora": {3.0, 1.25}}


@pytest.mark.parametrize("kind", STRENGTHS)
def test_lycoris_files_are_told(kind: str, tmp_path: Path) -> None:
    LYCORIS[kind].save(attached(kind).dit, tmp_path, "tiny", {})
    found = inspect(tmp_path)
    assert found.kind == ("decomposed LyCORIS" if "dora" in kind else "LyCORIS") and found.layout == "LyCORIS"
    assert {one.strength for one in found.modules} == STRENGTHS[kind]
    assert all(("dora" in kind) == (one.norm is None) for one in found.modules)


def test_whole_weights_are_told(tmp_path: Path) -> None:
    NAMED.save(moved(NAMED).dit, tmp_path, "tiny", {})
    found = inspect(tmp_path)
    assert (found.kind, found.layout, found.base) == ("full", "acetrain", "tiny")


def test_the_page_says_what_other_readers_lose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = foreign.PRODUCERS["infix"](tmp_path)
    assert main(["inspect", str(folder)]) == 0
    page = capsys.readouterr().out
    assert "modules: 5, 4,416 parameters" in page and "1 x self_attn.q_proj, rank 4, strength 2, norm 51.8" in page
    assert "they would run this at strength 1, not 0.3333 to 3; acetrain export format=comfyui" in page
    assert main(["inspect", f"adapter_path={folder}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 4416 and len(found["modules"]) == 5 and found["advice"]


def stored(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Callable[[Path], None]:
    """A fault in the tensors or the configuration of a PEFT folder."""

    def apply(folder: Path) -> None:
        file, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
        tensors, settings = load_file(file), json.loads(config.read_text())
        change(tensors, settings)
        save_file(tensors, file)
        config.write_text(json.dumps(settings))

    return apply


def bytes_of(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A fault in the bytes of the weights."""

    def apply(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return apply


def headed(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def long_header(folder: Path) -> None:
    with (folder / "adapter_model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", LONGEST_HEADER + 1))
        stream.truncate(LONGEST_HEADER + 100)


FIRST = f"base_model.model.{official(NAMES[0])}"
A, B = f"{FIRST}.lora_A.weight", f"{FIRST}.lora_B.weight"
ONE = b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
UNREAD = "adapter_model.safetensors cannot be read as safetensors"
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (bytes_of(lambda data: b""), UNREAD),
    "four bytes": (bytes_of(lambda data: data[:4]), UNREAD),
    "cut in the header": (bytes_of(lambda data: data[:200]), UNREAD),
    "cut in the data": (bytes_of(lambda data: data[:-9]), UNREAD),
    "no json": (bytes_of(lambda data: headed(b"{]" + bytes(40))), UNREAD),
    "nested": (bytes_of(lambda data: headed(b"[" * 200_000)), UNREAD),
    "a list": (bytes_of(lambda data: headed(b"[1, 2]")), UNREAD),
    "text offsets": (bytes_of(lambda data: headed(ONE.replace(b"[0, 4]", b'["0", "4"]').join([b"{", b"}"]))), UNREAD),
    "twice": (bytes_of(lambda data: headed(b"{%s, %s}" % (ONE, ONE), bytes(4))), r".*it holds 'a' twice"),
    "long header": (long_header, r".*its header has 100,000,001 bytes, more than the format's 100,000,000"),
    "no tensor": (bytes_of(lambda data: headed(b"{}")), "holds no tensor of an adapter"),
    "nan": (stored(lambda t, c: t[A].fill_(torch.nan)), r"q_proj.lora_A.weight holds NaN or infinity"),
    "half": (stored(lambda t, c: t.pop(A)), r"q_proj must have lora_A.weight and lora_B.weight, has lora_B.weight"),
    "renamed": (
        stored(lambda t, c: t.update({A.replace("q_proj", "q_prj"): t.pop(A)})),
        r"1 modules are not in the DiT, the first base_model.model.layers.0.self_attn.q_prj",
    ),
    "shapes": (stored(lambda t, c: t.update({B: t[B][:, :2].contiguous()})), r"has rank 4 in A and 2 in B"),
    "two spellings": (
        stored(lambda t, c: t.update({A.replace("lora_A", "lora_A.default"): t[A].clone()})),
        r"are the same tensor of one module",
    ),
    "alpha of two": (
        stored(lambda t, c: t.update({f"{FIRST}.alpha": torch.ones(2)})),
        r"alpha must be one number, is F32",
    ),
    "alpha nan": (stored(lambda t, c: t.update({f"{FIRST}.alpha": torch.tensor(torch.nan)})), r"q_proj.alpha is nan"),
    "rank zero": (
        stored(lambda t, c: c.update({"r": 0, "rank_pattern": {}})),
        r"must be a whole number of at least 1",
    ),
    "type": (stored(lambda t, c: c.update({"peft_type": "XLORA"})), r"has peft_type 'XLORA'; LORA, "),
    "no alpha": (stored(lambda t, c: c.pop("lora_alpha")), r"must say lora_alpha"),
    "text alpha": (stored(lambda t, c: c.update({"lora_alpha": "8"})), r"lora_alpha must be a finite number, is '8'"),
    "other type": (
        stored(lambda t, c: c.update({"peft_type": "OFT"})),
        r"says OFT, which has no tensors such as lora_A",
    ),
    "magnitude": (
        stored(lambda t, c: t.update({f"{FIRST}.lora_magnitude_vector": torch.ones(64)})),
        r"q_proj has magnitudes, use_dora is false; so it is with 1 of 5 modules",
    ),
    "no magnitude": (
        stored(lambda t, c: c.update({"use_dora": True})),
        r"must have lora_magnitude_vector, as it is a DoRA; so it is with 5 of 5 modules",
    ),
    "base": (
        stored(lambda t, c: c.update({"init_lora_weights": "pissa"})),
        r"it began as pissa, for a base from which",
    ),
    "type of types": (stored(lambda t, c: c.update({"peft_type": ["LORA"]})), r"has peft_type \['LORA'\]; LORA, "),
    "huge alpha": (stored(lambda t, c: c.update({"lora_alpha": 10**400})), r"lora_alpha must be a finite number"),
    "nested config": (
        lambda folder: write_text(folder / "adapter_config.json", "[" * 100_000),
        r"cannot be read as JSON",
    ),
    "number in the header": (bytes_of(lambda data: headed(b'{"__metadata__": {"lora_adapter_metadata": 5}}')), UNREAD),
    "config": (lambda folder: write_text(folder / "adapter_config.json", "[]"), r"must hold a JSON object"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_is_one_line_and_is_never_half_loaded(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply, message = FAULTS[fault]
    folder = foreign.PRODUCERS["epoch"](tmp_path)
    apply(folder)
    assert main(["inspect", str(folder)]) == 2
    told = capsys.readouterr()
    assert not told.out and told.err.startswith("adapter_path: ") and len(told.err.splitlines()) == 1, told.err
    assert re.search(message, told.err), told.err
    loaded = base().dit
    before = {name: value.clone() for name, value in loaded.named_parameters()}
    if fault != "nan":
        with pytest.raises(Refused):
            saved.load(loaded, [(folder, 1.0)])
        assert all(torch.equal(value, before[name]) for name, value in loaded.named_parameters() if name in before)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [("oft", "oft_block_size", "x"), ("lokr", "decompose_factor", "x"), ("adalora", "rank_pattern", {"x": [True]})],
)
def test_settings_that_make_no_adapter_are_refused(kind: str, key: str, value: object, tmp_path: Path) -> None:
    folder = saved_by(PEFT[kind], tmp_path)
    stored(lambda t, c: c.update({key: value}))(folder)
    with pytest.raises(Refused, match="cannot be attached as it is configured: "):
        saved.load(base().dit, [(folder, 1.0)])


def test_no_flipped_byte_of_a_header_ends_in_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = foreign.PRODUCERS["comfyui"](tmp_path)
    whole = file.read_bytes()
    draw = torch.Generator().manual_seed(0)
    places = torch.randint(0, struct.unpack("<Q", whole[:8])[0] + 8, (400,), generator=draw).tolist()
    values = torch.randint(0, 256, (400,), generator=draw).tolist()
    refused = 0
    for place, value in zip(places, values, strict=True):
        file.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        job = Inspect(str(file), json=False)
        try:
            job.check()
            job.run()
        except Refused as refusal:
            refused += 1
            assert str(refusal).startswith("adapter_path: ") and len(str(refusal).splitlines()) <= 2
    assert refused > 200
