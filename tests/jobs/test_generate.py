"""`acetrain generate`: upstream's music, the same file for the same seed, and the adapter at its strength."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fabricate import RATE
from tones import write_tone

from acetrain.acestep.load import load_pipeline
from acetrain.acestep.model import Tiny
from acetrain.acestep.names import linear_layers
from acetrain.acestep.tasks import Complete, Cover, Extract, Lego, Repaint, Text2music
from acetrain.adapters.files import peft
from acetrain.adapters.lora import Init, LoRA
from acetrain.data.audio import read
from acetrain.data.prompt import INSTRUMENTAL
from acetrain.errors import Failed, Refused
from acetrain.jobs.generate import Generate
from acetrain.keyed import seed_of
from acetrain.training.precision import Format, Precision, Quantised
from acetrain.training.trainer import Accelerator

LEAST = 2**-15
"""The step of 16 bits, which the file cuts samples to."""


@pytest.fixture
def job(tmp_path: Path, tiny: Tiny, fp32: Precision) -> Generate:
    """One second with the base."""
    return Generate(
        adapter_path="",
        scale=1.0,
        adapter_paths=[],
        scales=[],
        prompt="a calm piano, [soft]",
        lyrics="",
        duration=1.0,
        output=str(tmp_path / "music" / "x.wav"),
        overwrite=False,
        seed=0,
        reference="",
        bpm=97,
        keyscale="F♯ minor",
        timesignature="3",
        language="en",
        steps=None,
        shift=None,
        guidance=None,
        accelerator=Accelerator.cpu,
        model=tiny,
        task=Text2music(),
        precision=fp32,
    )


@pytest.fixture(scope="session")
def adapter(tmp_path_factory, tiny: Tiny) -> Path:
    """A LoRA on the attention of the tiny base that changes its output."""
    dit = load_pipeline(tiny, torch.float32, "cpu").transformer
    names = [name for name in linear_layers(tiny.config("transformer")) if "_attn." in name]
    LoRA(rank=4, alpha=8.0, dropout=0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from="").attach(
        dit, names, 0
    )
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in dit.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    folder = tmp_path_factory.mktemp("adapter")
    peft.save(dit, folder, "tiny", {})
    return folder


def run(job: Generate) -> bytes:
    job.check()
    job.run()
    return Path(job.output).read_bytes()


def settings(job: Generate) -> dict:
    return json.loads(Path(job.output).with_suffix(".json").read_text(encoding="utf-8"))


def test_the_base_gives_what_upstreams_pipeline_gives(job: Generate, pipeline) -> None:
    run(job)
    expected = pipeline(
        prompt="a calm piano, [soft]",
        lyrics=INSTRUMENTAL,
        audio_duration=1.0,
        num_inference_steps=4,
        guidance_scale=1.0,
        shift=1.0,
        bpm=97,
        keyscale="F# minor",
        timesignature="3",
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).audios[0]
    written = read(Path(job.output), RATE)
    assert written.shape == expected.shape == (2, RATE)
    assert np.abs(written - expected).max() < LEAST + 1e-6
    assert abs(np.abs(written).max() - 10 ** (-1 / 20)) < 1e-3


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_the_same_seed_gives_the_same_files(job: Generate, tmp_path: Path, suffix: str) -> None:
    first, second = (replace(job, output=str(tmp_path / name / f"x{suffix}")) for name in "ab")
    assert run(first) == run(second)
    assert settings(first) == settings(second)
    assert run(replace(job, output=str(tmp_path / f"c{suffix}"), seed=1)) != Path(first.output).read_bytes()


def test_the_adapter_acts_at_its_scale(job: Generate, adapter: Path, tmp_path: Path) -> None:
    jobs = {
        scale: replace(job, adapter_path=str(adapter), scale=scale, output=str(tmp_path / f"{scale}.wav"))
        for scale in (0.0, 0.5, 1.0)
    }
    made = {scale: run(each) for scale, each in jobs.items()}
    assert made[0.0] == run(job) and len(set(made.values())) == 3
    assert settings(jobs[0.5])["adapters"][0]["scale"] == 0.5
    weights = replace(jobs[1.0], adapter_path=str(adapter / peft.WEIGHTS), output=str(tmp_path / "file.wav"))
    assert run(weights) == made[1.0]


def test_several_adapters_add_up(job: Generate, adapter: Path, tmp_path: Path) -> None:
    def made(name: str, **changes) -> bytes:
        return run(replace(job, output=str(tmp_path / f"{name}.wav"), **changes))

    twice = [str(adapter)] * 2
    one = made("one", adapter_path=str(adapter))
    made("halves", adapter_paths=twice, scales=[0.5, 0.5])
    assert _close(tmp_path)
    assert made("off", adapter_paths=twice, scales=[1.0, 0.0]) == one
    assert made("more", adapter_paths=twice) != one
    assert [each["scale"] for each in settings(replace(job, output=str(tmp_path / "halves.wav")))["adapters"]] == [
        0.5,
        0.5,
    ]


def _close(folder: Path) -> bool:
    one, halves = (read(folder / f"{name}.wav", RATE) for name in ("one", "halves"))
    return bool(np.abs(one - halves).max() < 2e-3)


TASKS = {
    "repaint": lambda source: Repaint(source, 0.3, 0.7),
    "cover": lambda source: Cover(source, 0.5),
    "extract": lambda source: Extract(source, "drums"),
    "lego": lambda source: Lego(source, 0.2, None, ""),
    "complete": lambda source: Complete(source, ["drums", "bass"]),
}


@pytest.mark.parametrize(
    "name", [name if name == "cover" else pytest.param(name, marks=pytest.mark.slow) for name in TASKS]
)
def test_a_task_gives_what_upstreams_pipeline_gives(job: Generate, pipeline, tmp_path: Path, name: str) -> None:
    source = tmp_path / "source.wav"
    write_tone(source, 1.2, 22050, 1, None)
    task = TASKS[name](str(source))
    made = run(replace(job, task=task, reference=str(source)))
    heard = torch.from_numpy(read(source, RATE))
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(0, "heard"))
        expected = pipeline(
            prompt="a calm piano, [soft]",
            lyrics=INSTRUMENTAL,
            audio_duration=None,
            num_inference_steps=4,
            guidance_scale=1.0,
            shift=1.0,
            bpm=97,
            keyscale="F# minor",
            timesignature="3",
            generator=torch.Generator().manual_seed(0),
            output_type="np",
            src_audio=heard,
            reference_audio=heard,
            **task.arguments(),
        ).audios[0]
    assert np.abs(read(Path(job.output), RATE) - expected).max() < LEAST + 1e-6
    found = settings(job)
    assert found["task"]["task_type"] == name and found["source"]["sha256"] == found["reference"]["sha256"]
    assert run(replace(job, task=task, reference=str(source))) == made
    assert run(replace(job, task=task, output=str(tmp_path / "without.wav"))) != made


def test_what_a_task_starts_from_must_be_there(job: Generate, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    for change, message in [
        ({"task": Cover(str(tmp_path / "none.wav"), 1.0)}, r"task.source: .*none.wav does not exist"),
        ({"reference": str(tmp_path / "none.wav")}, r"reference: .*none.wav does not exist"),
        ({"task": Extract(str(tmp_path / "text.wav"), "")}, r"task.source: .*text.wav cannot be decoded"),
    ]:
        with pytest.raises(Refused, match=message):
            run(replace(job, **change))
    assert not Path(job.output).parent.exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cover("", 1.0), "task.source: must be an audio file, got ''"),
        (lambda: Cover("x", 1.5), "task.strength: must be in [0, 1], got 1.5"),
        (lambda: Repaint("x", -1.0, None), "task.start: must be at least 0, got -1.0"),
        (lambda: Lego("x", 2.0, 1.0, ""), "task.end: must be above task.start, or null, got 1.0"),
    ],
)
def test_values_of_a_task_out_of_range_are_refused(make, message: str) -> None:
    with pytest.raises(Refused) as refusal:
        make()
    assert str(refusal.value) == message


def test_tasks_of_the_base_warn_elsewhere() -> None:
    assert Lego("x", 0.0, None, "").warning("turbo") and not Lego("x", 0.0, None, "").warning("xl_base")
    assert not Repaint("x", 0.0, None).warning("turbo")


def test_an_adapter_works_on_a_bf16_base(job: Generate, adapter: Path) -> None:
    run(replace(job, adapter_path=str(adapter), precision=Precision(Format.bf16, Format.bf16, Quantised.none)))
    assert settings(job)["precision"] == "bf16"


def test_all_settings_stand_beside_the_music(job: Generate) -> None:
    run(replace(job, steps=2, shift=3.0, guidance=2.0, lyrics="[verse]\n바다", language="ko"))
    found = settings(job)
    assert found["sampling"] == {"duration": 1.0, "seed": 0, "steps": 2, "shift": 3.0, "guidance": 2.0}
    assert found["prompt"] == {
        "caption": "a calm piano, [soft]",
        "lyrics": "[verse]\n바다",
        "bpm": 97,
        "keyscale": "F# minor",
        "timesignature": "3",
        "language": "ko",
    }
    assert (found["model"], found["adapters"]) == ("tiny", []) and set(found["versions"]) >= {"acetrain", "torch"}


def test_the_models_own_settings_are_the_defaults(job: Generate) -> None:
    run(replace(job, model=replace(job.model, steps=3, shift=2.0)))
    assert settings(job)["sampling"] == {"duration": 1.0, "seed": 0, "steps": 3, "shift": 2.0, "guidance": 1.0}


def test_guidance_changes_the_music(job: Generate, tmp_path: Path) -> None:
    assert run(job) != run(replace(job, guidance=4.0, output=str(tmp_path / "guided.wav")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": " \n"}, "prompt: must be a text, got ' \\n'"),
        ({"scale": float("nan")}, "scale: must be a finite number, got nan"),
        ({"scale": float("inf")}, "scale: must be a finite number, got inf"),
        (
            {"adapter_path": "a", "adapter_paths": ["b"]},
            "adapter_paths: must be empty where adapter_path is given, got ['b']",
        ),
        (
            {"adapter_paths": ["b"], "scales": [1.0, 2.0]},
            "scales: must be empty, or 1 as adapter_paths has, got [1.0, 2.0]",
        ),
        ({"adapter_paths": ["b"], "scales": [float("nan")]}, "scales: must be finite numbers, got [nan]"),
        ({"duration": 0.0}, "duration: must be above 0 and at most 600 s, got 0.0"),
        ({"duration": 600.1}, "duration: must be above 0 and at most 600 s, got 600.1"),
        ({"duration": float("nan")}, "duration: must be above 0 and at most 600 s, got nan"),
        ({"seed": -1}, "seed: must be from 0 to 2^63 - 1, got -1"),
        ({"steps": 0}, "steps: must be at least 1, or null, got 0"),
        ({"shift": 0.0}, "shift: must be above 0, or null, got 0.0"),
        ({"guidance": 0.5}, "guidance: must be at least 1, or null, got 0.5"),
        ({"output": "x.mp3"}, "output: must be a .wav, .flac, .ogg file, got 'x.mp3'"),
        ({"output": "wav"}, "output: must be a .wav, .flac, .ogg file, got 'wav'"),
        ({"bpm": 20}, "bpm: must be a number from 30 to 300, got 20"),
        ({"keyscale": "H minor"}, "keyscale: must be a key like 'C major', 'F# minor' or 'B♭ major', got 'H minor'"),
        ({"timesignature": "5"}, "timesignature: must be one of 2, 3, 4, 6, got '5'"),
        ({"language": "korean!"}, "language: must be a code like en, ko or unknown, got 'korean!'"),
    ],
)
def test_values_out_of_range_are_refused(job: Generate, change: dict, message: str) -> None:
    with pytest.raises(Refused) as refusal:
        replace(job, **change)
    assert str(refusal.value) == message


def test_paths_that_do_not_do_are_refused_and_nothing_is_created(job: Generate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.wav").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for change, message in [
        ({"adapter_path": str(tmp_path / "none")}, r"adapter_path: .*none does not exist"),
        ({"output": str(tmp_path / "file" / "x.wav")}, r"output: .*file is a file; a folder is needed"),
        ({"output": str(tmp_path / "folder.wav")}, r"output: .*folder.wav is a folder"),
        ({"model": replace(job.model, path=str(tmp_path / "none"))}, r"model.path: .*none does not exist"),
    ]:
        with pytest.raises(Refused, match=message):
            run(replace(job, **change))
    assert sorted(tmp_path.rglob("*")) == before


def test_only_what_these_settings_made_is_replaced(job: Generate) -> None:
    first = run(job)
    assert run(job) == first
    other = replace(job, seed=1)
    with pytest.raises(Refused, match=r"x.wav exists and was made otherwise; overwrite=true replaces it"):
        other.check()
    second = run(replace(other, overwrite=True))
    assert second != first and settings(job)["sampling"]["seed"] == 1
    Path(job.output).write_bytes(second + b"edited")
    with pytest.raises(Refused, match="made otherwise"):
        other.check()
    Path(job.output).with_suffix(".json").unlink()
    with pytest.raises(Refused, match="made otherwise"):
        other.check()


def test_a_sidecar_that_is_in_the_way_is_not_replaced(job: Generate) -> None:
    sidecar = Path(job.output).with_suffix(".json")
    sidecar.parent.mkdir(parents=True)
    sidecar.write_text('{"bpm": 120}')
    with pytest.raises(Refused, match=r"x.json exists and was made otherwise"):
        run(job)
    assert sidecar.read_text() == '{"bpm": 120}' and not Path(job.output).exists()


def test_non_finite_music_is_not_written(job: Generate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acetrain.acestep.sampling.sample", lambda *_: np.full((2, 9), np.nan, np.float32))
    with pytest.raises(Failed, match="non-finite samples: nothing was written"):
        run(job)
    assert not Path(job.output).parent.exists()
