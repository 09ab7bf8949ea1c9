"""Presets: which wins over what, and that each fits the card it is named for by the estimate."""

import functools
import re
from pathlib import Path
from typing import Any

import fabricate
import pytest
from released import RELEASED

from acetrain.acestep.names import linear_layers
from acetrain.cli import main
from acetrain.command.describe import anything
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources
from acetrain.config import resolved
from acetrain.errors import Refused
from acetrain.training.memory import Batch, Training

SOURCES = Sources((PACKAGED,))
PRESETS = SOURCES.recipes("preset")
SONG, LONG = 6000, 15000
"""Frames of a song of 240 s, and of one of 600 s."""
CARDS = {"vram_8gb": 8, "vram_12gb": 12, "vram_16gb": 16, "vram_24gb": 24, "vram_40gb": 40, "h200": 131}
"""Preset -> GiB of its card."""


COMPOSER = Composer("train", SOURCES)


@functools.cache
def composed(*arguments: str) -> Any:
    return COMPOSER.compose([read("cache=x"), *map(read, arguments)]).build()


def training(shape: str, *arguments: str) -> Training:
    """What the memory of the composed run would depend on, had it the released shape."""
    job, config = composed(*arguments), RELEASED[shape]
    layers = linear_layers(config)
    targets = {name: layers[name] for name in job.targets.select(layers)}
    averaged = len(job.ema.kinds) > 1
    return Training(config, job.precision, job.adapter, targets, job.optimizer, job.trainer.recomputed, averaged)


def gib(shape: str, batch: Batch, *arguments: str) -> float:
    return training(shape, *arguments).estimate(batch).total / 2**30


def test_there_are_presets_for_cards_and_for_purposes() -> None:
    assert set(PRESETS) == {*CARDS, "quick_test", "recommended", "high_quality"}


@pytest.mark.parametrize("preset", CARDS)
def test_a_preset_fits_its_card(preset: str) -> None:
    card = CARDS[preset] * 2**30
    assert composed(f"preset={preset}").data.max_frames == "auto"
    for frames in (SONG, LONG):
        assert training("2b", f"preset={preset}").estimate(Batch(1, frames, 1024)).fits(card)
    other = ["precision=int8"] if preset == "vram_12gb" else []
    assert training("xl", f"preset={preset}", *other).estimate(Batch(1, SONG, 1024)).fits(card)


def test_the_presets_of_larger_cards_take_more() -> None:
    taken = [gib("2b", Batch(1, SONG, 1024), f"preset={preset}") for preset in CARDS]
    assert taken == sorted(taken)


SAID = [
    ("vram_8gb", "2b", (Batch(1, SONG, 1024), Batch(1, LONG, 1024)), ()),
    ("vram_8gb", "xl", (Batch(1, SONG, 1024), Batch(1, LONG, 1024)), ()),
    ("vram_12gb", "2b", (Batch(1, SONG, 1024), Batch(1, LONG, 1024)), ()),
    ("vram_12gb", "xl", (Batch(1, SONG, 1024), Batch(1, LONG, 1024)), ("precision=int8",)),
    ("vram_16gb", "2b", (Batch(1, SONG, 1024), Batch(1, LONG, 1024)), ()),
    ("vram_16gb", "xl", (Batch(1, SONG, 1024), Batch(1, LONG, 1024)), ()),
    ("vram_24gb", "2b", (Batch(1, SONG, 1024), Batch(1, LONG, 1024)), ()),
    ("vram_24gb", "xl", (Batch(1, SONG, 1024),), ()),
    ("vram_40gb", "2b", (Batch(1, SONG, 1024), Batch(1, LONG, 1024)), ()),
    ("vram_40gb", "xl", (Batch(1, SONG, 1024),), ()),
    ("h200", "2b", (Batch(4, SONG, 1024),), ()),
    ("h200", "xl", (Batch(4, SONG, 1024),), ()),
    ("quick_test", "2b", (Batch(1, SONG, 1024),), ("precision=bf16",)),
    ("recommended", "2b", (Batch(1, SONG, 1024),), ("precision=bf16",)),
    ("high_quality", "2b", (Batch(1, SONG, 1024),), ("precision=bf16",)),
]


@pytest.mark.parametrize(("preset", "shape", "batches", "more"), SAID)
def test_a_preset_states_what_is_estimated(preset: str, shape: str, batches: Any, more: Any) -> None:
    header = [line for line in PRESETS[preset].read_text().splitlines() if line.startswith("#")]
    said = re.findall(r"\d+\.\d", " ".join(header).partition("XL")[2 if shape == "xl" else 0])
    assert said[: len(batches)] == [f"{gib(shape, batch, f'preset={preset}', *more):.1f}" for batch in batches]


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_goes_with_an_experiment(preset: str) -> None:
    for experiment in ("album_13_songs", "overfit_one_song"):
        assert composed(f"experiment={experiment}", f"preset={preset}").name == experiment


def test_what_is_given_wins_over_the_preset_and_the_preset_over_the_experiment() -> None:
    asked = ["experiment=album_13_songs", "preset=vram_8gb"]
    for order in (asked, asked[::-1]):
        job = composed(*order)
        assert job.precision.quantised.name == "nf4" and job.choices["precision"] == "nf4"
        assert job.adapter.alpha == 128 and job.max_epochs == 500 and job.data.max_frames == "auto"
    job = composed(*asked, "precision=bf16", "data.max_frames=3000", "trainer.gradient_checkpointing=none")
    assert job.precision.quantised.name == "none" and job.data.max_frames == "3000"
    assert job.trainer.recomputed == 0 and type(job.optimizer).__name__ == "AdamW8bit"


def test_a_users_preset_needs_no_more_than_keys_and_values(tmp_path: Path) -> None:
    file = tmp_path / "conf" / "preset" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("defaults:\n  - override /adapter: dora\nadapter:\n  rank: 3\n")
    job = Composer("train", Sources((tmp_path, PACKAGED))).compose([read("cache=x"), read("preset=mine")]).build()
    assert job.adapter.rank == 3 and type(job.adapter).__name__ == "DoRA"


@pytest.mark.parametrize("base", ["recommended", "/preset/recommended"])
def test_a_users_preset_may_start_from_another(tmp_path: Path, base: str) -> None:
    fabricate.files(tmp_path, {"conf/preset/mine.yaml": f"defaults: [{base}, _self_]\nadapter: {{rank: 3}}\n"})
    job = Composer("train", Sources((tmp_path, PACKAGED))).compose([read("cache=x"), read("preset=mine")]).build()
    assert job.adapter.rank == 3 and job.adapter.alpha == 128 and job.choices["schedule"] == "cosine"


@pytest.mark.parametrize("group", ["preset", "experiment", "sweep"])
def test_null_chooses_no_recipe(group: str) -> None:
    assert resolved(composed(f"{group}=null")) == resolved(composed())


def test_a_preset_may_stand_in_the_users_own_job(tmp_path: Path) -> None:
    own = (PACKAGED / "conf" / "train.yaml").read_text().replace("- preset: null", "- preset: vram_8gb")
    fabricate.files(tmp_path, {"conf/train.yaml": own})
    composer = Composer("train", Sources((tmp_path, PACKAGED)))
    found = [
        composer.compose([read("cache=x"), *map(read, more)]).build().precision.quantised.name
        for more in ([], ["preset=null"], ["preset=quick_test"], ["precision=int8"])
    ]
    assert found == ["nf4", "none", "none", "int8"]


def test_explain_says_what_a_preset_is_for() -> None:
    page = anything("preset", SOURCES)
    assert all(name in page for name in PRESETS) and "experiment, preset, sweep, then what is given" in page
    page = anything("preset=vram_16gb", SOURCES)
    assert "bf16, every block recomputed" in page and "gradient_checkpointing: full" in page


BAD = {
    "train preset=vram_10gb": r"preset: there is no 'vram_10gb' in conf/preset/; nearest: vram_\d\dgb",
    "train preset=[a,b]": r"preset: must be a name, got \['a', 'b'\]",
    "train preset=typo": r"conf/preset/typo.yaml: trainer.gradient_chekpointing: there is no such key",
    "train preset=option": r"conf/preset/option.yaml: precision: there is no option 'nf8'; nearest: .*",
    "train preset=value": r"conf/preset/value.yaml: data.validation: must be a number, got 'half'",
    "train cache=x preset=rule": r"conf/preset/rule.yaml: trainer.keep: must be at least 1, got 0",
    "train preset=group": r"conf/preset/group.yaml: override /precison: there is no such group .*nearest: precision",
    "train preset=list": r"conf/preset/list.yaml: must be a mapping",
    "preprocess preset=vram_8gb": r"preset: preprocess has no conf/preset/; its keys can be given one by one",
}
"""Arguments, split at blanks, and what stderr must start with."""
FILES = {
    "typo": "trainer:\n  gradient_chekpointing: full\n",
    "option": "defaults:\n  - override /precision: nf8\n",
    "value": "data:\n  validation: half\n",
    "rule": "trainer:\n  keep: 0\n",
    "group": "defaults:\n  - override /precison: bf16\n",
    "list": "- 1\n",
}


def test_bad_presets_are_refused_with_their_messages(tmp_path: Path, monkeypatch) -> None:
    for name, text in FILES.items():
        file = tmp_path / "conf" / "preset" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.chdir(tmp_path)
    composers = {job: Composer(job, Sources.of(tmp_path)) for job in ("train", "preprocess")}
    for arguments, message in BAD.items():
        job, *given = arguments.split(" ")
        with pytest.raises(Refused) as refusal:
            composers[job].compose([read(argument) for argument in given]).build()
        assert re.match(message, str(refusal.value)) and len(str(refusal.value).splitlines()) <= 4, refusal.value
    with pytest.raises(Refused, match=r"preset: there is no 'vram' in conf/preset/; nearest: "):
        anything("preset=vram", Sources.of(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"conf"}


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_the_tiny_base(preset: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    fabricate.cache(tmp_path / "cache", songs=5)
    quick = ["max_steps=2", "schedule.warmup=0", "logger=csv", "trainer.accelerator=cpu", "adapter.rank=2"]
    quick += ["trainer.validation_quantiles=1"]
    assert main(["train", "cache=cache", "out_dir=run", f"preset={preset}", *quick]) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
