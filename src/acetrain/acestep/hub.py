"""A checkpoint from the Hugging Face hub: from its local cache, or over the network where there is one."""

import sys
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from acetrain.errors import Refused

_WANTED = ["*.json", "*.safetensors", "*.txt", "*.jinja", "silence_latent.pt"]
"""What a checkpoint consists of; code and other pickles stay there."""


def fetched(repository: str) -> Path:
    """The folder of a repository's newest snapshot. Raises `Refused` where it is not to be had."""
    try:
        return Path(snapshot_download(repository, allow_patterns=_WANTED, local_files_only=True))
    except LocalEntryNotFoundError:
        print(f"model: downloading {repository} from the Hugging Face hub", file=sys.stderr, flush=True)
    try:
        return Path(snapshot_download(repository, allow_patterns=_WANTED))
    except (HfHubHTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Refused(
            f"model.path: {repository} is no folder, and could not be had from the hub ({reason})\n"
            f"get it where there is a network: hf download {repository}"
        ) from error
