"""Where the weights of an adapter lie at a path that somebody gives. No torch."""

from collections.abc import Iterator
from pathlib import Path

from acetrain.adapters.files import lycoris, peft, whole
from acetrain.errors import Refused
from acetrain.tensorfile import Header, read_header

NAMES = (peft.WEIGHTS, *lycoris.WEIGHTS.values(), whole.WEIGHTS, "pytorch_lora_weights.safetensors")
"""What the weights in an adapter's folder may be called; any name will do where there is one safetensors."""
FINISHED = ("adapter", "final")
"""Folders in a run's, this project's or another trainer's, that its finished adapter lies in."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CONVERT = (
    "import sys, torch; from safetensors.torch import save_file; "
    "save_file({name: value.contiguous() for name, value in "
    "torch.load(sys.argv[1], map_location='cpu', weights_only=True).items()}, sys.argv[2])"
)


def weights_at(path: Path) -> Path:
    """The safetensors of the adapter at `path`: a file, an adapter's folder, or a run's.

    Raises Refused where there is none, where it is one of several, and for a pickle, which is not opened.
    """
    if not path.is_dir():
        return _file(path)
    for folder in _from(path):
        named = [folder / name for name in NAMES if (folder / name).is_file()]
        found = named[:1] or sorted(folder.glob("*.safetensors"))
        if len(found) > 1:
            several = ", ".join(file.name for file in found[:4])
            raise Refused(f"adapter_path: must name one file of {folder}, which holds {several}")
        if found:
            return found[0]
    for file in sorted(path.glob("adapter_model.*")):
        return _file(file)
    below = sorted({str(file.parent.relative_to(path)) for file in path.glob("*/**/*.safetensors")})
    if below:
        more = ", ..." if len(below) > 6 else ""
        raise Refused(f"adapter_path: must name one adapter of {path}, which holds {', '.join(below[:6])}{more}")
    raise Refused(f"adapter_path: {path / peft.WEIGHTS} does not exist")


def opened(weights: Path) -> Header:
    """The header of the weights. Raises Refused where the file is not whole, or a pickle."""
    try:
        return read_header(weights)
    except (OSError, ValueError) as error:
        if _starts_like_a_pickle(weights):
            raise _pickled(weights) from error
        raise Refused(f"adapter_path: {weights} cannot be read as safetensors ({error})") from error


def _from(path: Path) -> Iterator[Path]:
    """The folder, and those in it that finished adapters lie in."""
    yield path
    for name in FINISHED:
        if (path / name).is_dir():
            yield from _from(path / name)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise Refused(f"adapter_path: {path} does not exist")
    if path.suffix.lower() in _PICKLES:
        raise _pickled(path)
    return path


def _starts_like_a_pickle(file: Path) -> bool:
    """Whether a file starts as torch's archives do, or as a pickle."""
    with file.open("rb") as stream:
        start = stream.read(2)
    return start == b"PK" or (start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def _pickled(file: Path) -> Refused:
    return Refused(
        f"adapter_path: {file} is a pickle, which may run code as it is read; its tensors alone, as safetensors:\n"
        f'python -c "{_CONVERT}" {file} {file.with_suffix(".safetensors")}'
    )
