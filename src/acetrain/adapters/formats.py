"""The formats that adapters are exported to, and what each holds exactly. No torch."""

from enum import Enum

from acetrain.adapters.files import delta, whole

PAIRS = ("LORA", "ADALORA")
"""Types that are B A of each module."""
PRODUCTS = ("LyCORIS", "LOHA", "LOKR")
"""Types that are products LyCORIS computes."""


class Target(Enum):
    """Who an exported adapter is for."""

    peft = "peft"
    comfyui = "comfyui"
    diffusers = "diffusers"
    lycoris = "lycoris"
    kohya = "kohya"
    delta = "delta"
    merged = "merged"

    @property
    def is_folder(self) -> bool:
        """Whether it is written as a folder, not as one file."""
        return self in (Target.peft, Target.merged)

    def holds(self, kind: str, dora: bool) -> bool:
        """Whether an adapter of this type, as `AdapterFiles.kind` says, stays what it is; `dora` is a LoRA with
        magnitudes."""
        if self in (Target.delta, Target.merged):
            return True
        if kind in (delta.KIND, whole.KIND):
            return self is Target.comfyui and kind == delta.KIND
        if kind == "decomposed LyCORIS":
            return self is Target.lycoris
        if kind == "LyCORIS":
            return self in (Target.lycoris, Target.comfyui, Target.kohya)
        if self is Target.peft:
            return True
        if kind in PAIRS and not dora:
            return True
        return kind in PRODUCTS and self is not Target.diffusers


def holding(kind: str, dora: bool) -> list[str]:
    """The formats that hold an adapter of this type exactly."""
    return [target.name for target in Target if target.holds(kind, dora)]
