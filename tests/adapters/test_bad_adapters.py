"""Adapters that must be refused: each request with its message, and nothing changed on disk."""

import re

import pytest

from acetrain.cli import main

FILES = {
    "conf/adapter/typo.yaml": "defaults:\n  - adalora\n  - _self_\nfinal_rank: 2\n",
    "conf/adapter/large.yaml": "defaults:\n  - adalora\n  - _self_\ntarget_rank: 200\n",
}

TABLE: list[tuple[str, str]] = [
    ("train adapter=adalor", r"adapter: there is no option 'adalor'; nearest: adalora"),
    ("train adapter=adalora adapter.target_rnk=4", r"adapter.target_rnk: there is no such key in adapter \(AdaLoRA\)"),
    (
        "train cache=x adapter=adalora adapter.target_rank=96",
        r"adapter.target_rank: must be at least 1 and below adapter.rank \(96\), got 96",
    ),
    (
        "train cache=x adapter=adalora adapter.final_share=0.95",
        r"adapter.final_share: must be below 1 with adapter.warmup_share \(0.1\), got 0.95",
    ),
    ("train adapter=adalora adapter.interval=often", r"adapter.interval: must be a whole number, got 'often'"),
    ("train cache=x adapter=typo", r"conf/adapter/typo.yaml: adapter.final_rank: there is no such key in adapter"),
    ("train cache=x adapter=large", r"conf/adapter/large.yaml: adapter.target_rank: must be at least 1 and below"),
    ("train adapter=lokr_licoris", r"adapter: there is no option 'lokr_licoris'; nearest: lokr_lycoris"),
    ("train cache=x adapter=lokr_lycoris adapter.factor=0", r"adapter.factor: must be at least 2, or -1, got 0"),
    ("train adapter=loha_lycoris adapter.factor=4", r"adapter.factor: there is no such key in adapter \(LoHaLycoris\)"),
    (
        "train cache=x adapter=locon_dora adapter.module_dropout=1",
        r"adapter.module_dropout: must be in \[0, 1\), got 1.0",
    ),
    ("train adapter=locon_dora adapter.dora=true", r"adapter.dora: there is no such key in adapter \(LoConDora\)"),
    ("train cache=x adapter=locon_dora adapter.alpha=0", r"adapter.alpha: must be above 0 and finite, got 0.0"),
    ("train adapter.init=evaa", r"adapter.init: must be one of .*, got 'evaa'"),
    ("train cache=x adapter.init=eva adapter.init_songs=0", r"adapter.init_songs: must be at least 1, got 0"),
    (
        "train cache=x adapter.init=corda targets=all_linear",
        r"adapter.init: corda must have modules that see many rows of a song, time_embed.linear_1 sees one",
    ),
    (
        "train cache=x model=tiny adapter.init=lora_ga adapter.rank=65",
        r"adapter.init: lora_ga must have a rank of at most half the module's smaller side",
    ),
    (
        "train cache=x adapter=dora adapter.init=lora_ga",
        r"adapter.init: must be default, gaussian, orthogonal or eva for DoRA, got 'lora_ga'",
    ),
    ("train adapter=full adapter.rank=8", r"adapter.rank: there is no such key in adapter \(Full\); valid: everything"),
    ("train adapter=full adapter.everything=maybe", r"adapter.everything: must be true or false, got 'maybe'"),
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
