"""How long `--help` takes, as a user waits for it: the median of some starts of each job, in processes of their own.

python -m benchmarks.start_up > benchmarks/results/start_up.md
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

from acetrain.schemas import JOBS
from benchmarks import machine


def seconds(command: list[str]) -> float:
    """Wall-clock time of one run of `command`, which must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print a table of the medians and the worst."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=7)
    starts = parser.parse_args().starts
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {machine.commit()}\n")
    print(f"| command | median of {starts} (s) | worst (s) |\n| --- | ---: | ---: |")
    for arguments in (["--help"], *([job, "--help"] for job in JOBS)):
        times = [seconds([sys.executable, "-m", "acetrain", *arguments]) for _ in range(starts)]
        print(f"| acetrain {' '.join(arguments)} | {statistics.median(times):.2f} | {max(times):.2f} |")


if __name__ == "__main__":
    main()
