"""Samples of other trainers: trimmed to the bit, and refused with all that is wrong."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fabricate import CHANNELS, WIDTH
from pickled import Sample, sample, trimmed

from acetrain.data.foreign.sample import Form, read_sample
from acetrain.errors import Refused

FORM = Form(CHANNELS, WIDTH, shortest=2)


def written(file: Path, made: Any) -> Path:
    torch.save(made, file)
    return file


def changed(**changes: Any) -> Sample:
    return sample(50, 40, pads=10) | changes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int64, torch.int32, torch.uint8, torch.bfloat16])
@pytest.mark.parametrize("pads", [0, 13])
def test_it_is_trimmed_to_the_bit(tmp_path: Path, dtype: torch.dtype, mask_dtype: torch.dtype, pads: int) -> None:
    made = sample(50, 40, pads, dtype=dtype)
    made["attention_mask"][50 - pads :] = 0
    for key in ("attention_mask", "encoder_attention_mask"):
        made[key] = made[key].to(mask_dtype)
    found = read_sample(written(tmp_path / "a.pt", made), FORM)
    latents, condition = trimmed(made)
    assert found.latents.dtype == found.condition.dtype == torch.float32
    assert found.latents.shape == (50 - pads, CHANNELS) and torch.equal(found.latents, latents)
    assert found.condition.shape == (40 - pads, WIDTH) and torch.equal(found.condition, condition)


def test_rows_between_pads_are_kept_in_order(tmp_path: Path) -> None:
    made = changed(encoder_attention_mask=torch.arange(40) % 3 == 1)
    assert torch.equal(
        read_sample(written(tmp_path / "a.pt", made), FORM).condition, made["encoder_hidden_states"][1::3]
    )


def test_the_context_need_not_be_there_and_text_is_told_apart(tmp_path: Path) -> None:
    made = sample(50, 40)
    del made["context_latents"]
    one = read_sample(written(tmp_path / "a.pt", made), FORM)
    made["metadata"]["caption"] = "fast jazz"
    other = read_sample(written(tmp_path / "b.pt", made), FORM)
    del made["metadata"]
    bare = read_sample(written(tmp_path / "c.pt", made), FORM)
    assert one.filename == other.filename == "song0.wav" and bare.filename == ""
    assert len({one.text_digest(), other.text_digest(), bare.text_digest()}) == 3


@pytest.mark.parametrize("name", ["a\nb.wav", "a\x1b[2J.wav", 7, None, "\ud800.wav"])
def test_a_name_that_cannot_be_shown_is_not_taken(tmp_path: Path, name: Any) -> None:
    made = changed(metadata={"filename": name})
    assert read_sample(written(tmp_path / "a.pt", made), FORM).filename == ""


ONES = torch.ones(50)
BAD: dict[str, tuple[Any, str]] = {
    "list": ([1, 2], "holds no sample but list"),
    "tensor": (ONES, "holds no sample but Tensor"),
    "empty": ({}, "lacks target_latents, attention_mask, encoder_hidden_states, encoder_attention_mask"),
    "no mask": ({k: v for k, v in changed().items() if k != "attention_mask"}, "lacks attention_mask$"),
    "wide": (
        changed(encoder_hidden_states=torch.ones(40, WIDTH + 1)),
        rf"encoder_hidden_states has shape \[40, {WIDTH + 1}\], the model needs \[\*, {WIDTH}\]$",
    ),
    "channels": (
        changed(target_latents=torch.ones(50, CHANNELS * 2)),
        rf"target_latents has shape \[50, {CHANNELS * 2}\], the model needs \[\*, {CHANNELS}\]$",
    ),
    "batched": (changed(target_latents=torch.ones(1, 50, CHANNELS)), r"target_latents has shape \[1, 50, "),
    "nan": (
        changed(target_latents=torch.full((50, CHANNELS), float("nan"))),
        "target_latents holds non-finite values$",
    ),
    "inf": (changed(encoder_hidden_states=torch.full((40, WIDTH), float("inf"))), "encoder_hidden_states holds non-"),
    "doubles": (changed(target_latents=torch.ones(50, CHANNELS).double()), "target_latents must be .* is float64$"),
    "whole": (
        changed(encoder_hidden_states=torch.ones(40, WIDTH).long()),
        "encoder_hidden_states must be .* is int64$",
    ),
    "sparse": (
        changed(target_latents=torch.ones(50, CHANNELS).to_sparse()),
        "target_latents must be .* is sparse_coo$",
    ),
    "text": (changed(target_latents="x"), "target_latents must be a tensor of float32, bfloat16, float16, is str$"),
    "all masked": (changed(attention_mask=0 * ONES), "attention_mask keeps nothing$"),
    "no tokens": (changed(encoder_attention_mask=torch.zeros(40).bool()), "encoder_attention_mask keeps nothing$"),
    "length": (changed(attention_mask=ONES[1:]), r"attention_mask has shape \[49\], what it masks has 50 rows$"),
    "mask 2-d": (changed(encoder_attention_mask=torch.ones(40, 1)), r"encoder_attention_mask has shape \[40, 1\], "),
    "weights": (changed(attention_mask=ONES / 2), "attention_mask holds other values than 0 and 1$"),
    "nan mask": (changed(attention_mask=ONES * float("nan")), "attention_mask holds other values than 0 and 1$"),
    "holes": (changed(attention_mask=torch.arange(50) % 2), "attention_mask has holes; a song is one piece$"),
    "no tensor": (changed(attention_mask=[1] * 50), "attention_mask must be a tensor of zeros and ones, is list$"),
    "short": (changed(attention_mask=torch.arange(50) < 1), "has 1 latent frames, at least 2 are needed$"),
    "metadata": (changed(metadata=["x"]), "its metadata are no mapping but list$"),
    "repeat": (changed(metadata={"repeat": 0}), "its repeat must be a whole number, at least 1, is 0$"),
    "repeat text": (changed(metadata={"repeat": "2"}), "its repeat must be a whole number, at least 1, is '2'$"),
    "lokr": (changed(metadata={"preprocess_mode": "lokr"}), "its condition was made from the song itself"),
    "both": (
        changed(target_latents=torch.ones(50, 3), attention_mask=ONES[1:], encoder_attention_mask=ONES[:40] * 0),
        r"target_latents has shape \[50, 3\], .*; encoder_attention_mask keeps nothing$",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_refused_with_all_that_is_wrong(tmp_path: Path, case: str) -> None:
    made, message = BAD[case]
    with pytest.raises(Refused, match=f"^{message}"):
        read_sample(written(tmp_path / "a.pt", made), FORM)


def test_a_song_that_is_its_own_context_is_refused(tmp_path: Path) -> None:
    made = sample(50, 40)
    made["context_latents"] = torch.cat([made["target_latents"], torch.ones(50, CHANNELS)], dim=1)
    with pytest.raises(Refused, match="made from the song itself"):
        read_sample(written(tmp_path / "a.pt", made), FORM)


class Executed:
    """A pickle of this creates a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("protocol", ["zip", "bare", "inside"])
def test_code_in_a_file_does_not_run(tmp_path: Path, protocol: str) -> None:
    file, trace = tmp_path / "a.pt", tmp_path / "ran"
    if protocol == "zip":
        torch.save(Executed(trace), file)
    elif protocol == "bare":
        file.write_bytes(pickle.dumps(Executed(trace), protocol=2))
    else:
        torch.save(changed(metadata={"caption": Executed(trace)}), file)
    with pytest.raises(
        Refused, match="is no file of plain tensors; what else it may hold, code included, is not loaded"
    ):
        read_sample(file, FORM)
    assert not trace.exists()
    if protocol == "inside":
        torch.load(file, weights_only=False)
        assert trace.exists(), "the code is none"


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.pt", changed()).read_bytes()
    file = tmp_path / "b.pt"
    for length in [0, 1, 10, 100, 1000, len(whole) // 2, len(whole) - 100, len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(Refused, match=r"is cut short or damaged|is no file of plain tensors"):
            read_sample(file, FORM)
    for content in (b"a text\n", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(50), bytes(1000), b"\x80\x02K\x01."):
        file.write_bytes(content)
        with pytest.raises(Refused):
            read_sample(file, FORM)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/readme", "x")
    with pytest.raises(Refused, match="is cut short or damaged"):
        read_sample(file, FORM)


def test_files_with_flipped_bytes_are_read_or_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.pt", changed()).read_bytes()
    file = tmp_path / "b.pt"
    start = whole.index(b"data.pkl")
    for position in range(start, start + 700):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            read_sample(file, FORM)
        except Refused as refusal:
            assert str(refusal)
