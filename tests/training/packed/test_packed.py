"""Trainings side by side end where each would have ended alone, whatever the others are and do."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import laws
import pytest
import torch
from fabricate import MODEL, cache, module, song
from runs import QUICK, metrics
from safetensors.torch import load_file
from test_laws import EVERYWHERE, option, options
from torch import Tensor

from acetrain.acestep.weights import sample_weights
from acetrain.adapters.injection import trainable
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources
from acetrain.data.batch import Batch, collate
from acetrain.data.loader import Steps
from acetrain.errors import Failed, Interrupted
from acetrain.flow.loss import Reduction
from acetrain.training import checkpoint
from acetrain.training.module import FlowMatching
from acetrain.training.packed.batches import StepsTogether, Together
from acetrain.training.packed.lanes import Lanes
from acetrain.training.packed.module import Pack
from acetrain.training.packed.run import packs, train_together, why_alone
from acetrain.training.precision import Format, Precision, Quantised
from acetrain.training.run_folder import newest_step, written
from acetrain.training.shared_base import SharedBase

WEIGHTS = sample_weights(MODEL.checkpoint, "transformer")
FP32 = Precision(Format.fp32, Format.fp32, Quantised.none)
GRADIENT = 1e-4
"""Largest distance of a lane's gradient from the one alone, relative to its largest entry, in fp32."""
NEAR = 1e-5
"""Largest relative distance, in fp32, of the weights after some steps from those of a run alone."""


@pytest.fixture(scope="module")
def bases() -> SharedBase:
    return SharedBase()


def lane(bases: SharedBase, adapter: str) -> FlowMatching:
    """A module with a fresh adapter, moved a little from where it starts."""
    chosen, names = option("adapter", adapter), option("targets", EVERYWHERE).select(laws.LAYERS)
    loaded = bases.take(MODEL, WEIGHTS, FP32, torch.device("cpu"), names if chosen.reads_base else ())
    chosen.attach(loaded.dit, names, seed=0)
    draw = torch.Generator().manual_seed(1)
    for parameter in trainable(loaded.dit).values():
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=draw)
    return by_itself(module(loaded, regime=chosen.regime(loaded.dit, 4, [])))


def by_itself(training: Any) -> Any:
    """The module without a trainer."""
    training.manual_backward = lambda loss: loss.backward()
    return training


def songs_of(number: int) -> Batch:
    """Two songs of a lane's own, of their own lengths."""
    pairs = [song(60 + 17 * number, 12 + number, seed=number), song(51 + 5 * number, 9, seed=10 + number)]
    return collate(pairs, [(number, 0, f"{index}.wav", 0) for index in range(2)], 0.5)


def gradients(training: FlowMatching) -> dict[str, Tensor]:
    found = {name: weight.grad for name, weight in trainable(training.dit).items()}
    training.zero_grad()
    return {name: gradient for name, gradient in found.items() if gradient is not None}


@pytest.mark.parametrize(
    "adapter",
    [name if name in ("lora", "full") else pytest.param(name, marks=pytest.mark.slow) for name in options("adapter")],
)
def test_a_lanes_gradient_is_that_of_its_songs_alone(adapter: str, bases: SharedBase) -> None:
    lanes = [lane(bases, "lora"), lane(bases, adapter)]
    alone = []
    for number, training in enumerate(lanes):
        losses = training.accumulate([songs_of(number)])[0].losses
        alone.append((losses, gradients(training)))
    pack = by_itself(Pack(bases.take(MODEL, WEIGHTS, FP32, torch.device("cpu")).dit, lanes).train())
    seen = pack.accumulate([Together.of({number: songs_of(number) for number in range(2)})])
    for number, (losses, expected) in enumerate(alone):
        assert torch.allclose(seen[number][0].losses, losses, rtol=1e-5)
        found = gradients(lanes[number])
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert (found[name] - gradient).abs().max() <= GRADIENT * gradient.abs().max() + 1e-9, name


def test_only_what_a_lane_has_changed_is_told_apart(bases: SharedBase) -> None:
    lanes = [lane(bases, "lora"), lane(bases, "ia3")]
    dit = bases.take(MODEL, WEIGHTS, FP32, torch.device("cpu")).dit
    before = dict(dit.named_modules())
    pack = Pack(dit, lanes)
    replaced = {name for name, one in dit.named_modules() if isinstance(one, Lanes)}
    assert replaced == set(option("targets", EVERYWHERE).select(laws.LAYERS))
    assert all(one is before[name] for name, one in dit.named_modules() if name not in replaced)
    trained = {id(weight) for one in lanes for weight in trainable(one).values()}
    assert {id(weight) for weight in trainable(pack).values()} == trained
    assert not trainable(dit)


STEPS = ["max_steps=6", "trainer.checkpoint_every=2", "trainer.keep=9"]
SAMPLES = ["samples=prompts", "samples.every=4", "model.steps=1", "samples.prompts=[{caption: a waltz, duration: 0.5}]"]
JOBS: dict[str, list[str]] = {
    "lora": SAMPLES,
    "dora": ["adapter=dora", "seed=1", "schedule=cosine", "schedule.warmup=2"],
    "lokr": ["adapter=lokr", "optimizer=prodigy", "optimizer.lr=1", "max_steps=4"],
    "full": ["adapter=full", "ema=ema", "seed=3", "songs_per_step=2"],
}


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=7)


def run_of(songs: Path, folder: Path, *own: str) -> Any:
    quick = [one for one in QUICK if not ("adapter=full" in own and one.startswith("adapter."))]
    given = [f"cache={songs}", f"out_dir={folder}", *quick, *STEPS, *own]
    run: Any = Composer("train", Sources((PACKAGED,))).compose(list(map(read, given))).build()
    run.check()
    return run


@pytest.fixture(scope="module")
def alone(songs: Path, bases: SharedBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    for kind, own in JOBS.items():
        run_of(songs, folder / kind, *own).run(bases)
    return folder


@pytest.fixture(scope="module")
def packed(songs: Path, bases: SharedBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    runs = [run_of(songs, folder / kind, *own) for kind, own in JOBS.items()]
    assert packs(runs, 8) == [[0, 1, 2, 3]]
    assert train_together(runs, bases) == [None] * 4
    return folder


def distance(ours: Path, theirs: Path) -> float:
    """Of the weights in two folders, relative."""
    one, other = (load_file(next(folder.glob("*.safetensors"))) for folder in (ours, theirs))
    assert one.keys() == other.keys()
    squares = [((one[name] - other[name]).square().sum(), other[name].square().sum()) for name in one]
    apart, norm = (sum(part) for part in zip(*squares, strict=True))
    return float((apart / norm) ** 0.5)


def ends_alike(ours: Path, theirs: Path) -> None:
    """Whether a run has ended where another did, within rounding."""
    assert [file.name for file in written(ours)] == [file.name for file in written(theirs)]
    names = {file.name for file in theirs.iterdir()}
    assert {file.name for file in ours.iterdir()} == names
    for name in names & {"adapter", "adapter_ema"}:
        assert distance(ours / name, theirs / name) < NEAR
    split = {"padding", "skipped"}
    for row, expected in zip(metrics(ours), metrics(theirs), strict=True):
        for key in expected.keys() - split:
            assert (row[key] == expected[key]) or float(row[key]) == pytest.approx(float(expected[key]), rel=1e-4), key
    last, expected = (checkpoint.read(written(folder)[-1]) for folder in (ours, theirs))
    assert last.identity == expected.identity and last.horizon == expected.horizon and last.step == expected.step


@pytest.mark.parametrize("kind", JOBS)
def test_a_lane_ends_where_the_run_alone_ends(kind: str, packed: Path, alone: Path) -> None:
    ends_alike(packed / kind, alone / kind)


@pytest.mark.slow
def test_a_run_of_a_pack_that_is_done_is_left_as_it_is(
    songs: Path, packed: Path, bases: SharedBase, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run_of(songs, packed / kind, *JOBS[kind]) for kind in ("dora", "lokr")]
    before = [file.read_bytes() for kind in ("dora", "lokr") for file in written(packed / kind)]
    assert train_together(runs, bases) == [None, None]
    assert capsys.readouterr().out.count("nothing left to do") == 2
    assert [file.read_bytes() for kind in ("dora", "lokr") for file in written(packed / kind)] == before


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.slow
def test_a_pack_that_is_killed_goes_on_from_where_each_lane_stands(
    songs: Path, bases: SharedBase, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs(*kinds: str) -> list[Any]:
        return [run_of(songs, tmp_path / kind, *JOBS[kind]) for kind in kinds]

    write: Callable[..., Path] = checkpoint.write

    def until(state: Any, folder: Path, keep: int) -> Path:
        if state.step == 4 and folder.name == "dora":
            raise Killed
        return write(state, folder, keep)

    monkeypatch.setattr(checkpoint, "write", until)
    with pytest.raises(Killed):
        train_together(runs("lora", "dora", "full"), bases)
    monkeypatch.undo()
    assert [newest_step(tmp_path / kind) for kind in ("lora", "dora", "full")] == [4, 2, 2]
    runs("full")[0].run(bases)
    assert train_together(runs("lora", "dora"), bases) == [None, None]
    for kind in ("lora", "dora", "full"):
        ends_alike(tmp_path / kind, alone / kind)


def test_a_signal_ends_all_lanes_with_their_checkpoints(
    songs: Path, bases: SharedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run_of(songs, tmp_path / str(seed), f"seed={seed}") for seed in range(3)]
    accumulate = Pack.accumulate

    def signalled(self: Pack, step: Sequence[Together]) -> Any:
        if self.lanes[0].step == 2:
            self.lanes[2].requested_stop = 15  # the handler of the last lane is the one that hears it
        return accumulate(self, step)

    monkeypatch.setattr(Pack, "accumulate", signalled)
    ended = train_together(runs, bases)
    assert [type(one) for one in ended] == [Interrupted] * 3
    assert [newest_step(run.folder.path) for run in runs] == [3, 3, 3]
    assert all(not (run.folder.path / "adapter").exists() for run in runs)


@pytest.mark.slow
def test_a_lane_that_fails_ends_alone(songs: Path, bases: SharedBase, alone: Path, tmp_path: Path) -> None:
    wild = ["optimizer.lr=1e36", "trainer.max_bad_steps=1"]
    runs = [run_of(songs, tmp_path / "dora", *JOBS["dora"]), run_of(songs, tmp_path / "wild", *wild)]
    done, failed = train_together(runs, bases)
    assert done is None and isinstance(failed, Failed) and "trainer.max_bad_steps" in str(failed)
    ends_alike(tmp_path / "dora", alone / "dora")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "near"),
    [
        (["adapter=adalora", "adapter.target_rank=2", "adapter.interval=1"], NEAR),
        (["adapter.init=pissa"], NEAR),
        (["adapter.init=eva", "adapter.init_songs=3"], NEAR),
        (["adapter=lokr_lycoris", "timesteps=adaptive"], NEAR),
        (["trainer.gradient_checkpointing=full", "loss=huber", "weighting=min_snr"], NEAR),
        (["precision=int8"], NEAR),
        (["precision=bf16"], 0.05),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_other_kinds_of_trainings_go_side_by_side(
    own: list[str], near: float, songs: Path, bases: SharedBase, tmp_path: Path
) -> None:
    quick = ["optimizer.eps=1e-4"]
    run_of(songs, tmp_path / "alone", *own, *quick).run(bases)
    runs = [run_of(songs, tmp_path / f"{seed}", *own, *quick, f"seed={seed}") for seed in (0, 1)]
    assert packs(runs, 2) == [[0, 1]] and train_together(runs, bases) == [None, None]
    assert distance(tmp_path / "0" / "adapter", tmp_path / "alone" / "adapter") < near


def test_what_cannot_go_side_by_side_says_why(songs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)

    def run(*own: str) -> Any:
        return run_of(songs, tmp_path / "x", *own)

    reasons = {
        "adapter.dropout=0.1": "adapter.dropout",
        "trainer.devices=2": "trainer.devices",
        "trainer.compile=block": "trainer.compile=block",
    }
    for own, reason in reasons.items():
        assert reason in why_alone(run(own))
    assert "logger.mode=online" in why_alone(run("logger=wandb", "logger.mode=online"))
    assert "adapter.everything" in why_alone(run("adapter=full", "adapter.everything=true"))
    runs = [run(), run("adapter.dropout=0.1"), run("seed=1"), run("data.max_frames=900"), run("seed=2"), run("seed=3")]
    assert packs(runs, 3) == [[0, 2, 4], [1], [3], [5]]
    assert packs(runs, 1) == [[index] for index in range(6)]


def test_the_frame_budget_counts_the_rows_of_all_lanes(songs: Path, tmp_path: Path) -> None:
    runs = [run_of(songs, tmp_path / "x", f"seed={seed}", f"songs_per_step={seed + 2}") for seed in range(3)]
    budget = 500
    steps = [Steps(run.songs, run.split[0], run.plan, 0, 0, 1, Reduction.song, run.data.cropped) for run in runs]
    together = StepsTogether(steps, (0, 2, 1), (4, 4, 4), budget)
    for index in range(4):
        batches = together[index]
        assert isinstance(batches, list)
        for batch in batches:
            whole = batch.whole()
            assert whole.latents.shape[0] * whole.latents.shape[1] <= max(budget, max(whole.frames))
            assert sum(batch.rows(3)) == len(whole.frames) == len(whole.keys)
        for lane, (run, start) in enumerate(zip(runs, (0, 2, 1), strict=True)):
            keys = [key for batch in batches for at, own in zip(batch.lanes, batch.batches, strict=True)
                    if at == lane for key in own.keys]  # fmt: skip
            visits = run.plan.step(start + index) if start + index < 4 else ()
            assert sorted(keys) == sorted((lane, one.epoch, run.split[0][one.song].name, one.repeat) for one in visits)
