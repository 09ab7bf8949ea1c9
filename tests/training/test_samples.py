"""Music while training: what generate would make of the same weights, and no trace of it in the run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricate import MODEL, attached, base, cache, module
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_laws import option

from acetrain.acestep.sampling import Sampling
from acetrain.cli import main
from acetrain.data.prompt import Prompt
from acetrain.training import checkpoint, sampler
from acetrain.training.run_folder import written
from acetrain.training.sampler import Sampler
from acetrain.training.samples import Request, Samples

PROMPTS = "samples.prompts=[{caption: a slow waltz, duration: 0.5, seed: 3}]"
SAMPLES = ["samples=prompts", "samples.every=2", "model.steps=1", PROMPTS]
RUN = [
    *("train", "trainer=cpu", "data.workers=0", "adapter.rank=2", "adapter.alpha=4", "optimizer.lr=1e-2"),
    *("trainer.checkpoint_every=2", "trainer.keep=9", "max_steps=3", "trainer.validation_quantiles=2"),
]
WALTZ = Prompt("a slow waltz", "[Instrumental]", None, "", "", "en")


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=5)


@pytest.fixture(scope="module")
def sampled(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("sampled") / "run"
    assert main([*RUN, f"cache={songs}", f"out_dir={run}", "logger=tensorboard", *SAMPLES]) == 0
    return run


def heard(run: Path) -> dict[str, bytes]:
    (folder,) = (run / "samples").iterdir()
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def last(run: Path) -> checkpoint.Checkpoint:
    return checkpoint.read(written(run)[-1])


def test_each_prompt_is_made_with_the_base_and_every_so_often_with_the_adapter(sampled: Path) -> None:
    names = ["base", "step-00000002", "step-00000003"]
    files = [f"{name}{end}" for name in names for end in (".wav", ".png")]
    assert sorted(heard(sampled)) == sorted([*files, "settings.json"])
    assert len({data for name, data in heard(sampled).items() if name.endswith(".wav")}) == 3
    asked = json.loads(heard(sampled)["settings.json"])
    assert asked["prompt"]["caption"] == "a slow waltz" and asked["sampling"]["seed"] == 3 and asked["model"] == "tiny"


@pytest.mark.parametrize("name", ["step-00000003", pytest.param("base", marks=pytest.mark.slow)])
def test_they_are_what_generate_makes_of_the_same_weights(sampled: Path, tmp_path: Path, name: str) -> None:
    asked = ["generate", "prompt=a slow waltz", "duration=0.5", "seed=3", "steps=1", "accelerator=cpu"]
    more = [] if name == "base" else [f"adapter_path={sampled / 'adapter'}"]
    assert main([*asked, f"output={tmp_path / 'made.wav'}", *more]) == 0
    assert (tmp_path / "made.wav").read_bytes() == heard(sampled)[f"{name}.wav"]


def test_the_run_ends_in_the_same_bits_as_without(sampled: Path, songs: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    assert main([*RUN, f"cache={songs}", f"out_dir={plain}", "logger=csv"]) == 0
    ours, theirs = last(sampled), last(plain)
    assert all(torch.equal(ours.adapter[name], value) for name, value in theirs.adapter.items())
    for number, state in theirs.optimizer["state"].items():
        assert all(torch.equal(ours.optimizer["state"][number][name], value) for name, value in state.items())
    assert ours.identity == theirs.identity and not (plain / "samples").exists()
    for name in ("validation.csv", "identity.json"):
        assert (sampled / name).read_text() == (plain / name).read_text()


def test_trackers_get_sound_and_picture(sampled: Path) -> None:
    seen = EventAccumulator(str(sampled / "tensorboard"))
    seen.Reload()
    keys = [f"samples/{next((sampled / 'samples').iterdir()).name}/{what}" for what in ("base", "adapter")]
    assert [[event.step for event in seen.Audio(key)] for key in keys] == [[0], [2, 3]]
    assert [event.step for event in seen.Images(f"{keys[1]}/spectrogram")] == [2, 3]


@pytest.mark.slow
def test_a_restart_makes_what_is_missing(sampled: Path, songs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(sampled, tmp_path / "run")
    for file in run.glob("samples/*/*.wav"):
        file.unlink()
    written(run)[-1].unlink()
    assert main([*RUN, f"cache={songs}", f"out_dir={run}", "logger=csv", *SAMPLES]) == 0
    assert heard(run) == heard(sampled)


@pytest.fixture(scope="module")
def making(tmp_path_factory: pytest.TempPathFactory) -> Sampler:
    request = Request(WALTZ, Sampling(duration=0.5, seed=1, steps=1, shift=1.0, guidance=1.0))
    made = Sampler(
        tmp_path_factory.mktemp("making"), MODEL, [request], 2, option("precision", "fp32"), torch.device("cpu")
    )
    made.prepare(base().dit)
    return made


def test_making_music_leaves_modes_random_states_and_gradients_alone(making: Sampler) -> None:
    training = module(attached(dropout=0.5))
    training.dit.layers[1].eval()
    states = torch.get_rng_state(), np.random.get_state()
    modes = [part.training for part in training.modules()]
    weights = {name: (value.clone(), value.requires_grad) for name, value in training.dit.named_parameters()}
    training.step = 2
    making.make(training, [])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert all(np.array_equal(now, then) for now, then in zip(np.random.get_state(), states[1], strict=True))
    assert [part.training for part in training.modules()] == modes
    for name, value in training.dit.named_parameters():
        assert torch.equal(value, weights[name][0]) and value.requires_grad is weights[name][1] and value.grad is None


def test_a_run_that_is_to_end_does_not_wait_for_music(making: Sampler, capsys) -> None:
    training = module(attached())
    training.step, training.requested_stop = 4, 15
    making.make(training, [])
    assert "samples: those of step 4 are left out, as the run is to end" in capsys.readouterr().out
    making.tell_lost(6)
    assert "samples: those of step 4 are missing, and the run is at step 6 already" in capsys.readouterr().out


def test_what_is_not_finite_is_not_written(making: Sampler, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sampler, "sample", lambda *_, **__: np.full((2, 100), np.nan, np.float32))
    training = module(attached())
    training.step = 8
    making.make(training, [])
    assert "step-00000008: the model gave non-finite samples, nothing is written" in capsys.readouterr().out
    assert not list(making.folder.rglob("step-00000008*"))


@pytest.mark.parametrize(("step", "due"), [(0, False), (1, False), (2, True), (4, True), (7, True), (6, True)])
def test_music_is_due_every_so_often_and_at_the_end(making: Sampler, step: int, due: bool) -> None:
    assert making.due(step, total=7) is due


def test_what_a_prompt_does_not_say_is_the_groups() -> None:
    given = [{"caption": "Ünï, code!"}, {"caption": "b", "duration": 3, "seed": 9, "lyrics": "la", "bpm": 90}]
    first, second = Samples(every=5, duration=20.0, seed=7, prompts=given).requests(MODEL)
    assert (first.seconds, first.sampling.seed, second.seconds, second.sampling.seed) == (20, 7, 3, 9)
    assert (second.prompt.lyrics, second.prompt.bpm, first.prompt.lyrics) == ("la", 90, "[Instrumental]")
    assert (first.sampling.steps, first.sampling.shift, first.sampling.guidance) == MODEL.defaults()
    assert first.name.startswith("ünï-code-") and len({first.name, second.name}) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        ["precision=bf16"],
        ["precision=fp16"],
        ["precision=int8"],
        ["precision=nf4"],
        ["adapter=dora", "precision=bf16"],
        ["adapter=lokr_lycoris", "precision=bf16"],
        ["adapter=full", "precision=bf16"],
    ],
    ids=" ".join,
)
def test_what_has_not_moved_makes_the_bases_music(recipe: list[str], songs: Path, tmp_path: Path) -> None:
    still = ["train", "trainer=cpu", "data.workers=0", "max_steps=1", "optimizer.lr=1e-12", "logger=csv"]
    assert main([*still, *recipe, f"cache={songs}", f"out_dir={tmp_path / 'run'}", *SAMPLES]) == 0
    (after,), (before,) = (list((tmp_path / "run").rglob(name)) for name in ("step-00000001.wav", "base.wav"))
    assert after.read_bytes() == before.read_bytes()
