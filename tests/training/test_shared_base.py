"""Jobs on one loaded base end in the bits of runs of their own, and leave the base as it was."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import laws
import pytest
import torch
from fabricate import MODEL, cache, module
from runs import QUICK, acetrain, metrics
from safetensors.torch import load_file
from test_laws import EVERYWHERE, option, options

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.load import Base
from acetrain.acestep.weights import sample_weights
from acetrain.adapters.adapter import Adapter
from acetrain.adapters.injection import trainable
from acetrain.adapters.lora import FROM_BASE, FROM_SONGS, Init
from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources
from acetrain.training import checkpoint, fitting, shared_base
from acetrain.training.precision import Format, Precision, Quantised
from acetrain.training.run_folder import written
from acetrain.training.shared_base import SharedBase

CPU = torch.device("cpu")
FORMATS = {
    "fp32": Precision(Format.fp32, Format.fp32, Quantised.none),
    "bf16": Precision(Format.bf16, Format.bf16, Quantised.none),
    "int8": Precision(Format.fp32, Format.fp32, Quantised.int8),
}
WEIGHTS = sample_weights(MODEL.checkpoint, "transformer")


def take(bases: SharedBase, precision: str = "fp32", own: Sequence[str] = ()) -> Base:
    return bases.take(MODEL, WEIGHTS, FORMATS[precision], CPU, own)


def digest(dit: MaskedDiT) -> str:
    """Of all the numbers a DiT holds."""
    total = hashlib.sha256()
    for tensor in [*dit.parameters(), *dit.buffers()]:
        total.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def memory(dit: MaskedDiT) -> list[int]:
    """Where the numbers lie."""
    return [tensor.data_ptr() for tensor in [*dit.parameters(), *dit.buffers()]]


def starts() -> list[Any]:
    """Every adapter, and a LoRA with every start from the base's weights alone."""
    begun = [("lora", init.name) for init in FROM_BASE if init not in FROM_SONGS]
    cases = [*((name, "") for name in options("adapter")), *begun]
    quick = [("lora", ""), ("full", ""), ("lokr_lycoris", ""), ("lora", "pissa")]
    return [pytest.param(*case, marks=() if case in quick else pytest.mark.slow) for case in cases]


def chosen(adapter: str, init: str) -> Adapter:
    found: Any = option("adapter", adapter)
    if init:
        found.init = Init[init]
    return found


@pytest.fixture(scope="module")
def kept() -> SharedBase:
    return SharedBase()


@pytest.fixture(scope="module")
def pristine() -> Base:
    """The base of a process of its own."""
    return take(SharedBase())


@pytest.mark.parametrize(("adapter", "init"), starts())
def test_no_adapter_that_is_trained_changes_the_base_that_is_kept(
    adapter: str, init: str, kept: SharedBase, pristine: Base
) -> None:
    attached, targets = chosen(adapter, init), option("targets", EVERYWHERE)
    names = targets.select(laws.LAYERS)
    loaded = take(kept, own=names if attached.reads_base else ())
    attached.attach(loaded.dit, names, seed=0)
    training = module(loaded, regime=attached.regime(loaded.dit, 4, []))
    laws.advance(training, torch.optim.SGD(trainable(loaded.dit).values(), lr=1.0), 0)
    again = take(kept)
    assert digest(again.dit) == digest(pristine.dit) and not trainable(again.dit)
    assert [name for name, _ in again.dit.named_modules()] == [name for name, _ in pristine.dit.named_modules()]
    assert torch.equal(laws.output(again), laws.output(pristine))


@pytest.mark.parametrize("precision", FORMATS)
def test_copies_share_the_memory_of_the_weights_and_nothing_else(precision: str) -> None:
    bases = SharedBase()
    first, second, own = (take(bases, precision, own=modules) for modules in ((), (), ["time_embed.linear_1"]))
    assert memory(first.dit) == memory(second.dit)
    theirs = dict(own.dit.named_parameters())
    apart = {name for name, one in first.dit.named_parameters() if one.data_ptr() != theirs[name].data_ptr()}
    assert apart == {"time_embed.linear_1.weight", "time_embed.linear_1.bias"}
    assert digest(own.dit) == digest(first.dit)
    modules = [set(map(id, one.dit.modules())) for one in (first, second)]
    parameters = [set(map(id, one.dit.parameters())) for one in (first, second)]
    assert not modules[0] & modules[1] and not parameters[0] & parameters[1]


def test_one_base_is_kept_and_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []

    def loading(model: Any, formats: Precision, device: torch.device) -> Base:
        loads.append(formats.name)
        return load(model, formats, device)

    load = shared_base.load_stored
    monkeypatch.setattr(shared_base, "load_stored", loading)
    bases = SharedBase()
    for precision in ("fp32", "fp32", "bf16", "bf16", "fp32"):
        take(bases, precision)
    assert [name.split(",")[0] for name in loads] == ["fp32", "bf16", "fp32"]
    bases.take(MODEL, "other weights", FORMATS["fp32"], CPU)
    assert len(loads) == 4


SAMPLES = ["samples=prompts", "samples.every=4", "model.steps=1", "samples.prompts=[{caption: a waltz, duration: 0.5}]"]
JOBS = {
    "lora": [],
    "dora": ["adapter=dora", "optimizer=prodigy", "optimizer.lr=1", "seed=1"],
    "full": ["~adapter.rank", "adapter=full", "seed=1"],
    "lokr": ["adapter=lokr", "ema=ema", "trainer.gradient_checkpointing=full"],
    "pissa": ["adapter.init=pissa"],
    "samples": SAMPLES,
    "bf16": ["precision=bf16"],
    "full_bf16": ["~adapter.rank", "adapter=full", "precision=bf16"],
}
STEPS = ["max_steps=4", "trainer.checkpoint_every=2", "trainer.keep=9", "trainer.validate_every=2"]


def overrides(kind: str) -> list[str]:
    own = JOBS[kind]
    quick = [one for one in QUICK if not ("~adapter.rank" in own and one.startswith("adapter"))]
    return [*quick, *STEPS, *(one for one in own if not one.startswith("~"))]


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cache") / "cache", songs=6)


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The jobs that are asked about, one after another, on one base where they have the same."""
    folder, bases = tmp_path_factory.mktemp("shared"), SharedBase()
    items: list[Any] = request.session.items
    asked = {item.callspec.params.get("kind") for item in items if hasattr(item, "callspec")}
    for kind in [kind for kind in JOBS if kind in asked]:
        given = [f"cache={songs}", f"out_dir={folder / kind}", *overrides(kind)]
        job: Any = Composer("train", Sources((PACKAGED,))).compose(list(map(read, given))).build()
        job.check()
        job.run(bases)
    return folder


def music(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in run.glob("samples/*/*.wav")}


@pytest.mark.parametrize(
    "kind", [kind if kind in ("lora", "samples") else pytest.param(kind, marks=pytest.mark.slow) for kind in JOBS]
)
def test_a_job_on_a_shared_base_ends_in_the_bits_of_a_process_of_its_own(
    kind: str, songs: Path, shared: Path, tmp_path: Path
) -> None:
    done = acetrain("train", f"cache={songs}", f"out_dir={tmp_path / kind}", *overrides(kind))
    assert done.returncode == 0, done.stderr
    ours, theirs = shared / kind, tmp_path / kind
    assert metrics(ours) == metrics(theirs) and music(ours) == music(theirs)
    assert [file.name for file in written(ours)] == [file.name for file in written(theirs)]
    for one, other in zip(written(ours), written(theirs), strict=True):
        assert same(vars(checkpoint.read(one)), vars(checkpoint.read(other)))
    assert (ours / "validation.csv").read_bytes() == (theirs / "validation.csv").read_bytes()
    for name in ("adapter", "best"):
        assert same(weights(ours / name), weights(theirs / name))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    [file] = folder.glob("*.safetensors")
    return load_file(file)


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype is other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_several_processes_share_no_base(monkeypatch: pytest.MonkeyPatch, songs: Path, tmp_path: Path) -> None:
    given = [f"cache={songs}", f"out_dir={tmp_path / 'run'}", *QUICK, "trainer.devices=2"]
    job: Any = Composer("train", Sources((PACKAGED,))).compose(list(map(read, given))).build()
    monkeypatch.setattr(SharedBase, "take", lambda *_: pytest.fail("shared"))
    assert fitting._base(job, SharedBase()).dit is not None
