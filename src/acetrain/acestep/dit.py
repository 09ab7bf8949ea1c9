"""The DiT with its padding masked out: what a song gets does not depend on what it is batched with."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import AceStepTransformer1DModel
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

VARIANTS = 64
"""Versions of a block that are compiled before torch gives up: blocks, masks, lengths and modes each ask for some."""


class MaskedDiT(AceStepTransformer1DModel):
    """diffusers' `AceStepTransformer1DModel`, which ignores padding, with songs kept apart from it.

    A batch without padding takes diffusers' own forward, to the bit. A padded one runs the same blocks with masks:
    padded frames are zero, as the model's own odd-length padding is, and no valid token attends to a padded frame or
    condition row.
    """

    recomputed: tuple[int, ...] = ()
    """Numbers of the blocks whose activations are computed again in the backward pass."""
    compiled: bool = False
    """Whether the blocks are compiled."""

    def recompute(self, every: int) -> None:
        """Keep no activations within every `every`-th block, the first included: they are computed again when needed.

        The gradients stay the same to the bit; 0 keeps all activations.
        """
        self.recomputed = tuple(range(0, len(self.layers), every)) if every else ()
        chosen = {id(self.layers[index]) for index in self.recomputed}

        def run(block: nn.Module, *arguments: Any) -> Tensor:
            if id(block) not in chosen:
                return block(*arguments)
            return checkpoint(block, *arguments, use_reentrant=False)  # pyright: ignore[reportReturnType]

        self.enable_gradient_checkpointing(run) if chosen else self.disable_gradient_checkpointing()

    def compile_blocks(self) -> None:
        """Have each block's forward pass compiled when it first runs, and again for other kinds of masks or lengths."""
        import torch._dynamo as dynamo  # slow to import, and of no use to a run without compilation

        dynamo.config.recompile_limit = max(dynamo.config.recompile_limit, VARIANTS)
        for block in self.layers:
            block.forward = _on_contiguous(torch.compile(block.forward))
        self.compiled = True

    def velocity(
        self,
        x_t: Float[Tensor, "song frame channel"],
        t: Float[Tensor, " song"],
        condition: Float[Tensor, "song token width"],
        context: Float[Tensor, "song frame context"],
        frames: Sequence[int],
        tokens: Sequence[int],
    ) -> Float[Tensor, "song frame channel"]:
        """Predicted velocity `noise - data` at time t (1 is noise).

        The songs have `frames` valid frames and `tokens` valid condition rows. t and the inputs are cast to the model's
        dtype, as the pipeline does; padded frames of the result mean nothing.
        """
        dtype = self.scale_shift_table.dtype
        x_t, t, condition, context = (tensor.to(dtype) for tensor in (x_t, t, condition, context))
        length, width = x_t.shape[1], condition.shape[1]
        if min(frames) == length and min(tokens) == width:
            return self(x_t, t, t, condition, context, return_dict=False)[0]
        device = x_t.device
        valid = valid_rows(frames, length, device)
        inputs = torch.cat([context, x_t], dim=-1) * valid.unsqueeze(-1)
        patches = [-(-count // self.patch_size) for count in frames]
        return self._masked(inputs, t, condition, patches, valid_rows(tokens, width, device))

    def _masked(
        self,
        inputs: Float[Tensor, "song frame channel"],
        t: Float[Tensor, " song"],
        condition: Float[Tensor, "song token width"],
        patches: Sequence[int],
        rows: Bool[Tensor, "song token"],
    ) -> Float[Tensor, "song frame latent"]:
        """The upstream forward with masks passed to its blocks: only keys that belong to the song are attended to."""
        temb_t, modulation_t = self.time_embed(t)
        temb_r, modulation_r = self.time_embed_r(torch.zeros_like(t))
        temb, modulation = temb_t + temb_r, modulation_t + modulation_r
        length = inputs.shape[1]
        inputs = torch.nn.functional.pad(inputs, (0, 0, 0, -length % self.patch_size))
        hidden = self.proj_in_conv(inputs.transpose(1, 2)).transpose(1, 2)
        condition = self.condition_embedder(condition)
        keys = valid_rows(patches, hidden.shape[1], hidden.device)
        masks = {kind: additive(keep, hidden.dtype) for kind, keep in self._attended(keys).items()}
        across = additive(rows[:, None, None, :], hidden.dtype)
        rotary = self._rotary(hidden)
        for kind, block in zip(self.layer_types, self.layers, strict=True):
            arguments = (hidden, rotary, modulation, masks[kind], condition, across)
            if torch.is_grad_enabled() and self.gradient_checkpointing and self._gradient_checkpointing_func:
                hidden = self._gradient_checkpointing_func(block, *arguments)
            else:
                hidden = block(*arguments)
        shift, scale = (self.scale_shift_table + temb.unsqueeze(1)).chunk(2, dim=1)
        hidden = (self.norm_out(hidden) * (1 + scale) + shift).type_as(hidden)
        return self.proj_out_conv(hidden.transpose(1, 2)).transpose(1, 2)[:, :length]

    def _attended(self, keys: Bool[Tensor, "song patch"]) -> dict[str, Bool[Tensor, "song 1 query patch"]]:
        """Which keys a query sees, by kind of layer: the song's own, and within the window in the sliding ones."""
        position = torch.arange(keys.shape[1], device=keys.device)
        band = (position[:, None] - position[None, :]).abs() <= self.config["sliding_window"]
        own = keys[:, None, None, :]
        return {"sliding_attention": own & band, "full_attention": own}

    def _rotary(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        from diffusers.models.transformers.ace_step_transformer import _ace_step_rotary_freqs

        return _ace_step_rotary_freqs(hidden.shape[1], self.head_dim, self.rope_theta, hidden.device, hidden.dtype)


def _on_contiguous(compiled: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A compiled block that gets its frames in order in memory.

    The first convolution leaves them transposed, and for such an input torch 2.13 compiles a wrong gradient on a CPU.
    """

    def forward(hidden_states: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return compiled(hidden_states.contiguous(), *arguments, **named)

    return forward


def valid_rows(counts: Sequence[int], length: int, device: torch.device) -> Bool[Tensor, "song row"]:
    """True where a row lies within its song's count."""
    return torch.arange(length, device=device) < torch.tensor(counts, device=device).unsqueeze(1)


def additive(keep: Bool[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """0 where attended, the dtype's lowest value elsewhere: a row that sees nothing stays finite."""
    return torch.zeros(keep.shape, dtype=dtype, device=keep.device).masked_fill_(~keep, torch.finfo(dtype).min)
