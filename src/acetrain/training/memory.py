"""How much memory a training takes, estimated from its configuration alone.

The parts and what they assume:

- *weights*: every weight of the DiT in the base's format, those of quantised layers in theirs.
- *adapter*: for each number that trains 4 bytes of weight, 4 of gradient, the optimizer's state, 4 of an average.
- *activations*: what the blocks keep for the backward pass, in proportion to the patches (pairs of frames) and rows of
  condition of a micro-batch, by `KEPT`: coefficients fitted to what autograd keeps (tests/training/test_memory.py).
  Attention keeps no scores, as a fused kernel does not. A recomputed block keeps its input; where the last is one, its
  activations come on top, as they are there again while all others are still kept. A base in fp32 computed in 16 bits
  keeps 16-bit copies of the weights of the other blocks.
- *working*: masks of attention, a weight made dense for a product, and `FIXED` for what the libraries take.

Not in it: what the allocator loses to fragments; `fits` leaves a tenth of the card for that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from acetrain.acestep.names import linear_layers
from acetrain.adapters.adapter import Adapter, Shapes
from acetrain.adapters.full import Full
from acetrain.adapters.lora import DoRA
from acetrain.adapters.ranked import Ranked
from acetrain.training.optimizer import OptimizerOption
from acetrain.training.precision import Format, Precision, Quantised

if TYPE_CHECKING:
    from acetrain.jobs.train import Train

KEPT = {2: (26.4, 23.8, 10.8, 6.0, 23.0, 10.1, 4.0), 4: (28.3, 23.7, 12.6, 12.0, 22.1, 12.1, 0.1)}
"""Bytes of the computing format -> bytes that a block keeps, with a LoRA on its attention: for each patch times width,
queries, keys, inner width of the MLP and heads; for each row of condition times keys and width."""
TRAINED_MLP = {2: (4.1, 2.1), 4: (8.0, 4.0)}
"""What it keeps more with a LoRA on its MLP: for each patch times width and inner width."""
DORA = 1.5
"""What a block keeps with DoRA, which keeps what W and B A give apart, against LoRA."""
BYTES = {Format.fp32: 4, Format.bf16: 2, Format.fp16: 2, Format.auto: 2}
"""Bytes of a number; auto is taken for the 16 bits it has on a GPU."""
STORED = {Quantised.int8: 1.0, Quantised.nf4: 0.5625}
"""Bytes of a quantised weight, scales included."""
TOKENS = 1024
"""Rows of condition of a song, where they are not known: a long prompt with long lyrics."""
FIXED = 800 * 2**20
"""What CUDA, cuBLAS and the rest take before anything is computed."""
MARGIN = 0.1
"""Share of a card that an estimate must leave free."""
LIKE_RANK = 16
"""Adapters without a rank are taken to train as much as a LoRA of this rank."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch: the same for every song."""

    songs: int
    frames: int
    tokens: int


@dataclass(frozen=True)
class Estimate:
    """Bytes, part by part."""

    weights: float
    adapter: float
    activations: float
    working: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.adapter + self.activations + self.working

    def fits(self, card: float) -> bool:
        """Whether a card of so many bytes holds it and has `MARGIN` left."""
        return self.total <= (1 - MARGIN) * card

    def told(self) -> str:
        """The parts in GiB."""
        parts = {name: value / 2**30 for name, value in vars(self).items()}
        return ", ".join(f"{name} {value:.1f}" for name, value in parts.items())


@dataclass(frozen=True)
class Training:
    """What the memory of a training depends on."""

    config: Mapping[str, Any]
    """The DiT's configuration."""
    precision: Precision
    adapter: Adapter
    targets: Shapes
    """The selected layers."""
    optimizer: OptimizerOption
    recomputed: int
    """Every how many blocks one is recomputed; 0 for none."""
    averaged: bool
    """Whether an average of the adapter is kept."""
    shards: int = 1
    """Processes that share out the blocks' weights."""

    def estimate(self, batch: Batch) -> Estimate:
        """The memory that a device needs for steps on such micro-batches."""
        return Estimate(self._weights(), self._adapter(), self._activations(batch), self._working(batch))

    def _weights(self) -> float:
        dense = BYTES[self.precision.base]
        stored = STORED.get(self.precision.quantised, dense)
        blocks = self._block_weights() * self.config["num_hidden_layers"]
        width, patch = self.config["hidden_size"], self.config["patch_size"]
        channels = self.config["in_channels"] + self.config["audio_acoustic_hidden_dim"]
        rest = _size(linear_layers(self.config)) - blocks + channels * patch * width
        return blocks * stored / self.shards + rest * dense

    def _block_weights(self) -> int:
        layers = linear_layers(self.config)
        return _size({name: shape for name, shape in layers.items() if name.startswith("layers.0.")})

    def _adapter(self) -> float:
        each = 8 + self.optimizer.state_bytes + 4 * self.averaged
        return trained(self.adapter, self.targets, _size(linear_layers(self.config))) * each

    def _activations(self, batch: Batch) -> float:
        blocks = self.config["num_hidden_layers"]
        every = self.recomputed
        again = len(range(0, blocks, every)) if every else 0
        patches = batch.songs * -(-batch.frames // self.config["patch_size"])
        compute = BYTES[self.precision.compute]
        inputs = again * patches * self.config["hidden_size"] * compute
        one = self._kept_by_a_block(patches, batch.songs * batch.tokens)
        last_again = every and (blocks - 1) % every == 0
        return (blocks - again) * one + inputs + (one if last_again else 0)

    def _kept_by_a_block(self, patches: int, rows: int) -> float:
        config, compute = self.config, BYTES[self.precision.compute]
        width, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
        queries, keys = heads * config["head_dim"], config["num_key_value_heads"] * config["head_dim"]
        d, q, k, f, h, row_k, row_d = KEPT[compute]
        patch = d * width + q * queries + k * keys + f * inner + h * heads
        if any(".mlp." in name for name in self.targets):
            more_d, more_f = TRAINED_MLP[compute]
            patch += more_d * width + more_f * inner
        patch *= DORA if isinstance(self.adapter, DoRA) else 1
        copies = self._block_weights() * compute if BYTES[self.precision.base] > compute else 0
        return patches * patch + rows * (row_k * keys + row_d * width) + copies

    def _working(self, batch: Batch) -> float:
        patches = -(-batch.frames // self.config["patch_size"])
        masks = 2 * batch.songs * patches**2 * BYTES[self.precision.compute]
        largest = self.config["hidden_size"] * self.config["intermediate_size"]
        dense = 6 * largest if self.precision.quantised is not Quantised.none else 0
        return FIXED + masks + dense


def trained(adapter: Adapter, targets: Shapes, whole: int) -> int:
    """How many numbers train: exact for LoRA and for full training, near it for the others."""
    if isinstance(adapter, Full):
        return whole if adapter.everything else _size(targets)
    if not isinstance(adapter, Ranked):
        return sum(LIKE_RANK * sum(shape) for shape in targets.values())
    ranks = adapter.patterns(list(targets))["rank_pattern"]
    twice = 2 if "LoHa" in type(adapter).__name__ else 1
    return twice * sum(ranks.get(name, adapter.rank) * sum(shape) for name, shape in targets.items())


def of(run: "Train") -> Estimate:
    """The memory of a run on what visits take of its own songs; with `data.max_frames=auto`, on the longest alone."""
    one = longest(run)
    count = min(run.songs_per_step, max(1, (run.data.budget or 0) // one.frames))
    return training_of(run).estimate(replace(one, songs=count))


def longest(run: "Train") -> Batch:
    """A micro-batch of one song that has the most frames that a visit takes, and the most rows."""
    songs = run.songs.songs
    return Batch(1, max(run.data.frames(song) for song in songs), max(song.most_tokens for song in songs))


def training_of(run: "Train") -> Training:
    """A run's part in it."""
    config = run.model.config("transformer")
    layers = linear_layers(config)
    return Training(
        config,
        run.precision,
        run.sized,
        {name: layers[name] for name in run.target_names},
        run.optimizer,
        run.trainer.recomputed,
        len(run.ema.kinds) > 1,
        run.trainer.devices * run.trainer.nodes if run.trainer.shard else 1,
    )


def too_much(run: "Train", card: tuple[str, int]) -> str | None:
    """What is said of a run that the card of this name and so many bytes does not hold by the estimate."""
    name, memory = card
    found = of(run)
    if found.fits(memory):
        return None
    training = training_of(run)
    ways = [("", training), (" with trainer.gradient_checkpointing=full", replace(training, recomputed=1))]
    if not run.trainer.shard and not run.adapter.reads_base:
        small = replace(run.precision, quantised=Quantised.nf4)
        ways.append((" with precision=nf4", replace(training, recomputed=1, precision=small)))
    one = longest(run)
    helping = next((way for way, other in ways if other.estimate(one).fits(memory)), " with shorter songs")
    fewer = "a lower data.max_frames" if run.trainer.shard else "data.max_frames=auto"
    return (
        f"data.max_frames: {run.data.max_frames} is estimated to take {found.total / 2**30:.1f} GiB "
        f"({found.told()}) of the {memory / 2**30:.0f} GiB of {name}; {fewer}{helping} takes less"
    )


def _size(shapes: Shapes) -> int:
    return sum(outputs * inputs for outputs, inputs in shapes.values())
