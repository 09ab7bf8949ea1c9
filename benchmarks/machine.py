"""What a figure was measured on, and where the results are kept."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def device_of(name: str) -> torch.device:
    """`cpu`, `cuda`, or for `auto` a GPU where there is one."""
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def machine(device: torch.device) -> dict[str, str]:
    """Processor or card, cores and versions; nothing that names the machine."""
    found = {"cpu": _cpu(), "cores": str(os.cpu_count()), "threads": str(torch.get_num_threads())}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"card": f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"}
    found |= {"torch": torch.__version__, "python": platform.python_version()}
    return found | {"load_before": f"{os.getloadavg()[0]:.1f}"}


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", file.read_text() if file.exists() else "", re.MULTILINE)
    return named[1] if named else platform.machine()


def memory(entry: str) -> int:
    """Bytes of an entry of this process's `/proc/self/status`, such as `VmHWM` or `RssAnon`."""
    found = re.search(rf"^{entry}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {entry}")
    return int(found[1]) * 1024


def commit() -> str:
    """The commit of this checkout, `-dirty` if a file that git follows was changed; results of benchmarks apart."""
    git = ["git", "-C", str(Path(__file__).parent)]
    name = subprocess.run([*git, "describe", "--always", "--exclude=*"], capture_output=True, text=True, check=True)
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ":/", ":!results"], check=False).returncode
    return name.stdout.strip() + ("-dirty" if changed else "")


def command(module: str) -> str:
    """The command line that repeats this run, without where its results went."""
    given = list(sys.argv[1:])
    if "--out" in given:
        del given[given.index("--out") : given.index("--out") + 2]
    return shlex.join(["python", "-m", module, *given])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, all columns but the first aligned to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(name: str, out: str, about: Mapping[str, Any], figures: Any, page: str) -> None:
    """Write `<name>.json` and `<name>.md` below `out`, or the results folder, and print the page."""
    folder = Path(out) if out else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    text = f"{page}\n\n{facts}\n"
    (folder / f"{name}.json").write_text(json.dumps({**about, "figures": figures}, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text, end="")
