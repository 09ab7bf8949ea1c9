"""Module names written down from a configuration are those of the model."""

import json

import pytest
from fabricate import base
from torch import nn

from acetrain.acestep.dit import MaskedDiT
from acetrain.acestep.model import EMBEDDED
from acetrain.acestep.names import diffusers, linear_layers, official

CONFIG = json.loads((EMBEDDED / "transformer" / "config.json").read_text())
WIDE = {
    "hidden_size": 40,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "encoder_hidden_size": 24,
}


@pytest.mark.parametrize("config", [CONFIG, WIDE], ids=["tiny", "wider than its condition"])
def test_the_linear_layers_are_the_models(config: dict) -> None:
    dit = MaskedDiT(**config) if "_class_name" not in config else base().dit
    real = {
        name: (module.out_features, module.in_features)
        for name, module in dit.named_modules()
        if isinstance(module, nn.Linear)
    }
    assert linear_layers(config) == real


def test_official_names_come_back() -> None:
    for name in linear_layers(CONFIG):
        assert diffusers(official(name)) == name
    assert official("layers.0.self_attn.to_out.0.lora_A.weight") == "layers.0.self_attn.o_proj.lora_A.weight"
    assert official("layers.1.cross_attn.norm_q.weight") == "layers.1.cross_attn.q_norm.weight"
    assert official("proj_in_conv.bias") == "proj_in.1.bias" and diffusers("proj_out.1.bias") == "proj_out_conv.bias"
