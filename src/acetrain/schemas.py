"""The tables of what can be chosen: a job is one line, a schema of an option group is one line."""

from collections.abc import Mapping

from acetrain.acestep.model import Released, Tiny
from acetrain.acestep.tasks import Complete, Cover, Extract, Lego, Repaint, Text2music
from acetrain.adapters.adalora import AdaLoRA
from acetrain.adapters.by_sensitivity import BySensitivity
from acetrain.adapters.full import Full
from acetrain.adapters.lora import DoRA, LoRA, RsLoRA
from acetrain.adapters.products import LoHa, LoKr
from acetrain.adapters.rotations import BOFT, OFT
from acetrain.adapters.targets import Blocks, Targets
from acetrain.adapters.through_lycoris import LoConDora, LoHaLycoris, LoKrLycoris
from acetrain.adapters.vectors import IA3, VeRA
from acetrain.data.option import Data
from acetrain.data.prompts import Prompts
from acetrain.flow.adaptive import Adaptive
from acetrain.flow.loss import Huber, LogCosh, Mse
from acetrain.flow.timesteps import Acestep, Beta, Cosmap, Discrete, LogitNormal, Mode, Uniform
from acetrain.flow.weighting import CosmapWeighting, Debias, MinSnr, SigmaSqrt, Unweighted
from acetrain.jobs.adopt import Adopt
from acetrain.jobs.combine import Combine
from acetrain.jobs.compare import Compare
from acetrain.jobs.explain import Explain
from acetrain.jobs.export import Export
from acetrain.jobs.generate import Generate
from acetrain.jobs.inspect import Inspect
from acetrain.jobs.preprocess import Preprocess
from acetrain.jobs.prune import Prune
from acetrain.jobs.scan import Scan
from acetrain.jobs.sensitivity import Sensitivity
from acetrain.jobs.sweep import Sweep
from acetrain.jobs.sync import Sync
from acetrain.jobs.synthesize import Synthesize
from acetrain.jobs.train import Train
from acetrain.sweeps.launchers import Here, Local
from acetrain.sweeps.settings import Settings
from acetrain.sweeps.slurm.option import Slurm
from acetrain.tracking.logger import Both, Csv, Tensorboard, Wandb
from acetrain.training.ema import Ema, NoEma
from acetrain.training.optimizer import AdamW, LoraPlus
from acetrain.training.optimizers.eight_bit import AdamW8bit, Lion, Lion8bit, PagedAdamW8bit
from acetrain.training.optimizers.factored import Adafactor, Came
from acetrain.training.optimizers.muon import Muon
from acetrain.training.optimizers.named import Named
from acetrain.training.optimizers.prodigy import Prodigy, ProdigyScheduleFree
from acetrain.training.optimizers.schedule_free import AdamWScheduleFree
from acetrain.training.precision import Precision
from acetrain.training.samples import NoSamples, Samples
from acetrain.training.schedule import (
    Constant,
    Cosine,
    CosineRestarts,
    Linear,
    Polynomial,
    Rex,
    WarmupStableDecay,
)
from acetrain.training.trainer import TrainerOption

JOBS: Mapping[str, type] = {
    "synthesize": Synthesize,
    "scan": Scan,
    "preprocess": Preprocess,
    "adopt": Adopt,
    "train": Train,
    "sensitivity": Sensitivity,
    "generate": Generate,
    "inspect": Inspect,
    "export": Export,
    "combine": Combine,
    "prune": Prune,
    "compare": Compare,
    "sweep": Sweep,
    "sync": Sync,
    "explain": Explain,
}
"""Job -> the dataclass that is its configuration; `conf/<job>.yaml` holds its defaults."""

MULTIRUN = "multirun"
ROOTS: Mapping[str, type] = {**JOBS, MULTIRUN: Settings}
"""What is composed as a whole: the jobs, and how a multirun of one is run."""

PRODUCTS: Mapping[str, str] = {
    "synthesize": "out_dir",
    "scan": "output",
    "preprocess": "cache",
    "adopt": "cache",
    "train": "out_dir",
    "sensitivity": "out_dir",
    "generate": "output",
    "export": "output",
    "combine": "output",
    "prune": "out_dir",
    "compare": "out_dir",
}
"""Job -> the key that names what it writes; no two jobs of a multirun may write the same."""

GROUPS: Mapping[str, Mapping[str, type]] = {
    "model": {"tiny": Tiny, "released": Released},
    "task": {
        "text2music": Text2music,
        "repaint": Repaint,
        "cover": Cover,
        "extract": Extract,
        "lego": Lego,
        "complete": Complete,
    },
    "adapter": {
        "lora": LoRA,
        "rslora": RsLoRA,
        "dora": DoRA,
        "loha": LoHa,
        "lokr": LoKr,
        "oft": OFT,
        "boft": BOFT,
        "vera": VeRA,
        "ia3": IA3,
        "adalora": AdaLoRA,
        "lokr_lycoris": LoKrLycoris,
        "loha_lycoris": LoHaLycoris,
        "locon_dora": LoConDora,
        "full": Full,
    },
    "targets": {"patterns": Targets, "blocks": Blocks, "by_sensitivity": BySensitivity},
    "optimizer": {
        "adamw": AdamW,
        "adamw8bit": AdamW8bit,
        "paged_adamw8bit": PagedAdamW8bit,
        "adamw_schedulefree": AdamWScheduleFree,
        "lora_plus": LoraPlus,
        "lion": Lion,
        "lion8bit": Lion8bit,
        "adafactor": Adafactor,
        "came": Came,
        "prodigy": Prodigy,
        "prodigy_schedulefree": ProdigyScheduleFree,
        "muon": Muon,
        "any": Named,
    },
    "schedule": {
        "constant": Constant,
        "linear": Linear,
        "cosine": Cosine,
        "cosine_restarts": CosineRestarts,
        "polynomial": Polynomial,
        "rex": Rex,
        "warmup_stable_decay": WarmupStableDecay,
    },
    "ema": {"none": NoEma, "ema": Ema},
    "timesteps": {
        "acestep": Acestep,
        "logit_normal": LogitNormal,
        "uniform": Uniform,
        "discrete": Discrete,
        "mode": Mode,
        "cosmap": Cosmap,
        "beta": Beta,
        "adaptive": Adaptive,
    },
    "loss": {"mse": Mse, "huber": Huber, "log_cosh": LogCosh},
    "weighting": {
        "none": Unweighted,
        "min_snr": MinSnr,
        "sigma_sqrt": SigmaSqrt,
        "cosmap": CosmapWeighting,
        "debias": Debias,
    },
    "precision": {"precision": Precision},
    "data": {"cached": Data},
    "prompts": {"prompts": Prompts},
    "trainer": {"trainer": TrainerOption},
    "samples": {"none": NoSamples, "prompts": Samples},
    "logger": {"csv": Csv, "wandb": Wandb, "tensorboard": Tensorboard, "wandb_tensorboard": Both},
    "launcher": {"here": Here, "local": Local, "slurm": Slurm},
}
"""Group -> schema -> dataclass; the first default of `conf/<group>/<option>.yaml` names the schema."""
