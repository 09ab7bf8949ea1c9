"""First weights from songs: what PEFT's methods say, the same every time, not heard before training, base untouched."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import laws
import pytest
import torch
from fabricate import MODEL, base, module, song
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from torch import Tensor

from acetrain.acestep.load import Base
from acetrain.acestep.names import linear_layers
from acetrain.adapters.files import saved
from acetrain.adapters.injection import NAME, adapter_layers, adapter_state, load_adapter_state, trainable
from acetrain.adapters.lora import FROM_SONGS, DoRA, Init, LoRA, RsLoRA
from acetrain.data.batch import Batch, collate
from acetrain.data.cache import CachedSong
from acetrain.errors import Refused
from acetrain.training.module import FlowMatching

LAYERS = linear_layers(MODEL.config("transformer"))
NAMES = ["layers.0.self_attn.to_q", "layers.0.self_attn.to_out.0", "layers.0.cross_attn.to_k", "layers.0.mlp.down_proj"]
SHAPES = {name: LAYERS[name] for name in NAMES}
SONGS = [collate([song(60 + 8 * i, 24 + i, seed=i)], [(0, 0, f"{i}.wav", 0)], 1.0) for i in range(3)]


SOME = [pytest.param(init, marks=() if init is Init.lora_ga else pytest.mark.slow) for init in FROM_SONGS]
ONE_NAME = [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])]


def lora(init: Init) -> LoRA:
    return LoRA(4, 6.0, 0.0, init=init, init_songs=3, ranks={"down_proj": 2}, alphas={}, start_from="")


def made(adapter: LoRA, dtype: torch.dtype = torch.float32) -> FlowMatching:
    loaded = base()
    torch.nn.Module.to(loaded.dit, dtype)
    adapter.attach(loaded.dit, NAMES, seed=0)
    return module(loaded, regime=adapter.regime(loaded.dit, 10, SONGS))


def begun(adapter: LoRA, dtype: torch.dtype = torch.float32) -> FlowMatching:
    training = made(adapter, dtype)
    training.regime.begin(training, training.objective)
    return training


def heard(training: FlowMatching) -> Tensor:
    training.dit.eval()
    return laws.output(Base(training.dit, training.null_condition, training.silence))


@pytest.mark.parametrize("init", SOME)
def test_it_is_not_heard_and_leaves_all_but_the_adapter_as_it_was(init: Init, capsys: pytest.CaptureFixture) -> None:
    plain, before, training = dict(base().dit.named_parameters()), laws.output(base()), made(lora(init))
    state = torch.get_rng_state()
    training.regime.begin(training, training.objective)
    assert f"adapter.init: {init.name} has looked at 3 songs in" in capsys.readouterr().out
    assert torch.equal(torch.get_rng_state(), state) and training.training
    after = {name.replace(".base_layer", ""): value for name, value in training.dit.named_parameters()}
    assert all(torch.equal(after[name], weight) for name, weight in plain.items())
    assert not any(value.requires_grad or value.grad is not None for name, value in after.items() if name in plain)
    weights = trainable(training.dit)
    assert len(weights) == 2 * len(NAMES) and all(weight.grad is None for weight in weights.values())
    fresh = adapter_state(made(lora(init)).dit)
    assert all(not torch.equal(fresh[name], weight) for name, weight in weights.items() if "lora_A" in name)
    error = (heard(training) - before).abs().max() / before.abs().max()
    assert error == 0 if init is Init.eva else error < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("init", FROM_SONGS)
def test_it_comes_out_the_same_and_travels_with_the_checkpoint(init: Init) -> None:
    first = adapter_state(begun(lora(init)).dit)
    torch.manual_seed(9)
    assert all(torch.equal(value, first[name]) for name, value in adapter_state(begun(lora(init)).dit).items())
    again = made(lora(init))
    load_adapter_state(again.dit, first)
    assert torch.equal(heard(again), heard(begun(lora(init))))


@pytest.mark.parametrize("init", SOME)
def test_the_saved_adapter_fits_the_untouched_base(init: Init, tmp_path: Path) -> None:
    training = begun(lora(init))
    for weight in trainable(training.dit).values():
        weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    ours = heard(training)
    lora(init).save(training.dit, tmp_path, "tiny", {})
    again = base()
    saved.load(again.dit, [(tmp_path, 1.0)])
    assert (laws.output(again) - ours).abs().max() / ours.abs().max() < 1e-5
    assert (laws.output(base()) - ours).abs().max() / ours.abs().max() > 1e-3


def inputs_of(name: str) -> Tensor:
    """What a layer of the base is given by all songs, as rows."""
    training, rows = module(base()), []
    layer = training.dit.get_submodule(name)
    layer.register_forward_hook(lambda layer, given, _: rows.append(given[0].flatten(0, -2)))
    with torch.no_grad():
        for one in SONGS:
            training.objective(one)
    return torch.cat(rows)


def overlap(ours: Tensor, theirs: Tensor) -> float:
    """How much of the rows of `ours` lies in the span of the rows of `theirs`, from 0 to 1."""
    directions = torch.linalg.qr(theirs.T)[0]
    return ((ours @ directions).norm() / ours.norm()).item()


@pytest.mark.parametrize("name", ONE_NAME)
def test_eva_takes_the_directions_in_which_inputs_vary_most(name: str) -> None:
    a = adapter_layers(begun(lora(Init.eva)).dit)[name].lora_A[NAME].weight
    rows = inputs_of(name)
    spread = rows - rows.mean(0)
    most = torch.linalg.svdvals(spread)[: len(a)].square().sum()
    assert (spread @ a.T).square().sum() > 0.85 * most > 2 * spread.square().sum() * len(a) / rows.shape[1]
    assert torch.allclose(a @ a.T, torch.eye(len(a)), atol=1e-4)


def test_corda_is_pefts_own() -> None:
    ours, theirs = begun(lora(Init.corda)).dit, base()
    config = LoraConfig(
        r=4,
        lora_alpha=6,
        rank_pattern={NAMES[3]: 2},
        alpha_pattern={NAMES[3]: 3},
        target_modules=list(NAMES),
        init_lora_weights="corda",
        corda_config=CordaConfig(corda_method="ipm"),
    )
    training = module(theirs)

    def look() -> None:
        for one in SONGS:
            training.objective(one)

    preprocess_corda(theirs.dit, config, look)
    inject_adapter_in_model(config, theirs.dit)
    for name, layer in adapter_layers(ours).items():
        expected = adapter_layers(theirs.dit)[name]
        assert torch.allclose(layer.lora_A[NAME].weight, expected.lora_A[NAME].weight, atol=1e-5)
        assert torch.allclose(layer.lora_B[NAME].weight, expected.lora_B[NAME].weight, atol=1e-5)


def lengths_in_fp16(loudness: float) -> list[float]:
    """How long LoRA-GA makes the B of each module of a loss that is so many times the usual."""
    training = made(lora(Init.lora_ga), torch.float16)
    with torch.autocast("cpu", torch.float16, cache_enabled=False):
        training.regime.begin(training, lambda batch: loudness * training.objective(batch))
    return [layer.lora_B[NAME].weight.norm().item() for layer in adapter_layers(training.dit).values()]


@pytest.mark.parametrize("loudness", [1e-4, 1e3])
def test_gradients_of_lora_ga_neither_vanish_nor_overflow_in_fp16(loudness: float) -> None:
    expected = [loudness * length for length in lengths_in_fp16(1.0)]
    assert lengths_in_fp16(loudness) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("name", ONE_NAME)
def test_lora_ga_takes_the_singular_vectors_of_the_gradient(name: str) -> None:
    layer = adapter_layers(begun(lora(Init.lora_ga)).dit)[name]
    training = module(base())
    weight = training.dit.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    weight.requires_grad_(True)
    for one in SONGS:
        training.objective(one).backward()
    assert weight.grad is not None
    left, _, right = torch.linalg.svd(weight.grad)
    a, b = layer.lora_A[NAME].weight.detach(), layer.lora_B[NAME].weight.detach()
    rank = len(a)
    assert overlap(a, right[:rank]) > 0.97 and overlap(b.T, left.T[rank : 2 * rank]) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("init", FROM_SONGS)
def test_checkpointing_and_a_16_bit_base_change_little(init: Init) -> None:
    plain, half = begun(lora(init)), begun(lora(init), torch.bfloat16)
    recomputed = made(lora(init))
    recomputed.dit.enable_gradient_checkpointing()
    recomputed.regime.begin(recomputed, recomputed.objective)
    first = adapter_state(plain.dit)
    assert all(torch.allclose(value, first[name], atol=1e-5) for name, value in adapter_state(recomputed.dit).items())
    assert all(value.dtype is torch.float32 for value in adapter_state(half.dit).values())
    for name, layer in adapter_layers(half.dit).items():
        ours, theirs = (one.lora_A[NAME].weight.detach() for one in (layer, adapter_layers(plain.dit)[name]))
        assert overlap(ours, theirs) > 0.9


@pytest.mark.slow
def test_each_kind_of_lora_can_begin_so() -> None:
    for kind, init in ((RsLoRA, Init.lora_ga), (RsLoRA, Init.corda), (DoRA, Init.eva)):
        adapter = kind(**vars(lora(init)))
        before = laws.output(base())
        error = (heard(begun(adapter)) - before).abs().max() / before.abs().max()
        assert error < 1e-5


def songs(*lengths: tuple[int, int]) -> Sequence[CachedSong]:
    return [CachedSong(f"{i}.wav", f"{i}", *length, 1.0, audio="", text="") for i, length in enumerate(lengths)]


def test_songs_that_are_too_short_are_passed_over() -> None:
    adapter = replace(lora(Init.eva), init_songs=2)
    given = songs((12, 50), (64, 7), (16, 8), (90, 50), (90, 50))
    assert [one.name for one in adapter.looked_at(given)] == ["2.wav", "3.wav"]
    adapter.check_songs(given, sharded=False)
    with pytest.raises(Refused, match=r"adapter.init_songs: eva must have .* 16 latent frames and 8 .* are 3, got 4"):
        replace(adapter, init_songs=4).check_songs(given, sharded=False)
    with pytest.raises(Refused, match=r"adapter.init: must be one that looks at no songs where trainer.shard is true"):
        adapter.check_songs(given, sharded=True)
    assert not lora(Init.default).looked_at(given) and isinstance(SONGS[0], Batch)
    lora(Init.default).check_songs([], sharded=True)


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        (
            {"init": Init.eva},
            ["time_embed.linear_1"],
            r"eva must have modules that see .*linear_1 sees one; targets.exc",
        ),
        ({"init": Init.corda}, ["time_embed_r.time_proj"], r"corda must have modules that see many rows of a song"),
        ({"init": Init.eva, "rank": 65}, [NAMES[0]], "eva must have a rank of at most half the module's inputs"),
        ({"init": Init.corda, "rank": 129}, [NAMES[0]], "corda must have a rank of at most the module's smaller side"),
        ({"init": Init.lora_ga, "rank": 65}, [NAMES[0]], "lora_ga must have a rank of at most half .* smaller side"),
        ({"init": Init.lora_ga, "start_from": "x"}, [NAMES[0]], "must be default where adapter.start_from is given"),
        ({"init_songs": 0}, [NAMES[0]], "adapter.init_songs: must be at least 1, got 0"),
    ],
)
def test_what_a_start_cannot_do_is_refused(change: dict, names: list[str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        replace(lora(Init.default), ranks={}, **change).check({name: LAYERS[name] for name in names})


def test_dora_takes_nothing_off_the_base() -> None:
    with pytest.raises(Refused, match=r"adapter.init: must be default, gaussian, orthogonal or eva for DoRA"):
        DoRA(**vars(lora(Init.lora_ga)))
    assert lora(Init.corda).reads_base == "adapter.init=corda" and not lora(Init.eva).reads_base
