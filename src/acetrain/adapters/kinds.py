"""What types of adapters allow, known without PEFT."""

UNSCALED = ("OFT", "BOFT")
"""Types that have no strength: half a rotation is not half the adapter."""
ADDITIVE = ("LORA", "LOHA", "LOKR", "LyCORIS")
"""Types of which several may be attached at once, their updates adding up."""
