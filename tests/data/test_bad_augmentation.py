"""Wordings, windows and loudness that must be refused: each request with its message, and nothing changed on disk."""

import re

import pytest

from acetrain.cli import main

TABLE: list[tuple[str, str]] = [
    ("preprocess crop_secnds=30", r"crop_secnds: there is no such key \(Preprocess\); nearest: crop_seconds"),
    ("preprocess crop_seconds=long", r"crop_seconds: must be a number, or null, got 'long'"),
    (
        "preprocess songs=x cache=y crop_seconds=0",
        r"crop_seconds: must be at least 1 and at most 600, or null, got 0.0",
    ),
    (
        "preprocess songs=x cache=y crop_seconds=601",
        r"crop_seconds: must be at least 1 and at most 600, or null, got 601",
    ),
    ("preprocess loudnes=-14", r"loudnes: there is no such key \(Preprocess\); nearest: loudness"),
    ("preprocess loudness=loud", r"loudness: must be a number, or null, got 'loud'"),
    ("preprocess songs=x cache=y loudness=14", r"loudness: must be from -40 to 0 LUFS, or null, got 14.0"),
    ("preprocess songs=x cache=y loudness=-41", r"loudness: must be from -40 to 0 LUFS, or null, got -41.0"),
    ("preprocess prompts=shuffled_tag", r"prompts: there is no option 'shuffled_tag'; nearest: shuffled_tags"),
    (
        "preprocess prompts.varients=8",
        r"prompts.varients: there is no such key in prompts \(Prompts\); nearest: variants",
    ),
    ("preprocess prompts.variants=many", r"prompts.variants: must be a whole number, got 'many'"),
    ("preprocess prompts.shuffle_tags=often", r"prompts.shuffle_tags: must be true or false, got 'often'"),
    ("preprocess songs=x cache=y prompts.variants=0", r"prompts.variants: must be at least 1, got 0"),
    (
        "preprocess songs=x cache=y prompts.variants=8",
        r"prompts.variants: must be 1 where tags are neither shuffled nor left out, got 8",
    ),
    (
        "scan songs=x prompts=shuffled_tags prompts.variants=1",
        r"prompts.variants: must be at least 2 for tags to be shuffled or left out, got 1",
    ),
    ("scan songs=x prompts=shuffled_tags prompts.tag_dropout=1", r"prompts.tag_dropout: must be in \[0, 1\), got 1.0"),
    (
        "scan songs=x prompts=shuffled_tags prompts.tag_dropout=nan",
        r"prompts.tag_dropout: must be in \[0, 1\), got nan",
    ),
    ("train data.crop_second=30", r"data.crop_second: there is no such key in data \(Data\); nearest: crop_seconds"),
    ("train data.crop_seconds=whole", r"data.crop_seconds: must be a number, or null, got 'whole'"),
    ("train cache=x data.crop_seconds=0.5", r"data.crop_seconds: must be at least 1 and at most 600, or null, got 0.5"),
    ("train cache=x data.crop_seconds=inf", r"data.crop_seconds: must be at least 1 and at most 600, or null, got inf"),
]
"""Arguments, split at blanks, and what stderr must start with."""


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_it_is_refused_with_its_message_and_nothing_changes(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = main(arguments.split(" "))
    stderr = capsys.readouterr().err
    assert re.match(message, stderr), stderr
    assert code == 2 and len(stderr.splitlines()) <= 4 and "Traceback" not in stderr
    assert not list(tmp_path.iterdir())
