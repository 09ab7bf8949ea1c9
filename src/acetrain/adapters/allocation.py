"""AdaLoRA's ranks: how they are shared out while training, and how they are written and read."""

from collections.abc import Mapping
from copy import copy
from typing import Any, cast

import torch
from peft import AdaLoraConfig, PeftConfig
from peft.tuners.adalora.layer import AdaLoraLayer, RankAllocator
from torch import Tensor, nn

from acetrain.adapters.injection import NAME, peft_config
from acetrain.adapters.regime import Regime
from acetrain.errors import Failed

_IMPORTANCES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""PEFT's names of what a sharing out goes by: importances, their running means, and how far they stray from them."""


class Allocation(Regime):
    """PEFT's `RankAllocator`, followed after every optimizer step as `AdaLoraModel.update_and_allocate` does."""

    def __init__(self, dit: nn.Module, total_steps: int, warmup_share: float, final_share: float) -> None:
        self.dit, self.asked = dit, total_steps
        self.shares = warmup_share, final_share
        self.config = cast(AdaLoraConfig, peft_config(dit))
        self._lay_over(total_steps)
        self.allocator = RankAllocator(dit, self.config, NAME)

    def _lay_over(self, total: int) -> None:
        warmup, final = (int(share * total) for share in self.shares)
        self.config.total_step, self.config.tinit, self.config.tfinal = total, warmup, final

    @property
    def settled(self) -> int:
        """The step after which ranks no longer change."""
        return (self.config.total_step or 0) - self.config.tfinal

    def penalty(self) -> Tensor | None:
        """How far P and Q are from orthogonal, weighted (the regularisation of `AdaLoraModel.forward`)."""
        if not self.config.orth_reg_weight:
            return None
        matrices = []
        for layer in _layers(self.dit).values():
            matrices += [layer.lora_A[NAME], layer.lora_B[NAME].T]
        with torch.autocast(matrices[0].device.type, enabled=False):
            strayed = [torch.linalg.norm(rows @ rows.T - torch.eye(len(rows)).to(rows)) for rows in matrices]
        return self.config.orth_reg_weight * torch.stack(strayed).mean()

    def stepped(self, step: int, finite: bool) -> None:
        """Set the least important entries to zero where step `step` shares out ranks, and keep them there at the end.

        A step that was not taken says nothing about importances; without any, all entries are kept.
        """
        self._place()
        if step > self.settled and self.config.rank_pattern:
            self.allocator.mask_using_rank_pattern(self.dit, self.config.rank_pattern)
        elif step == self.settled and self.allocator.exp_avg_ipt:
            self._share_out(step, at_last=True)
            self.allocator.reset_ipt()
        elif step < self.settled and finite:
            self._share_out(step, at_last=False)

    def hold(self, step: int) -> None:
        """Entries that the weights are without in the end are out of their average as well."""
        if step >= self.settled and self.config.rank_pattern:
            self.allocator.mask_using_rank_pattern(self.dit, self.config.rank_pattern)

    def _share_out(self, step: int, at_last: bool) -> None:
        _, pattern = self.allocator.update_and_allocate(self.dit, step, force_mask=at_last)
        self.config.rank_pattern = pattern or self.config.rank_pattern

    def _place(self) -> None:
        """Importances that came from a checkpoint go to where the weights are."""
        device = next(self.dit.parameters()).device
        for kind in _IMPORTANCES:
            kept = getattr(self.allocator, kind)
            kept.update({name: value.to(device) for name, value in kept.items()})

    def state(self) -> dict[str, Any]:
        importances = {kind: dict(getattr(self.allocator, kind)) for kind in _IMPORTANCES}
        return {"total": self.config.total_step, "pattern": dict(self.config.rank_pattern or {}), **importances}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up the schedule that the run was first started with, and how far it has come.

        Raises Failed where the run is now to end before its ranks have come down.
        """
        self._lay_over(state["total"])
        if self.asked < self.settled:
            raise Failed(
                f"max_steps: the ranks of this run come down by step {self.settled}, as it was started with "
                f"{state['total']}; must be at least that, got {self.asked}"
            )
        self.config.rank_pattern = dict(state["pattern"]) or None
        for kind in _IMPORTANCES:
            setattr(self.allocator, kind, dict(state[kind]))


def _layers(dit: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in dit.named_modules() if isinstance(module, AdaLoraLayer)}


def pruned(weights: Mapping[str, Tensor], config: PeftConfig) -> tuple[dict[str, Tensor], PeftConfig]:
    """An AdaLoRA without the entries that are zero, and its configuration, which says where they were.

    Weights of another type, and their configuration, as they are.
    """
    if not isinstance(config, AdaLoraConfig):
        return dict(weights), config
    kept, config = dict(weights), copy(config)
    config.rank_pattern = {}
    for name, values in weights.items():
        if f".lora_E.{NAME}" not in name:
            continue
        alive = values.flatten() != 0
        config.rank_pattern[name.removesuffix(f".{NAME}")] = alive.tolist()
        a, b = (name.replace("lora_E", part) for part in ("lora_A", "lora_B"))
        kept |= {name: values[alive], a: weights[a][alive], b: weights[b][:, alive].contiguous()}
    return kept, config


def expanded(weights: Mapping[str, Tensor], pattern: Mapping[str, list[bool]]) -> dict[str, Tensor]:
    """What `pruned` took out put back as zeros, by its rank pattern."""
    whole = dict(weights)
    for name, alive in pattern.items():
        mask = torch.tensor(alive)
        for part, dim in (("lora_E", 0), ("lora_A", 0), ("lora_B", 1)):
            key = name.replace("lora_E", part)
            shape = list(weights[key].shape)
            shape[dim] = len(alive)
            whole[key] = torch.zeros(shape).index_copy(dim, mask.nonzero().flatten(), weights[key])
    return whole


def revive(dit: nn.Module, fresh: Mapping[str, Tensor]) -> None:
    """Give the vectors of entries that are zero the values in `fresh`: with zeros they could not learn."""
    with torch.no_grad():
        for name, layer in _layers(dit).items():
            gone = layer.lora_E[NAME].flatten() == 0
            layer.lora_A[NAME][gone] = fresh[f"{name}.lora_A.{NAME}"][gone]
            layer.lora_B[NAME][:, gone] = fresh[f"{name}.lora_B.{NAME}"][:, gone]
