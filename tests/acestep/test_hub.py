"""A checkpoint named by its hub id: out of the local cache without a network, or a line that says how to get it."""

import shutil

import huggingface_hub
import pytest
from checkpoints import write_official

from acetrain.acestep.model import Released
from acetrain.errors import Refused


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def named(checkpoints) -> Released:
    return Released("", "someone/their-model", None, None, None, str(checkpoints), "", "", False)


def test_a_snapshot_that_is_there_is_taken(hub, tmp_path):
    made = write_official(tmp_path / "releases")
    folder = hub / "models--someone--their-model"
    shutil.copytree(made, folder / "snapshots" / "0123abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123abc")
    model = named(tmp_path / "releases")
    assert model.checkpoint.folder == folder / "snapshots" / "0123abc"
    assert model.name == "xl_base" and model.config("vae")["sampling_rate"] == 8000


def test_one_that_is_not_to_be_had_says_how_to_get_it(hub, tmp_path, capsys):
    with pytest.raises(Refused, match=r"model.path: someone/their-model is no folder, and could not be had") as refusal:
        _ = named(tmp_path).checkpoint
    assert str(refusal.value).endswith("hf download someone/their-model")
    assert "downloading someone/their-model" in capsys.readouterr().err
