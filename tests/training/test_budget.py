"""The search for the largest frame budget: what it tries, what it leaves behind, and that it changes no result."""

import json
import random
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from fabricate import attached, base, cache, module
from lightning.pytorch import Trainer
from modes import PRECISIONS
from runs import FORKS, QUICK, adapter, metrics

from acetrain.acestep.load import Base
from acetrain.adapters.injection import adapter_state
from acetrain.cli import main
from acetrain.data.split import groups
from acetrain.errors import Failed
from acetrain.training import budget
from acetrain.training.budget import Budget, Extent, find, largest, too_large, worst
from acetrain.training.module import FlowMatching
from acetrain.training.remembered import Remembered

EXTENT = Extent(longest=220, shortest=100, tokens=60, songs_per_step=4)
ACCUMULATE = FlowMatching.accumulate


def limited(limit: int, tried: list[tuple[int, int]], training: FlowMatching, step):
    """`FlowMatching.accumulate` on a card whose memory ends at `limit` padded frames, after the forward pass."""
    tried += [(batch.latents.shape[0], batch.latents.shape[1]) for batch in step]
    seen = ACCUMULATE(training, step)
    if max(songs * frames for songs, frames in tried[-len(step) :]) > limit:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return seen


def on_a_card(monkeypatch: pytest.MonkeyPatch, limit: int) -> list[tuple[int, int]]:
    """Have the CPU taken for a card of `limit` padded frames; the micro-batches that are tried or trained on."""
    tried: list[tuple[int, int]] = []
    monkeypatch.setattr(budget, "card_of", lambda device: ("card", 2**30))
    monkeypatch.setattr(FlowMatching, "accumulate", lambda self, step: limited(limit, tried, self, step))
    return tried


def ready(loaded: Base | None = None) -> FlowMatching:
    """A module as it stands in Lightning's hands before its first step."""
    training = module(loaded or attached(dropout=0.1))
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    training.trainer = trainer
    trainer.strategy.connect(training)
    return training


@pytest.mark.parametrize("grain", [1, 7, 50])
@pytest.mark.parametrize("limit", [99, 100, 101, 163, 399, 400, 799, 5000])
def test_the_search_ends_at_the_limit(limit: int, grain: int) -> None:
    tried: list[int] = []

    def fits(frames: int) -> bool:
        tried.append(frames)
        return frames <= limit

    found = largest(fits, 100, 800, grain)
    if limit < 100:
        assert found == 0 and tried == [100]
        return
    assert found in tried and min(limit, 800) - grain < found <= min(limit, 800)
    assert len(tried) == len(set(tried)) <= 15 and max(tried) <= 800


def test_no_micro_batch_takes_more_than_those_tried() -> None:
    draw = random.Random(0)
    for _ in range(300):
        lengths = [draw.randint(20, 400) for _ in range(draw.randint(1, 6))]
        a, b, c = (draw.random() ** 4 for _ in range(3))
        extent = Extent(max(lengths), min(lengths), 50, len(lengths))
        frames = draw.randint(min(lengths), sum(lengths) * 2)

        def memory(songs: int, longest: int, weights=(a, b / 100, 50 * c)) -> float:
            return songs * (weights[0] * longest + weights[1] * longest**2 + weights[2])

        most = max(memory(*shape) for shape in [(1, extent.longest), *worst(extent, frames)])
        for group in groups(lengths, frames):
            assert memory(len(group), max(lengths[index] for index in group)) <= most


@pytest.mark.parametrize("limit", [220, 450, 700, 10**6])
def test_real_steps_find_the_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = on_a_card(monkeypatch, limit)
    found = find(ready(), EXTENT)
    assert min(limit, 880) - 13 <= found < min(limit, 880) + EXTENT.songs_per_step  # 701 frames are 4 songs of 175
    assert tried[0] == (1, 220)
    assert any(songs * frames > limit for songs, frames in tried) == (limit < 880)


def test_the_search_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    training = ready()
    optimizer = training.configure_optimizers()
    before = adapter_state(training.dit)
    frozen = {name: value.clone() for name, value in training.dit.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    tried = on_a_card(monkeypatch, 500)
    find(training, EXTENT)
    assert len(tried) > 6
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in adapter_state(training.dit).items())
    assert all(torch.equal(value, frozen[name]) for name, value in training.dit.state_dict().items())
    assert all(parameter.grad is None for parameter in training.parameters())
    assert not optimizer.state and training.step == 0 and training.report is None


def test_a_card_that_holds_no_song_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_card(monkeypatch, 219)
    with pytest.raises(Failed, match=r"data.max_frames: one song of 220 frames .* card, with 0 of 4 blocks recom"):
        Budget(None, EXTENT, Remembered("")).frames(ready())


def test_without_a_gpu_auto_is_a_stated_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Budget(None, EXTENT, Remembered(str(tmp_path))).frames(module(attached())) == budget.WITHOUT_CARD
    assert capsys.readouterr().out == f"data.max_frames: {budget.WITHOUT_CARD}, what auto stands for without a GPU\n"
    assert not list(tmp_path.iterdir())


def test_a_number_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = on_a_card(monkeypatch, 300)
    assert Budget(77, EXTENT, Remembered(str(tmp_path))).frames(ready()) == 77
    assert not tried and not list(tmp_path.iterdir())


def test_what_was_found_is_remembered_for_the_same_circumstances(tmp_path, monkeypatch, capsys) -> None:
    tried = on_a_card(monkeypatch, 500)
    remembered = Remembered(str(tmp_path / "cache"))
    found = Budget(None, EXTENT, remembered).frames(ready())
    assert f"data.max_frames: {found}, what real steps left room for on card" in capsys.readouterr().out
    tries = len(tried)
    assert Budget(None, EXTENT, remembered).frames(ready()) == found and len(tried) == tries
    assert f"data.max_frames: {found}, as found on card before" in capsys.readouterr().out
    entry = next(iter(json.loads(remembered.file.read_text()).values()))
    assert entry["card"] == "card" and entry["torch"] == torch.__version__ and entry["max_frames"] == found
    Budget(None, EXTENT, remembered).frames(ready(attached(rank=2)))
    assert len(tried) > tries
    tries = len(tried)
    checkpointed = attached(dropout=0.1)
    checkpointed.dit.recompute(1)
    Budget(None, EXTENT, remembered).frames(ready(checkpointed))
    assert len(tried) > tries and len(json.loads(remembered.file.read_text())) == 3


def test_a_folder_of_budgets_that_cannot_be_used_is_told_and_ends_no_run(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    remembered = Remembered(str(tmp_path / "file" / "folder"))
    remembered.keep({"card": "a"}, 500)
    assert f"data.budgets: {remembered.file} cannot be written (" in capsys.readouterr().out
    assert remembered.find({"card": "a"}) == 0
    assert f"data.budgets: {remembered.file} cannot be read (" in capsys.readouterr().out


def test_a_file_of_budgets_that_cannot_be_read_is_told_and_replaced(tmp_path: Path, capsys) -> None:
    remembered = Remembered(str(tmp_path))
    remembered.file.write_text("{")
    assert remembered.find({"card": "a"}) == 0 and "is not JSON" in capsys.readouterr().out
    remembered.keep({"card": "a"}, 5)
    assert remembered.find({"card": "a"}) == 5 and remembered.find({"card": "b"}) == 0
    assert Remembered("").find({"card": "a"}) == 0


def keep_ten(folder: str, process: int) -> None:
    for index in range(10):
        Remembered(folder).keep({"process": process, "index": index}, 1 + process)


@pytest.mark.slow
def test_processes_that_remember_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [FORKS.Process(target=keep_ten, args=(str(tmp_path), number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    found = [Remembered(str(tmp_path)).find({"process": p, "index": i}) for p in range(4) for i in range(10)]
    assert found == [1 + p for p in range(4) for _ in range(10)]
    assert not [path for path in tmp_path.iterdir() if path.name not in ("budgets.json", "budgets.lock")]


def one_of_two(rank: int, folder: Path) -> None:
    """A rank whose card holds less the higher the rank."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    training = ready()
    budget.card_of = lambda device: (f"card {rank}", 2**30)
    FlowMatching.accumulate = partial(limited, (700, 330)[rank], [], training)  # pyright: ignore
    found = Budget(None, EXTENT, Remembered(str(folder))).frames(training)
    (folder / f"{rank}.txt").write_text(str(found))
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_agree_on_what_the_smallest_card_holds(tmp_path: Path) -> None:
    processes = [FORKS.Process(target=one_of_two, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found = [int((tmp_path / f"{rank}.txt").read_text()) for rank in range(2)]
    assert found[0] == found[1] and 330 - 13 <= found[0] <= 330


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=6)


def run(songs: Path, folder: Path, *overrides: str) -> int:
    return main(["train", f"cache={songs}", f"out_dir={folder}", *QUICK, "max_steps=6", *overrides])


@pytest.mark.slow
def test_a_run_that_finds_its_budget_ends_in_the_bits_of_one_that_is_given_it(songs, tmp_path, monkeypatch, capsys):
    tried = on_a_card(monkeypatch, 500)
    arguments = [f"data.budgets={tmp_path}", "adapter.dropout=0.1"]
    assert run(songs, tmp_path / "auto", "data.max_frames=auto", *arguments) == 0
    found = next(iter(json.loads((tmp_path / "budgets.json").read_text()).values()))["max_frames"]
    assert f"data.max_frames: {found}, " in capsys.readouterr().out and len(tried) > 20
    tried.clear()
    assert run(songs, tmp_path / "again", "data.max_frames=auto", *arguments) == 0
    assert "as found on card before" in capsys.readouterr().out
    trained = list(tried)
    assert run(songs, tmp_path / "given", f"data.max_frames={found}", *arguments) == 0
    assert tried == 2 * trained
    ours = adapter(tmp_path / "auto")
    for other in ("again", "given"):
        theirs = adapter(tmp_path / other)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert metrics(tmp_path / "auto") == metrics(tmp_path / other)


def test_memory_that_runs_out_in_training_is_one_clear_line(songs, tmp_path, monkeypatch, capsys):
    on_a_card(monkeypatch, 250)
    settings = ["data.max_frames=500", "trainer.gradient_checkpointing=none", "optimizer.beta2=0.9"]
    assert run(songs, tmp_path / "run", *settings) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "data.max_frames: a micro-batch of 500 frames does not fit the memory of card" in said
    assert "lower data.max_frames" in said and "trainer.gradient_checkpointing=full" in said


@pytest.mark.parametrize(
    ("name", "helping"),
    [("fp32", ", set precision=bf16,"), ("bf16", ", set precision=nf4,"), ("nf4_bf16", "=full, or")],
)
def test_what_helps_is_not_what_is_chosen_already(name: str, helping: str) -> None:
    loaded, formats = base(), PRECISIONS[name]
    torch.nn.Module.to(loaded.dit, formats.base.dtype)
    formats.store(loaded.dit)
    assert helping in too_large(module(loaded), "a micro-batch")
