"""What the quickstart claims: a style the tiny base has not heard is learnt, as judged on songs held out."""

import csv
import math
import re
import statistics
from pathlib import Path

import pytest
from runs import MAKEFILE, acetrain

UNSEEN = re.search(r"style=(\w+)", MAKEFILE.read_text())


def differences(run: Path) -> list[float]:
    """Last held-out loss minus the first, for every (song, quantile)."""
    losses: dict[int, dict[tuple[str, str], float]] = {}
    with (run / "validation.csv").open() as file:
        for row in csv.DictReader(file):
            losses.setdefault(int(row["step"]), {})[row["song"], row["quantile"]] = float(row["loss"])
    first, last = losses[0], losses[max(losses)]
    assert max(losses) > 0 and first.keys() == last.keys()
    return [last[key] - first[key] for key in first]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_new_style_is_learnt(tmp_path: Path, seed: int) -> None:
    assert UNSEEN is not None
    songs, cache, run = (tmp_path / name for name in ("songs", "cache", "run"))
    for arguments in (
        ["synthesize", f"out_dir={songs}", f"style={UNSEEN[1]}", "count=12", f"seed={seed}"],
        ["preprocess", f"songs={songs}", f"cache={cache}"],
        ["train", "experiment=new_style", f"cache={cache}", f"out_dir={run}", f"seed={seed}", "logger=csv"],
    ):
        done = acetrain(*arguments)
        assert done.returncode == 0, done.stderr
    found = differences(run)
    error = statistics.stdev(found) / math.sqrt(len(found))
    assert len(found) == 24 and statistics.mean(found) < -2 * error
