"""How the official trainer and Side-Step encode songs, as far as their tensors tell, and what that means."""

import math
import shlex
from pathlib import Path

from acetrain.acestep.model import Model
from acetrain.data.foreign.listing import holds_samples
from acetrain.data.index import INDEX, UNKNOWN, Fingerprint
from acetrain.errors import Refused

TEMPLATE = "official trainer"
TIMBRE = "zeros"
NO_SEED = -1
"""The seed of latents whose noise came from elsewhere."""

DIFFERENCES = {
    "timbre": "taken from zeros, at inference from the latent of silence; zeros make for drone-like sound",
    "lyrics": "bare text of at most 512 tokens, at inference with language and headings, up to 2048: "
    "words beyond were never learned",
    "padding": "taken off here, in that trainer attended to: its runs are not repeated exactly",
    "duration": "told of the whole file even where only its first minutes were encoded",
    "language": "never told, at inference it is",
}
"""What was encoded -> how, and what that does."""


def fingerprint(model: Model) -> Fingerprint:
    """How such a cache's songs were encoded: by a variant, told by the user, and by weights that nobody can check."""
    vae = model.config("vae")
    return Fingerprint(
        variant=model.name,
        weights=UNKNOWN,
        weights_files=[],
        template=TEMPLATE,
        timbre=TIMBRE,
        precision=UNKNOWN,
        seed=NO_SEED,
        latent_channels=vae["decoder_input_channels"],
        condition_width=model.config("condition_encoder")["hidden_size"],
        frame_rate=vae["sampling_rate"] / math.prod(vae["downsampling_ratios"]),
        sample_rate=vae["sampling_rate"],
    )


def warning(cache: str | Path, model: Model) -> str:
    """What to tell of a cache whose songs another trainer encoded."""
    lines = [f"warning: the songs of {cache} were encoded by another trainer, not as prompts are at inference:"]
    lines += [f"  {what}: {how}" for what, how in DIFFERENCES.items()]
    lines += [
        "the adapter learns conditions that no player sends; expect a weaker likeness and blurred words.",
        f"better: acetrain preprocess {model.arguments()} songs=SONGS cache=ANOTHER, from the songs themselves",
    ]
    return "\n".join(lines)


def refuse_unconverted(cache: str, model: Model) -> None:
    """Raise `Refused`, with the command that converts it, where `cache` is a folder of another trainer's tensors."""
    folder = Path(cache)
    if (folder / INDEX).exists() or not holds_samples(folder):
        return
    target = shlex.quote(f"{cache.rstrip('/')}_adopted")
    command = f"acetrain adopt {model.arguments()} tensors={shlex.quote(cache)} cache={target}"
    raise Refused(f"cache: {cache} holds another trainer's .pt files; convert them: {command}")
