"""The frame budget as a user writes it: a number or `auto`, anything else refused in one line."""

import pytest

from acetrain.cli import main
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources

RULE = "data.max_frames: must be a whole number of at least 1, or auto, got "


def budget(*arguments: str) -> int | None:
    composer = Composer("train", Sources((PACKAGED,)))
    return composer.compose([read(argument) for argument in ("cache=x", *arguments)]).build().data.budget


@pytest.mark.parametrize("value", ["eight", "0", "-3", "2.5", "true", "null", "", "Auto", "1e3", "[1]"])
def test_what_is_neither_a_number_of_frames_nor_auto_is_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "cache=x", f"data.max_frames={value}"]) == 2
    assert capsys.readouterr().err == f"{RULE}{value!r}\n"


def test_a_number_or_auto_is_taken() -> None:
    assert budget() == 6000
    assert budget("data.max_frames=12") == 12
    assert budget("data.max_frames=auto") is None


def test_budgets_are_remembered_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def folder() -> str:
        return Composer("train", Sources((PACKAGED,))).compose([read("cache=x")]).build().data.budgets

    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert folder() == "/home/someone/.cache/acetrain"
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/caches")
    assert folder() == "/scratch/caches/acetrain"
