"""Whole runs of each kind of adapter that keeps more than weights, or keeps them elsewhere: stopped, gone on, heard."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from fabricate import cache
from runs import QUICK, Run, acetrain, launch
from safetensors.torch import load_file
from torch import Tensor

pytestmark = pytest.mark.slow

STEPS = 12
KINDS = {
    "adalora": ["adapter=adalora", "adapter.rank=6", "adapter.target_rank=3", "adapter.interval=1"],
    "lokr_lycoris": ["adapter=lokr_lycoris", "adapter.module_dropout=0.3"],
    "loha_lycoris": ["adapter=loha_lycoris", "adapter.dora=true"],
    "locon_dora": ["adapter=locon_dora", "adapter.rank=4"],
    "full": ["adapter=full"],
    "everything": ["adapter=full", "adapter.everything=true"],
    "eva": ["adapter.init=eva", "adapter.rank=4", "adapter.init_songs=3"],
    "corda": ["adapter.init=corda", "adapter.rank=4", "adapter.init_songs=3"],
    "lora_ga": ["adapter.init=lora_ga", "adapter.rank=4", "adapter.init_songs=3"],
}


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=7)


def start(kind: str, songs: Path, folder: Path) -> Run:
    """Start a training in a process of its own."""
    quick = [one for one in QUICK if not one.startswith("adapter")]
    every = [f"max_steps={STEPS}", "trainer.checkpoint_every=2", "trainer.validate_every=6"]
    return launch(
        folder.with_suffix(".err"), "train", f"cache={songs}", f"out_dir={folder}", *quick, *every, *KINDS[kind]
    )


def weights(folder: Path) -> dict[str, Tensor]:
    [file] = folder.glob("*.safetensors")
    return load_file(file)


def kept(folder: Path) -> dict[str, Any]:
    return torch.load(max(folder.glob("step-*.ckpt")), weights_only=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_ends_in_the_same_bits_and_its_adapter_makes_music(
    kind: str, songs: Path, tmp_path: Path
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    done = start(kind, songs, straight).wait()
    assert done.returncode == 0, done.stderr
    process = start(kind, songs, stopped)
    while not process.ended and not list(stopped.glob("step-*.ckpt")):
        pass
    process.send(signal.SIGKILL)
    process.wait()
    assert not (stopped / "adapter").exists()
    again = start(kind, songs, stopped).wait()
    assert again.returncode == 0, again.stderr
    assert ("has looked at" in done.stdout) == (kind in ("eva", "corda", "lora_ga")) and "looked" not in again.stdout
    for name in ("adapter", "best"):
        ours, theirs = weights(stopped / name), weights(straight / name)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert repr(kept(stopped)) == repr(kept(straight))
    heard = [acetrain("generate", f"adapter_path={straight / 'adapter'}", f"scale={scale}", "prompt=a", "duration=2",
                 f"output={tmp_path / f'{scale}.wav'}") for scale in (0, 1)]  # fmt: skip
    assert all(made.returncode == 0 for made in heard), heard[1].stderr
    assert (tmp_path / "0.wav").read_bytes() != (tmp_path / "1.wav").read_bytes()
