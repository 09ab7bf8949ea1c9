"""Timesteps, losses and weightings that must be refused: each request with its message, and nothing changed on disk."""

import re

import pytest

from acetrain.cli import main

FILES = {
    "conf/timesteps/typo.yaml": "defaults:\n  - beta\n  - _self_\nalpha: 2.0\n",
    "conf/timesteps/unfinished.yaml": "defaults:\n  - /schema/timesteps@_here_: mode\n  - _self_\nscale: 1.0\n",
    "conf/timesteps/inverted.yaml": "defaults:\n  - logit_normal\n  - _self_\nlow: 0.8\nhigh: 0.2\n",
    "conf/weighting/negative.yaml": "defaults:\n  - min_snr\n  - _self_\ngamma: -1.0\n",
    "experiments/bins.yaml": "defaults:\n  - override /timesteps: adaptive\ntimesteps:\n  bins: many\n",
}

TABLE: list[tuple[str, str]] = [
    ("train timesteps=logitnormal", r"timesteps: there is no option 'logitnormal'; nearest: logit_normal"),
    (
        "train timesteps=logit_normal timesteps.mu=0",
        r"timesteps.mu: there is no such key in timesteps \(LogitNormal\); .*",
    ),
    ("train timesteps=uniform timesteps.mean=0", r"timesteps.mean: there is no such key in timesteps \(Uniform\)"),
    ("train cache=x timesteps=logit_normal timesteps.std=0", r"timesteps.std: must be above 0 and finite, got 0.0"),
    ("train cache=x timesteps=logit_normal timesteps.std=-1", r"timesteps.std: must be above 0 and finite, got -1.0"),
    ("train cache=x timesteps=logit_normal timesteps.mean=inf", r"timesteps.mean: must be finite, got inf"),
    ("train timesteps=logit_normal timesteps.mean=null", r"timesteps.mean: must not be null"),
    ("train cache=x timesteps.std=0", r"timesteps.std: must be above 0 and finite, or null, got 0.0"),
    ("train cache=x timesteps.mean=-inf", r"timesteps.mean: must be finite, or null, got -inf"),
    ("train cache=x timesteps.shift=0", r"timesteps.shift: must be above 0 and finite, got 0.0"),
    ("train cache=x timesteps.shift=-3", r"timesteps.shift: must be above 0 and finite, got -3.0"),
    ("train cache=x timesteps.shift=inf", r"timesteps.shift: must be above 0 and finite, got inf"),
    ("train cache=x timesteps.low=-0.1", r"timesteps.low: must be in \[0, 1\), got -0.1"),
    ("train cache=x timesteps.low=1", r"timesteps.low: must be in \[0, 1\), got 1.0"),
    ("train cache=x timesteps.high=1.5", r"timesteps.high: must be above low \(0\), at most 1, got 1.5"),
    (
        "train cache=x timesteps.low=0.7 timesteps.high=0.3",
        r"timesteps.high: must be above low \(0.7\), at most 1, got 0.3",
    ),
    (
        "train cache=x timesteps.low=0.5 timesteps.high=0.5",
        r"timesteps.high: must be above low \(0.5\), at most 1, got 0.5",
    ),
    (
        "train cache=x timesteps=logit_normal timesteps.low=0.9999",
        r"timesteps.low: must be such that low..high holds at least 0.0001 of the density \(it holds 0\), got 0.9999",
    ),
    ("train timesteps.stratified=often", r"timesteps.stratified: must be true or false, got 'often'"),
    ("train cache=x timesteps=discrete timesteps.steps=0", r"timesteps.steps: must be at least 1, got 0"),
    ("train timesteps=discrete timesteps.steps=8.5", r"timesteps.steps: must be a whole number, got 8.5"),
    (
        "train cache=x timesteps=discrete timesteps.low=0.31 timesteps.high=0.49",
        r"timesteps.low: must be such that low..high holds one of the sampler's times \(nearest: 0.[35]\), got 0.31",
    ),
    ("train cache=x timesteps=mode timesteps.scale=2", r"timesteps.scale: must be from -1 to 1.7519, .* got 2.0"),
    ("train cache=x timesteps=mode timesteps.scale=-1.5", r"timesteps.scale: must be from -1 to 1.7519, .* got -1.5"),
    ("train cache=x timesteps=beta timesteps.a=0", r"timesteps.a: must be above 0 and finite, got 0.0"),
    ("train cache=x timesteps=beta timesteps.b=-2", r"timesteps.b: must be above 0 and finite, got -2.0"),
    ("train cache=x timesteps=adaptive timesteps.bins=1", r"timesteps.bins: must be from 2 to 1000, got 1"),
    ("train cache=x timesteps=adaptive timesteps.decay=1", r"timesteps.decay: must be in \[0, 1\), got 1.0"),
    ("train cache=x timesteps=adaptive timesteps.floor=0", r"timesteps.floor: must be in \(0, 1\], got 0.0"),
    ("train cache=x -m timesteps=uniform,bta", r"timesteps: there is no option 'bta'; nearest: beta"),
    ("train cache=x -m timesteps.shift=1,0", r"timesteps.shift: must be above 0 and finite, got 0.0"),
    ("train loss=hubber", r"loss: there is no option 'hubber'; nearest: huber"),
    ("train loss=mse loss.delta=1", r"loss.delta: there is no such key in loss \(Mse\); valid: reduction"),
    ("train cache=x loss=huber loss.delta=0", r"loss.delta: must be above 0 and finite, got 0.0"),
    ("train loss.reduction=mean", r"loss.reduction: must be one of song, frame, got 'mean'"),
    ("train weighting=minsnr", r"weighting: there is no option 'minsnr'; nearest: min_snr"),
    ("train weighting=null", r"weighting: there is no option None"),
    ("train cache=x weighting=min_snr weighting.gamma=0", r"weighting.gamma: must be above 0 and finite, got 0.0"),
    ("train weighting=debias weighting.gamma=5", r"weighting.gamma: there is no such key in weighting \(Debias\)"),
    ("train weighting=min_snr weighting.gamma=five", r"weighting.gamma: must be a number, got 'five'"),
    ("train loss.weighting=min_snr", r"loss.weighting: there is no such key in loss \(Mse\); valid: reduction"),
    ("train timesteps=typo", r"conf/timesteps/typo.yaml: timesteps.alpha: there is no such key in timesteps \(Beta\)"),
    ("train cache=x timesteps=unfinished", r"timesteps.high: must be given, a number"),
    ("train cache=x timesteps=inverted", r"conf/timesteps/inverted.yaml: timesteps.high: must be above low \(0.8\)"),
    ("train cache=x weighting=negative", r"conf/weighting/negative.yaml: weighting.gamma: must be above 0"),
    ("train cache=x experiment=bins", r"experiments/bins.yaml: timesteps.bins: must be a whole number, got 'many'"),
    ("explain timesteps=bta", r"timesteps: there is no option 'bta'; nearest: beta"),
]
"""Arguments, split at blanks, and what stderr must start with."""


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_it_is_refused_with_its_message_and_nothing_changes(arguments, message, tmp_path, monkeypatch, capsys):
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.chdir(tmp_path)
    code = main(arguments.split(" "))
    stderr = capsys.readouterr().err
    assert re.match(message, stderr), stderr
    assert code == 2 and len(stderr.splitlines()) <= 4 and "Traceback" not in stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
