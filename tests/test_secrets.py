"""No secret of the environment gets into anything that a job writes, and nobody is asked for one."""

import base64
import gzip
import os
import pty
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fabricate
import pytest
import wandb
from tones import write_tone
from wandb_server import Server

from acetrain.cli import main

WANDB = "0f1e2d3c4b" * 4
SECRETS = {
    "WANDB_API_KEY": WANDB,
    "HF_TOKEN": "hf_PlantedPlantedPlantedPlantedPlant",
    "OPENAI_API_KEY": "sk-planted-0123456789abcdefghijklmnop",
    "MY_SERVICE_PASSWORD": "correct-horse-battery",
    "git": "ghp_PlantedInTheRemoteOfTheRepository00",
    "argv": "typed-behind-a-flag-of-another-program",
}
"""The last two are not in the environment: in the address of a git remote, and among the process's arguments."""
TRAIN = ["cache=cache", "trainer=cpu", "max_steps=2", "trainer.validate_every=1", "data.workers=0", "adapter.rank=2"]


@pytest.fixture
def planted(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder in a git repository, with secrets all around it, and a server that does not take the key."""
    for name, secret in SECRETS.items():
        if name.isupper():
            monkeypatch.setenv(name, secret)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["acetrain", f"--token={SECRETS['argv']}"])
    remote = f"https://me:{SECRETS['git']}@example.org/me/songs.git"
    folder = tmp_path / "work"
    for command in (["init", "-q"], ["remote", "add", "origin", remote]):
        folder.mkdir(exist_ok=True)
        subprocess.run(["git", *command], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    with Server(refuses=True) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        wandb.teardown()
        yield folder
        wandb.teardown()


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file below `folder` but git's own, and of what is packed in them."""
    for file in folder.rglob("*"):
        if not file.is_file() or ".git" in file.parts:
            continue
        content = file.read_bytes()
        yield str(file), content
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as packed:
                yield from ((f"{file}:{name}", packed.read(name)) for name in packed.namelist())
        if content.startswith(b"\x1f\x8b"):
            yield f"{file}:", gzip.decompress(content)


def found(folder: Path) -> list[str]:
    """Files that hold a secret, as it is, backwards, or in base64, alone or as the password of `api`."""
    wanted: list[tuple[str, bytes]] = []
    for name, secret in SECRETS.items():
        plain = secret.encode()
        wanted += [(name, each) for each in (plain, plain[::-1], base64.b64encode(plain), plain.hex().encode())]
        wanted.append((name, base64.b64encode(b"api:" + plain)))
    return [f"{name} in {file}" for file, content in contents(folder) for name, each in wanted if each in content]


def test_nothing_that_is_written_holds_a_secret(planted, capfd):
    fabricate.cache(planted / "cache", songs=6)
    write_tone(planted / "songs" / "a.wav", 2.0, 16000, 1)
    assert main(["preprocess", "songs=songs", "cache=encoded"]) == 0
    assert main(["train", *TRAIN, "out_dir=run", "logger=wandb_tensorboard"]) == 0
    assert main(["train", "-m", *TRAIN, "seed=0,1", "out_dir=runs", "logger.mode=offline"]) == 0
    assert main(["sweep", "results", "train", "out_dir=runs"]) == 0
    assert (
        main(["generate", "prompt=a waltz", "duration=1", "steps=2", "output=x.wav", "adapter_path=run/adapter"]) == 0
    )
    written = {Path(name).suffix for name, _ in contents(planted)}
    assert written >= {".wandb", ".yaml", ".json", ".csv", ".ckpt", ".log", ".safetensors", ".html", ".wav"}
    assert found(planted.parent) == []
    told = capfd.readouterr()
    assert not [name for name, secret in SECRETS.items() if secret in told.out + told.err]
    assert "W&B cannot be reached" in told.err, "the key was tried: this is where it would leak"


@pytest.mark.parametrize("change", ["name=run-{}", "logger.project={}", "data.budgets=/scratch/{}"])
def test_a_secret_in_a_configuration_is_refused(planted, capsys, change):
    fabricate.cache(planted / "cache", songs=6)
    assert main(["train", *TRAIN, change.format(WANDB)]) == 2
    key = change.partition("=")[0]
    said = f"{key}: must not hold the value of WANDB_API_KEY, it would stand in the files of the run\n"
    assert capsys.readouterr().err == said and not (planted / "runs").exists()


def test_a_file_that_asks_for_one_is_refused(planted, capsys):
    fabricate.cache(planted / "cache", songs=6)
    (planted / "asks.yaml").write_text("name: run-${oc.env:HF_TOKEN}\n")
    assert main(["train", *TRAIN, "experiment=asks.yaml"]) == 2
    error = capsys.readouterr().err
    assert "asks.yaml: name: must not hold the value of HF_TOKEN" in error and SECRETS["HF_TOKEN"] not in error


@pytest.mark.slow
def test_nobody_is_asked_for_a_key(tmp_path):
    fabricate.cache(tmp_path / "cache", songs=6)
    ours, theirs = pty.openpty()  # a terminal, where a prompt would wait
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = kept | {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "acetrain", "train", *TRAIN, "out_dir=run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    while process.poll() is None or said[-1:] not in (b"", b"\n"):
        try:
            said += os.read(ours, 4096)
        except OSError:
            break
    os.close(ours)
    assert process.wait(300) == 0, said.decode()
    assert not any(word in said.lower() for word in (b"enter your choice", b"paste", b"api key")), said.decode()
    assert list(tmp_path.glob("run/wandb/offline-run-*"))
