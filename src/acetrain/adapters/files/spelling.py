"""How tools spell the DiT's modules, and the parts of an adapter, in the names of a file. No torch."""

import re
from typing import NamedTuple

from acetrain.acestep.names import diffusers

_WRAPPERS = ("base_model.model.", "_orig_mod.", "module.", "model.", "diffusion_model.", "transformer.", "decoder.")
"""What stands before a module's name, once or several times."""
_FLAT = re.compile(r"(?:lora_unet_|lora_transformer_|lycoris_)(?:diffusion_model_)?(?:decoder_|transformer_)?")
"""What stands before a module's name whose dots have become underscores."""
_SPELT = (
    (re.compile(r"layers_(\d+)_(self_attn|cross_attn)_([qkvo]_proj|to_[qkv])"), "layers.{}.{}.{}"),
    (re.compile(r"layers_(\d+)_(self_attn|cross_attn)_to_out_0"), "layers.{}.{}.to_out.0"),
    (re.compile(r"layers_(\d+)_mlp_(gate_proj|up_proj|down_proj)"), "layers.{}.mlp.{}"),
    (re.compile(r"(time_embed|time_embed_r)_(linear_1|linear_2|time_proj)"), "{}.{}"),
    (re.compile(r"(proj_in|proj_out)_1"), "{}.1"),
    (re.compile(r"(proj_in_conv|proj_out_conv|condition_embedder)"), "{}"),
)
"""Such names, and what they were."""
_MODULE = re.compile(
    r"layers\.\d+\.(?:(?:self_attn|cross_attn)\.(?:to_[qkv]|to_out\.0)|mlp\.(?:gate_proj|up_proj|down_proj))"
    r"|(?:time_embed|time_embed_r)\.(?:linear_1|linear_2|time_proj)|proj_in_conv|proj_out_conv|condition_embedder"
)
"""The linear layers and convolutions of any DiT, in diffusers spelling."""
_NORM = re.compile(r"layers\.\d+\.(?:(?:self_attn|cross_attn|mlp)_norm|(?:self_attn|cross_attn)\.norm_[qk])|norm_out")
_TABLE = re.compile(r"(?:layers\.\d+\.)?scale_shift_table")
"""Norms, and parameters that are no module's weight or bias: what only whole differences are of."""
_PART = re.compile(r"\.(?=(?:lora|hada|lokr|oft|boft|vera|ia3)_|lora\.|(?:alpha|diff|diff_b|dora_scale)$)")
"""Where a name turns from the module to its part."""
_ADAPTER = re.compile(r"(lora_[AB])\.(?!weight$|bias$)[^.]+\.(weight|bias)")
"""A part with its adapter's name in it."""
_DEFAULT = re.compile(r"\.default(?=\.|$)")
"""PEFT's name of an adapter that was given none."""
_SAME = {
    "lora_down.weight": "lora_A.weight",
    "lora_up.weight": "lora_B.weight",
    "lora.down.weight": "lora_A.weight",
    "lora.up.weight": "lora_B.weight",
    "lora_magnitude_vector.weight": "lora_magnitude_vector",
}
"""Parts by other names -> PEFT's."""


class Told(NamedTuple):
    """What a name in a file says."""

    module: str
    """Diffusers spelling."""
    part: str
    """As PEFT names a LoRA's, and as PEFT and LyCORIS name all others."""


def told(key: str) -> Told | None:
    """The module and the part that a name in a file stands for; None where no module of any DiT has it."""
    module, *part = _PART.split(key, maxsplit=1)
    if not part:
        return None
    name = _dotted(module)
    beside = (part[0] in ("diff", "diff_b") and _NORM.fullmatch(name)) or (part[0] == "diff" and is_table(name))
    return Told(name, _part_of(part[0])) if is_layer(name) or beside else None


def is_layer(name: str) -> bool:
    """Whether a name in diffusers spelling is that of a linear layer or a convolution."""
    return _MODULE.fullmatch(name) is not None


def is_table(name: str) -> bool:
    """Whether a name in diffusers spelling is that of a parameter which is no module's weight or bias."""
    return _TABLE.fullmatch(name) is not None


def start_of(key: str) -> str:
    """What stands in a name before its part."""
    return _PART.split(key, maxsplit=1)[0]


def module_of(name: str) -> str | None:
    """The layer of the DiT, in diffusers spelling, that a name with any prefix stands for; None for no layer."""
    module = _dotted(name)
    return module if is_layer(module) else None


def _dotted(name: str) -> str:
    """A name without its prefix, in diffusers spelling."""
    bare = _unwrapped(name)
    if start := _FLAT.match(bare):
        flat = bare[start.end() :]
        spelt = next((words.format(*hit.groups()) for pattern, words in _SPELT if (hit := pattern.fullmatch(flat))), "")
    else:
        spelt = bare
    return diffusers(spelt)


def layout_of(key: str) -> str:
    """The layout that a name is spelt in."""
    if key.startswith("lora_unet_"):
        return "kohya"
    if key.startswith("lycoris_"):
        return "LyCORIS"
    if key.startswith("transformer."):
        return "diffusers"
    return "ComfyUI" if key.startswith("diffusion_model.") else "PEFT"


def _unwrapped(name: str) -> str:
    for prefix in _WRAPPERS:
        if name.startswith(prefix):
            return _unwrapped(name.removeprefix(prefix))
    return name


def _part_of(part: str) -> str:
    bare = _DEFAULT.sub("", _ADAPTER.sub(r"\1.\2", part))
    return _SAME.get(bare, bare)
