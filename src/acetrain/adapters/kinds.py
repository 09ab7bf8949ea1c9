"""What types of adapters allow, known without PEFT."""

UNSCALED = ("OFT", "BOFT")
"""Types that have no strength: half a rotation is not half the adapter."""
ADDITIVE = ("LORA", "LOHA", "LOKR", "LyCORIS", "delta")
"""Types of which several may be attached at once, their updates adding up."""
BASED = ("OFT", "BOFT", "VERA", "IA3", "decomposed LyCORIS", "full")
"""Types whose update follows from the base's weights too, or from their sizes."""


def needs_base(kind: str, dora: bool) -> bool:
    """Whether what an adapter of this type adds can be told only beside the base; `dora` is a LoRA with magnitudes."""
    return dora or kind in BASED
