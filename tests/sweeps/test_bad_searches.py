"""Searches that must be refused: each with its message, exit code 2, and nothing changed on disk."""

import re
from pathlib import Path

import pytest
from fabricate import files

from acetrain.cli import main

SPACE = "{optimizer.lr: {low: 1e-5, high: 1e-2, log: true}}"


def sweep(space: str = SPACE, more: str = "", job: str = "") -> str:
    return f"{job}\nmax_steps: 300\nsearch:\n  space: {space}\n  {more}\n"


FILES = {
    "unknown.yaml": sweep(more="trails: 3"),
    "type.yaml": sweep(more="trials: many"),
    "none.yaml": sweep(more="trials: 0"),
    "sampler.yaml": sweep(more="sampler: tep"),
    "metric.yaml": sweep(more="metric: loss"),
    "averaged.yaml": sweep(more="metric: val_loss_ema"),
    "pruner.yaml": sweep(more="pruner: {kind: asha, reduction: 1}"),
    "late.yaml": sweep(more="pruner: {min_steps: 250}"),
    "nothing.yaml": "search: {trials: 3}\n",
    "text.yaml": "search: tpe\n",
    "both.yaml": f"grid: {{seed: [1, 2]}}\n{sweep()}",
    "empty.yaml": sweep("{adapter.rank: {}}"),
    "half.yaml": sweep("{adapter.rank: {low: 4}}"),
    "mixed.yaml": sweep("{adapter.rank: {low: 4, high: 8, choices: [4, 8]}}"),
    "ends.yaml": sweep("{adapter.rank: {low: 8, high: 4}}"),
    "zero.yaml": sweep("{optimizer.lr: {low: 0, high: 1, log: true}}"),
    "step.yaml": sweep("{adapter.dropout: {low: 0, high: 0.1, step: 0.2}}"),
    "twice.yaml": sweep("{adapter.rank: {choices: [4, 4]}}"),
    "typo.yaml": sweep("{adapter.rank: {lwo: 4, high: 8}}"),
    "key.yaml": sweep("{adapter.rnak: {low: 4, high: 8}}"),
    "whole.yaml": sweep("{adapter.rank: {low: 4, high: 8.5}}"),
    "rule.yaml": sweep("{adapter.dropout: {low: 0, high: 1.5}}"),
    "option.yaml": sweep("{adapter: {choices: [lora, lra]}}"),
    "without.yaml": sweep("{adapter: {choices: [lora, ia3]}, adapter.rank: {low: 4, high: 8}}"),
    "words.yaml": sweep("{resume: {low: 0, high: 1}}"),
    "same.yaml": sweep("{data.workers: {low: 0, high: 1}}"),
    "secret.yaml": sweep(more="storage: '${oc.env:NO_SUCH_VARIABLE_HERE}'"),
    "fine.yaml": sweep(),
}
TABLE = [
    ("unknown", r"sweeps/unknown.yaml: search.trails: there is no such key in search \(Search\); nearest: trials"),
    ("type", r"sweeps/type.yaml: search.trials: must be a whole number, got 'many'"),
    ("none", r"sweeps/none.yaml: search.trials: must be at least 1, got 0"),
    ("none search.trials=-1", r"search.trials: must be at least 1, got -1"),
    ("sampler", r"sweeps/sampler.yaml: search.sampler: must be one of tpe, random, got 'tep'"),
    ("metric", r"sweeps/metric.yaml: search.metric: must be one of val_loss, val_loss_ema, got 'loss'"),
    ("averaged", r"sweeps/averaged.yaml: search.metric: must be one of val_loss with this ema, got 'val_loss_ema'"),
    ("pruner", r"sweeps/pruner.yaml: search.pruner.reduction: must be at least 2, got 1"),
    ("late", r"sweeps/late.yaml: search.pruner.min_steps: must be such that a validation .* last step, 300, got 250"),
    ("nothing", r"sweeps/nothing.yaml: search.space: must be a mapping of keys to ranges or choices"),
    ("text", r"sweeps/text.yaml: search: must be a mapping such as `trials: 32`, got 'tpe'"),
    ("both", r"sweeps/both.yaml: must hold either a grid or a search, it holds both"),
    (
        "empty",
        r"sweeps/empty.yaml: search.space.adapter.rank: must be a range, low and high, or choices, got 'neither'",
    ),
    ("half", r"sweeps/half.yaml: search.space.adapter.rank: must be a range, .*, got 'one of them'"),
    ("mixed", r"sweeps/mixed.yaml: search.space.adapter.rank: must be either choices, or low and high, got 'both'"),
    ("ends", r"sweeps/ends.yaml: search.space.adapter.rank.low: must be below high, which is 4, got 8.0"),
    ("zero", r"sweeps/zero.yaml: search.space.optimizer.lr.low: must be above 0 where log is true, got 0.0"),
    ("step", r"sweeps/step.yaml: search.space.adapter.dropout.step: must be above 0, at most 0.1, got 0.2"),
    ("twice", r"sweeps/twice.yaml: search.space.adapter.rank.choices: must be different values, got \[4, 4\]"),
    ("typo", r"sweeps/typo.yaml: search.space.adapter.rank.lwo: there is no such key"),
    (
        "key",
        r"sweeps/key.yaml: adapter.rnak: there is no such key .*rank, ranks\nin job 1 of 2: adapter.rnak=4",
    ),
    ("whole", r"sweeps/whole.yaml: adapter.rank: must be a whole number, got 8.5\nin job 2 of 2"),
    ("rule", r"sweeps/rule.yaml: adapter.dropout: must be in \[0, 1\), got 1.5\nin job 2 of 2"),
    ("option", r"sweeps/option.yaml: adapter: there is no option 'lra'; nearest: lora"),
    ("without", r"sweeps/without.yaml: adapter.rank: there is no such key in adapter \(IA3\)"),
    ("words", r"sweeps/words.yaml: resume: must be one of auto, never, got 0"),
    ("same", r"out_dir: must differ between jobs, 1 and 2 would both write"),
    ("secret", r"sweeps/secret.yaml: search.storage: .*NO_SUCH_VARIABLE_HERE"),
    ("fine -m seed=1,2", r"search: must be asked for with one value a key: it is what varies them, got '2 jobs'"),
    ("fine optimizer.lr=1", r"search.space: must be more than the keys that are given on the command line"),
    ("fine data.validation=0", r"data.validation: must be above 0, as a search needs songs held out"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return files(tmp_path_factory.mktemp("working"), {f"sweeps/{name}": text for name, text in FILES.items()})


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_it_is_refused_before_anything_is_written(arguments, message, folder, tiny_cache, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    code = main(["train", f"cache={tiny_cache}", "logger=csv", f"sweep={arguments.split()[0]}", *arguments.split()[1:]])
    stderr = capsys.readouterr().err
    assert re.match(message, stderr), stderr
    assert code == 2
    assert len(stderr.splitlines()) <= 4
    assert sorted(folder.rglob("*")) == before


def test_every_file_is_in_the_table():
    assert {arguments.split()[0] for arguments, _ in TABLE} == {name.removesuffix(".yaml") for name in FILES}


def test_without_optuna_it_is_told_which_extra_to_install(folder, tiny_cache, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("acetrain.command.searching.find_spec", lambda name: None)
    assert main(["train", f"cache={tiny_cache}", "sweep=fine"]) == 2
    assert capsys.readouterr().err == "search: optuna is not installed: pip install 'acetrain[optuna]'\n"


def test_a_dry_run_tells_the_space_and_what_it_takes_and_writes_nothing(folder, tiny_cache, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert main(["train", f"cache={tiny_cache}", "sweep=fine", "search.trials=7", "dry_run=true"]) == 0
    told = capsys.readouterr().out
    assert "optimizer.lr  1e-05 to 0.01 by its logarithm" in told
    assert "7 trials for the lowest val_loss, proposed by tpe; asha: from step 100 on one in 3 goes on" in told
    assert "up to 2,100 steps over " in told
    assert sorted(folder.rglob("*")) == before
