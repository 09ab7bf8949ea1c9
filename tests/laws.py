"""The laws every option of a group obeys, one assertion each; `test_laws.py` holds them against every option."""

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from fabricate import CHANNELS, MODEL, attached, base, module, song
from scipy.stats import kstest
from torch import Tensor, nn
from torch.optim import Optimizer

from acetrain.acestep.load import Base, text_to_music_context
from acetrain.acestep.names import diffusers, linear_layers
from acetrain.acestep.quantised import dequantise, quantise
from acetrain.adapters.adapter import Adapter
from acetrain.adapters.files import saved
from acetrain.adapters.injection import adapter_state, load_adapter_state, trainable
from acetrain.adapters.merging import merge
from acetrain.adapters.summary import trained_modules
from acetrain.adapters.targets import Targets
from acetrain.data.batch import collate
from acetrain.flow.loss import Loss
from acetrain.flow.timesteps import Timesteps
from acetrain.flow.weighting import Weighting
from acetrain.training import checkpoint
from acetrain.training.checkpoint import Checkpoint
from acetrain.training.draws import draw
from acetrain.training.ema import EmaOption
from acetrain.training.module import FlowMatching
from acetrain.training.optimizer import OptimizerOption
from acetrain.training.precision import Precision
from acetrain.training.schedule import CosineRestarts, Horizon, Schedule

LAYERS = linear_layers(MODEL.config("transformer"))
SONGS = [song(frames, 20, seed=frames) for frames in (61, 90)]
STEPS = 4
"""Of a run."""
BATCH = collate(SONGS, [(0, 0, f"{index}.wav", 0) for index in range(2)], 0.5)


@torch.no_grad()
def output(loaded: Base) -> Tensor:
    """What the DiT makes of two padded songs."""
    context = text_to_music_context(loaded.silence, 90).expand(2, -1, -1)
    t = torch.tensor([0.6, 0.3])
    velocity = loaded.dit.velocity(BATCH.latents, t, BATCH.condition, context, BATCH.frames, BATCH.tokens)
    return torch.cat([velocity[0, :61], velocity[1]])


def begun(
    adapter: Adapter, targets: Targets, optimizer: OptimizerOption | None = None
) -> tuple[Base, FlowMatching, Optimizer]:
    """The tiny base with a fresh adapter, and what trains it."""
    loaded = base()
    adapter.attach(loaded.dit, targets.select(LAYERS), seed=0)
    weights = trainable(loaded.dit)
    descent = torch.optim.AdamW(weights.values(), lr=1e-2) if optimizer is None else optimizer.build(weights)
    return loaded, module(loaded, regime=adapter.regime(loaded.dit, STEPS, [])), descent


def advance(training: FlowMatching, descent: Optimizer, step: int) -> None:
    """One optimizer step on two songs."""
    batch = collate(SONGS, [(0, step, f"{index}.wav", 0) for index in range(2)], 0.5)
    loss = training.song_losses(batch, draw(batch, training.recipe.timesteps, 0.0)).mean()
    penalty = training.regime.penalty()
    (loss if penalty is None else loss + penalty).backward()
    descent.step()
    training.regime.stepped(step + 1, finite=True)
    descent.zero_grad()


def trained(adapter: Adapter, targets: Targets, optimizer: OptimizerOption | None = None, steps: int = 3) -> Base:
    """The tiny base with the adapter after a few steps on two songs."""
    loaded, training, descent = begun(adapter, targets, optimizer)
    for step in range(steps):
        advance(training, descent, step)
    loaded.dit.eval()
    return loaded


def attaching_changes_no_output(adapter: Adapter, targets: Targets) -> None:
    loaded = base()
    before = output(loaded)
    adapter.attach(loaded.dit, targets.select(LAYERS), seed=0)
    loaded.dit.eval()
    assert torch.equal(output(loaded), before)


def training_changes_the_adapter_and_no_base_weight(adapter: Adapter, targets: Targets) -> None:
    loaded = trained(adapter, targets)
    before = dict(base().dit.named_parameters())
    after = {name.replace(".base_layer", ""): weight for name, weight in loaded.dit.named_parameters()}
    frozen = before.keys() - trainable(loaded.dit).keys()
    assert frozen and all(torch.equal(after[name], before[name]) for name in frozen)
    assert not torch.equal(output(loaded), output(base()))


def exactly_the_selected_modules_are_adapted(adapter: Adapter, targets: Targets) -> None:
    found = {diffusers(one.module) for one in trained_modules(trained(adapter, targets, steps=0).dit)}
    assert found == set(targets.select(LAYERS))


def saved_and_loaded_is_the_same(adapter: Adapter, targets: Targets, folder) -> None:
    ours = trained(adapter, targets)
    adapter.save(ours.dit, folder, "tiny", {})
    ours.dit.requires_grad_(False)  # torch chooses kernels by it
    loaded = base()
    saved.load(loaded.dit, [(folder, 1.0)])
    loaded.dit.eval()
    assert torch.equal(output(loaded), output(ours))


def goes_on_to_the_bit(adapter: Adapter, targets: Targets) -> None:
    def run(stop: int) -> dict[str, Tensor]:
        loaded, training, descent = begun(adapter, targets)
        for step in range(STEPS):
            if step == stop:
                weights, kept, state = adapter_state(loaded.dit), training.regime.state(), descent.state_dict()
                loaded, training, descent = begun(adapter, targets)
                load_adapter_state(loaded.dit, weights)
                training.regime.load(kept)
                descent.load_state_dict(state)
            advance(training, descent, step)
        return adapter_state(loaded.dit)

    straight, stopped = run(-1), run(2)
    assert straight and all(torch.equal(stopped[name], weight) for name, weight in straight.items())


def merged_is_the_same(adapter: Adapter, targets: Targets) -> None:
    loaded = trained(adapter, targets)
    before = output(loaded)
    merge(loaded.dit)
    error = (output(loaded) - before).abs().max() / before.abs().max()
    assert error < 1e-5


CPU = torch.device("cpu")
SHAPES = {"lora_A": (16, 512), "lora_B": (512, 16), "lora_magnitude_vector": (512,)}
"""Of the weights that optimizers are tried on: the matrices are large enough for states in 8 bits."""


def fresh_weights() -> dict[str, nn.Parameter]:
    """Weights named and started as an adapter's: A drawn, B zero."""
    drawn = {
        weight: torch.randn(shape, generator=torch.Generator().manual_seed(number)) * (weight != "lora_B") * 0.1
        for number, (weight, shape) in enumerate(SHAPES.items())
    }
    return {f"transformer_blocks.0.attn.to_q.{weight}.default.weight": nn.Parameter(drawn[weight]) for weight in drawn}


def misfit(weights: dict[str, nn.Parameter], step: int) -> Tensor:
    """How far what the weights make of a few inputs, drawn by the step, is from a fixed map of them."""
    a, b, magnitude = weights.values()
    draw, fixed = torch.Generator().manual_seed(1000 + step), torch.Generator().manual_seed(7)
    inputs, goal = torch.randn(8, 512, generator=draw), torch.randn(512, generator=fixed)
    inputs, goal = inputs.to(a.device), goal.to(a.device)
    return ((inputs @ a.T @ b.T + inputs * magnitude) - inputs * goal).square().mean()


def descended(
    optimizer: OptimizerOption, steps: int, stop: int = -1, device: torch.device = CPU
) -> tuple[dict[str, nn.Parameter], Optimizer]:
    """Weights and optimizer after `steps` steps, through a file after `stop` of them."""
    weights = {name: nn.Parameter(weight.detach().to(device)) for name, weight in fresh_weights().items()}
    descent = optimizer.build(weights)
    for step in range(steps):
        if step == stop:
            weights, descent = through_a_checkpoint(optimizer, weights, descent)
        misfit(weights, step).backward()
        descent.step()
        descent.zero_grad()
    return weights, descent


def through_a_checkpoint(
    optimizer: OptimizerOption, weights: dict[str, nn.Parameter], descent: Optimizer
) -> tuple[dict[str, nn.Parameter], Optimizer]:
    """Weights and optimizer as a new process finds them."""
    adapter = {name: weight.detach().cpu() for name, weight in weights.items()}
    device = next(iter(weights.values())).device
    with TemporaryDirectory() as folder:
        written = Checkpoint(
            step=0,
            identity={},
            adapter=adapter,
            average={},
            optimizer=descent.state_dict(),
            horizon={},
            bad_steps=0,
            running=torch.zeros(0),
            progress={},
        )
        found = checkpoint.read(checkpoint.write(written, Path(folder), keep=1))
    again = {name: nn.Parameter(weight.to(device)) for name, weight in found.adapter.items()}
    new = optimizer.build(again)
    checkpoint.load_optimizer(new, found.optimizer)
    return again, new


def resumes_to_the_bit(optimizer: OptimizerOption, device: torch.device = CPU) -> None:
    ours, our_descent = descended(optimizer, 9, stop=4, device=device)
    theirs, their_descent = descended(optimizer, 9, device=device)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert optimizer.figures(our_descent) == optimizer.figures(their_descent)
    with optimizer.evaluating(our_descent), optimizer.evaluating(their_descent):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def lowers_a_loss(optimizer: OptimizerOption) -> None:
    raised = replace(optimizer, lr=max(optimizer.lr, 1e-3))
    weights, descent = descended(raised, 120)
    with torch.no_grad(), raised.evaluating(descent):
        after, before = misfit(weights, 500), misfit(fresh_weights(), 500)
    assert after < 0.95 * before


def evaluating_leaves_no_trace(optimizer: OptimizerOption) -> None:
    weights, descent = descended(optimizer, 5)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    state = copy.deepcopy(descent.state_dict())
    with optimizer.evaluating(descent):
        pass
    assert all(torch.equal(weights[name], before[name]) for name in weights)
    assert repr(descent.state_dict()) == repr(state)


def starts_every_group_at_its_rate(optimizer: OptimizerOption) -> None:
    weights = fresh_weights()
    descent = optimizer.build(weights)
    rates = {id(weight): group["lr"] for group in descent.param_groups for weight in group["params"]}
    expected = {id(weight): optimizer.lr * optimizer.lr_factor(name) for name, weight in weights.items()}
    assert rates == expected


def moves_every_weight_of_the_adapter_in_fp32_and_no_other(optimizer: OptimizerOption) -> None:
    loaded = attached()
    before = {name: weight.detach().clone() for name, weight in loaded.dit.named_parameters()}
    training, descent = module(loaded), optimizer.build(trainable(loaded.dit))
    for step in range(3):
        advance(training, descent, step)
    after = dict(loaded.dit.named_parameters())
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved == set(trainable(loaded.dit))
    assert all(after[name].dtype is torch.float32 for name in moved)


def averages_without_a_trace_and_goes_on_to_the_bit(ema: EmaOption) -> None:
    draw = torch.Generator().manual_seed(0)
    path = torch.randn(7, 5, generator=draw)
    weights, judged = [nn.Parameter(path[0].clone())], []
    average, stopped = ema.over(weights), ema.over(weights)
    assert (average is None) == (ema.kinds == ("",))
    for step, point in enumerate(path[1:], start=1):
        weights[0].data.copy_(point)
        for kept in filter(None, (average, stopped)):
            kept.follow(weights, step)
        if step == 3 and stopped is not None:
            state, stopped = stopped.state(), ema.over([nn.Parameter(torch.zeros(5))])
            assert stopped is not None
            stopped.load(state)
    for kept in filter(None, (average, stopped)):
        with kept.within(weights):
            judged.append(weights[0].detach().clone())
        assert torch.equal(weights[0], path[-1])
    assert all(torch.equal(found, judged[0]) and not torch.equal(found, path[-1]) for found in judged)


def stays_within_the_peak_and_rises_at_restarts_only(schedule: Schedule) -> None:
    horizon = Horizon(500)
    curve = [horizon.factor(schedule, step) for step in range(500)]
    assert all(0 <= factor <= 1 for factor in curve) and max(curve) == 1
    after = curve[horizon.warmup(schedule) :]
    rises = sum(later > earlier + 1e-12 for earlier, later in pairwise(after))
    assert rises == (schedule.cycles - 1 if isinstance(schedule, CosineRestarts) else 0)


def is_never_raised_by_an_extension(schedule: Schedule) -> None:
    horizon = Horizon(500)
    for reached in (250, 400, 500):
        extended = horizon.extended(schedule, reached, 900)
        ceiling = horizon.factor(schedule, reached - 1) + 1e-12
        assert all(0 <= extended.factor(schedule, step) <= ceiling for step in range(reached, 900))


def is_a_quantile_function(timesteps: Timesteps) -> None:
    t = timesteps.quantile(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert (t.diff() >= 0).all() and t.min() >= 0 and t.max() <= 1


def is_what_songs_draw(timesteps: Timesteps) -> None:
    keys = [(7, epoch, "a.wav", 0) for epoch in range(3000)]
    one = torch.zeros(1, 1)
    drawn = draw(collate([(one, one)] * len(keys), keys, 1.0), timesteps, 0.0).t
    expected = timesteps.quantile((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000)
    assert kstest(drawn.numpy(), expected.float().numpy()).pvalue > 1e-3


def belongs_to_the_song(loss: Loss) -> None:
    velocity, goal = torch.randn(2, 2, 9, CHANNELS, generator=torch.Generator().manual_seed(0)).unbind()
    valid = torch.tensor([[True] * 9, [True] * 5 + [False] * 4])
    together = loss.song_losses(velocity, goal, valid)
    alone = [loss.song_losses(velocity[:1], goal[:1], valid[:1])]
    alone += [loss.song_losses(velocity[1:, :5], goal[1:, :5], valid[1:, :5])]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-6) and (together > 0).all()
    assert loss.song_losses(goal, goal, valid).abs().max() == 0


def grows_with_the_error_alike_on_both_sides(loss: Loss) -> None:
    size = torch.linspace(0, 300, 3001)
    assert (loss.distance(size).diff() > 0).all() and torch.equal(loss.distance(-size), loss.distance(size))
    near = torch.tensor([-0.1, 0.1], requires_grad=True)
    assert (torch.autograd.grad(loss.distance(near).sum(), near)[0] * near > 0).all()


def weighs_every_time_by_itself(weighting: Weighting) -> None:
    t = torch.linspace(0.001, 0.999, 999)
    weights = weighting.weights(t)
    assert weights.dtype is torch.float32 and weights.isfinite().all() and (weights > 0).all()
    assert torch.equal(weighting.weights(t[7:8]), weights[7:8])


def keeps_the_adapter_in_fp32(precision: Precision, adapter: Adapter, targets: Targets) -> None:
    device = torch.device("cpu")
    settled = precision.on(device)
    loaded = base()
    nn.Module.to(loaded.dit, settled.base.dtype)
    settled.store(loaded.dit)
    adapter.attach(loaded.dit, targets.select(LAYERS), seed=0)
    training = module(loaded)
    with settled.autocast(device):
        losses = training.song_losses(BATCH, draw(BATCH, training.recipe.timesteps, 0.0))
    losses.mean().backward()
    weights = trainable(loaded.dit).values()
    assert losses.dtype is torch.float32 and losses.isfinite().all()
    assert all(weight.dtype is torch.float32 and weight.grad is not None for weight in weights)
    assert any(weight.grad.abs().max() > 0 for weight in weights if weight.grad is not None)


def trained_on_quantised_weights_fits_them_dense(
    adapter: Adapter, targets: Targets, kind: str, folder: Path, steps: int = 2
) -> None:
    """Law 1 on a base in 8 or 4 bits: attached, saved and merged as on the dense base that its codes stand for."""

    def quantised() -> Base:
        loaded = base()
        quantise(loaded.dit, kind, torch.float32)
        return loaded

    ours = quantised()
    before, stored = output(ours), [codes.clone() for codes in ours.dit.buffers()]
    adapter.attach(ours.dit, targets.select(LAYERS), seed=0)
    ours.dit.eval()
    assert (output(ours) - before).abs().max() < 1e-5
    training, descent = module(ours), torch.optim.AdamW(trainable(ours.dit).values(), lr=1e-2)
    for step in range(steps):
        advance(training, descent, step)
    ours.dit.eval()
    trained_output = output(ours)
    assert not torch.equal(trained_output, before)
    codes = [buffer for name, buffer in ours.dit.named_buffers() if name.endswith(("codes", "scales"))]
    assert all(any(torch.equal(one, other) for other in stored if other.shape == one.shape) for one in codes)
    adapter.save(ours.dit, folder, "tiny", {})
    dense = quantised()
    dequantise(dense.dit)
    assert torch.equal(output(dense), before)
    saved.load(dense.dit, [(folder, 1.0)])
    dense.dit.eval()
    scale = trained_output.abs().max()
    assert (output(dense) - trained_output).abs().max() / scale < 1e-5
    merge(dense.dit)
    assert (output(dense) - trained_output).abs().max() / scale < 1e-5
