"""A checkpoint of a gigabyte is loaded within 1.2 times the memory of its weights."""

import pytest

from benchmarks.checkpoint import write
from benchmarks.load import measure


@pytest.mark.slow
@pytest.mark.parametrize("format", ["bf16", "fp32"])
@pytest.mark.parametrize("shards", [1, 4])
def test_loading_takes_little_more_than_the_weights(tmp_path, shards, format):
    assert write(tmp_path / "checkpoint", 2048, 8, shards) >= 1e9
    found = measure(tmp_path / "checkpoint", format)
    assert found["loaded_bytes"] >= 1e9 and found["looks"] > 10
    assert found["peak_anonymous"] <= 1.2
