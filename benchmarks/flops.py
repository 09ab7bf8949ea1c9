"""Floating-point operations that a song's training step needs, counted from the shapes of the DiT.

A multiplication and an addition are two. Needed means: of valid frames only, of the pairs only that the sliding layers
do not mask, and nothing twice: no padding, no recomputed activation. With m rows, a linear layer from i to o costs

- frozen: 2mio forward; backward 2mio for the gradient of its input, where that depends on the adapter; none for W;
- LoRA of rank r on it: 2mr(i+o) forward; backward 2mr(i+o) for the gradients of A and B, 2mro for that of Ax, and 2mri
  for that of the input, where it depends on the adapter;
- attention over p query-key pairs with h heads of d: 4phd forward, 8phd backward.

m is the number of tokens n = ceil(frames/2), but the number of condition rows L for the keys and values of
cross-attention and the condition embedder, and 1 for the embeddings of t. p is n^2 in the full layers,
n(2w+1) - w(w+1) in those with a window of w < n tokens to either side, and nL across. Inputs that do not depend on the
adapter are: the condition, t, the patches, and the input of the first self-attention. Norms, rotations, activations
and the optimizer are left out: below a hundredth at 2B.
"""

from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from acetrain.acestep.dit import MaskedDiT
from acetrain.adapters.injection import NAME


def step_flops(dit: MaskedDiT, frames: int, tokens: int, windowed: bool = True) -> int:
    """Operations of one song's forward and backward pass; an adapter must be on the self-attention of every layer.

    Without `windowed` the sliding layers are counted as upstream computes them: all pairs, most of them masked.
    """
    n = -(-frames // dit.patch_size)
    config = dit.config
    patch = 2 * n * dit.patch_size * config["hidden_size"]
    total = patch * config["in_channels"] + 2 * patch * config["audio_acoustic_hidden_dim"]
    for name, module in dit.named_modules():
        if ".lora_" in name or ".base_layer" in name or not isinstance(module, nn.Linear | LoraLinear):
            continue
        total += _linear(module, _rows(name, n, tokens), _depends(name))
    width = config["num_attention_heads"] * config["head_dim"]
    window = config["sliding_window"]
    for kind in dit.layer_types:
        own = pairs(n, window) if windowed and kind == "sliding_attention" else n * n
        total += 12 * width * (own + n * tokens)
    return total


def pairs(n: int, window: int) -> int:
    """Pairs of n tokens no more than `window` apart."""
    return n * n if n <= window else n * (2 * window + 1) - window * (window + 1)


def _rows(name: str, n: int, tokens: int) -> int:
    if name.startswith("time_embed"):
        return 1
    across = name == "condition_embedder" or name.endswith(("cross_attn.to_k", "cross_attn.to_v"))
    return tokens if across else n


def _depends(name: str) -> bool:
    """Whether a layer's input depends on the adapter, so that its gradient is needed."""
    if name.startswith(("time_embed", "condition_embedder")) or name.endswith(("cross_attn.to_k", "cross_attn.to_v")):
        return False
    return name not in ("layers.0.self_attn.to_q", "layers.0.self_attn.to_k", "layers.0.self_attn.to_v")


def _linear(module: nn.Linear | LoraLinear, rows: int, depends: bool) -> int:
    base = module if isinstance(module, nn.Linear) else module.get_base_layer()
    assert isinstance(base, nn.Linear)
    inputs, outputs = base.in_features, base.out_features
    frozen = 2 * rows * inputs * outputs * (1 + depends)
    if isinstance(module, nn.Linear):
        return frozen
    return frozen + 2 * rows * module.r[NAME] * (inputs * (2 + depends) + outputs * 3)


PEAKS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "RTX 5090": 210,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Part of a card's name -> dense bf16 peak in TFLOP/s with fp32 accumulation, as NVIDIA's data sheets give it."""


def known_peak(card: str) -> float | None:
    """Operations a second of the card by its data sheet; None where it is not in the table."""
    found = next((peak for name, peak in PEAKS.items() if name in card), None)
    return None if found is None else found * 1e12
