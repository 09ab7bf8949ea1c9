"""What PEFT and LyCORIS call the weights of their adapters, and torch those of layers: known before any is built."""

WEIGHTS = (
    "lora_A",
    "lora_B",
    "lora_E",
    "lora_magnitude_vector",
    "lokr_w1",
    "lokr_w1_a",
    "lokr_w1_b",
    "lokr_w2",
    "lokr_w2_a",
    "lokr_w2_b",
    "hada_w1_a",
    "hada_w1_b",
    "hada_w2_a",
    "hada_w2_b",
    "oft_R",
    "boft_R",
    "boft_s",
    "vera_lambda_b",
    "vera_lambda_d",
    "ia3_l",
    "lora_up",
    "lora_down",
    "dora_scale",
    "bias",
)
"""Names of the weights beside each adapted module."""
