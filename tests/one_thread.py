"""One thread a process: what is compared to the bit must not depend on the machine's load."""

import torch

torch.set_num_threads(1)
