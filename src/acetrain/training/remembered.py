"""Frame budgets found on this user's cards, in one JSON that several processes may use."""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from acetrain import __version__, atomic
from acetrain.adapters.injection import trainable
from acetrain.training.module import FlowMatching

FILE = "budgets.json"


@dataclass(frozen=True)
class Remembered:
    """Budgets by the circumstances they were found in."""

    folder: str
    """Where they are kept; empty to keep none."""

    @property
    def file(self) -> Path:
        """The JSON that holds them."""
        return Path(self.folder).expanduser() / FILE

    def find(self, key: Mapping[str, Any]) -> int:
        """The frames kept under `key`; 0 where there are none."""
        return int(self._entries().get(_digest(key), {}).get("max_frames", 0))

    def keep(self, key: Mapping[str, Any], frames: int) -> None:
        """Add `frames` under `key`; what other processes add at the same time stays.

        Where the folder cannot be written to, that is said, and the run goes on.
        """
        if not self.folder:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.file.with_suffix(".lock")):
                entries = self._entries() | {_digest(key): {"max_frames": frames, **key}}
                atomic.write_text(self.file, json.dumps(entries, indent=1, sort_keys=True) + "\n")
        except OSError as error:
            print(f"data.budgets: {self.file} cannot be written ({error}); the next run finds it anew", flush=True)

    def _entries(self) -> dict[str, dict[str, Any]]:
        if not self.folder:
            return {}
        try:
            entries = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            print(f"data.budgets: {self.file} cannot be read ({error}); what it holds is found anew", flush=True)
            return {}
        except ValueError as error:
            print(f"{self.file}: is not JSON ({error}); what it held is found anew", flush=True)
            return {}
        return entries if isinstance(entries, dict) else {}


def circumstances(module: FlowMatching, card: tuple[str, int], extent: Mapping[str, int]) -> dict[str, Any]:
    """All that the memory of a step depends on: card, shapes of model, adapter and songs, formats and versions."""
    adapter = [[name, list(parameter.shape), str(parameter.dtype)] for name, parameter in trainable(module.dit).items()]
    return {
        "card": card[0],
        "card_memory": card[1],
        "model": _digest(dict(module.dit.config)),
        "base": str(module.dit.scale_shift_table.dtype),
        "adapter": _digest(adapter),
        "adapter_parameters": sum(parameter.numel() for parameter in trainable(module.dit).values()),
        "optimizer": module.recipe.optimizer.kind,
        "average": module.average is not None,
        "precision": str(module.trainer.precision),
        "recomputed": list(module.dit.recomputed),
        "compiled": module.dit.compiled,
        "stored": sorted({type(layer).__name__ for layer in module.dit.modules() if isinstance(layer, nn.Linear)}),
        **extent,
        "torch": torch.__version__,
        "acetrain": __version__,
    }


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
