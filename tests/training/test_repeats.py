"""A song's own repeat, from the cache's index to the draws of a step."""

import json
from collections import Counter
from pathlib import Path

import fabricate

from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources
from acetrain.data.loader import Steps
from acetrain.flow.loss import Reduction


def test_a_song_is_drawn_for_as_often_as_its_repeat_says(tmp_path: Path) -> None:
    folder = fabricate.cache(tmp_path / "cache", 4)
    index = json.loads((folder / "index.json").read_text())
    for song, repeat in zip(index["songs"], (1, 3, 1, 2), strict=True):
        song["repeat"] = repeat
    (folder / "index.json").write_text(json.dumps(index))
    asked = [f"cache={folder}", "data.repeats=2", "songs_per_step=3", "seed=5", f"out_dir={tmp_path / 'run'}"]
    job = Composer("train", Sources((PACKAGED,))).compose([read(text) for text in asked]).build()
    assert job.plan.steps_per_epoch == 5 and job.plan.visits_per_epoch == (2, 6, 2, 4)
    steps = Steps(job.songs, job.split[0], job.plan, 10**6, 0, 1, Reduction.song, cropped=False)
    keys = [key for index in range(10) for batch in steps._micro_batches(index) for key in batch.keys]
    assert len(set(keys)) == len(keys) == 28
    assert Counter((epoch, name) for _, epoch, name, _ in keys) == {
        (epoch, f"song{song}.wav"): count for epoch in range(2) for song, count in enumerate((2, 6, 2, 4))
    }
