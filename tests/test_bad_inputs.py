"""What must be refused: each request with the message it gets, exit code 2, and nothing changed on disk."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fabricate import files

from acetrain.cli import main
from acetrain.schemas import GROUPS

LORA = "defaults:\n  - /schema/adapter@_here_: lora\n  - _self_\n"

FILES = {
    "conf/adapter/typo.yaml": f"{LORA}rnak: 1\n",
    "conf/adapter/text.yaml": f"{LORA}rank: eight\n",
    "conf/adapter/unfinished.yaml": f"{LORA}rank: 4\nalpha: 4\nalphas: {{}}\n",
    "conf/adapter/zero.yaml": "defaults:\n  - lora\n  - _self_\nrank: 0\n",
    "conf/adapter/untyped.yaml": "rank: 8\n",
    "conf/adapter/empty.yaml": "",
    "conf/adapter/list.yaml": "- 1\n",
    "conf/adapter/broken.yaml": "rank: [1\nalpha: 3\n",
    "conf/adapter/twice.yaml": f"{LORA}rank: 1\nrank: 2\n",
    "conf/adapter/unknown.yaml": "defaults:\n  - /schema/adapter@_here_: lra\n  - _self_\nrank: 8\n",
    "conf/adapter/foreign.yaml": "defaults:\n  - /schema/schedule@_here_: cosine\n  - _self_\nwarmup: 8\n",
    "conf/adapter/dangling.yaml": "defaults:\n  - lora\n  - _self_\nrank: ${nope.x}\n",
    "experiments/typo.yaml": "adapter:\n  rnak: 8\n",
    "experiments/top.yaml": "adpter:\n  rank: 8\n",
    "experiments/type.yaml": "adapter:\n  rank: [1]\n",
    "experiments/zero.yaml": "adapter:\n  rank: 0\n",
    "experiments/enum.yaml": "resume: sometimes\n",
    "experiments/group.yaml": "defaults:\n  - override /adaptr: lora\n",
    "experiments/option.yaml": "defaults:\n  - override /adapter: lroa\n",
    "experiments/again.yaml": "defaults:\n  - /adapter: lora\n",
    "experiments/scalar.yaml": "adapter: 8\n",
    "experiments/null.yaml": "adapter: null\n",
    "experiments/list.yaml": "- a\n",
    "experiments/broken.yaml": "a: [\n",
    "experiments/itself.yaml": "defaults: [itself]\n",
    "experiments/base.yaml": "defaults: [bse]\n",
    "experiments/hydra.yaml": "hydra: {run: {dir: x}}\n",
    "sweeps/none.yaml": "seed: 3\n",
    "sweeps/list.yaml": "grid: [{seed: [1]}, 2]\n",
    "sweeps/how.yaml": "sweep: {pakc: 2}\ngrid: {seed: [1, 2]}\n",
    "sweeps/axis.yaml": "grid: {adapter.rank: []}\n",
    "sweeps/scalar.yaml": "grid: {adapter.rank: 8}\n",
    "sweeps/key.yaml": "grid: {adapter.rnak: [1, 2]}\n",
    "sweeps/value.yaml": "grid: {adapter.rank: [1, x]}\n",
    "sweeps/rule.yaml": "grid: {adapter.rank: [1, 0]}\n",
    "sweeps/option.yaml": "grid: {adapter: [lora, lra]}\n",
    "sweeps/typo.yaml": "adapter: {rnak: 2}\ngrid: {seed: [1, 2]}\n",
    "sweeps/same.yaml": "grid: {seed: [1, 1]}\n",
    "file.txt": "a file",
    "empty/.keep": "",
    "bare/song.txt": "no audio here",
    "silent/a.wav": "not a sound",
    "silent/a.caption.txt": "a caption",
    "broken_cache/index.json": "{",
    "dataset/dataset.json": "[",
    "full/song.txt": "someone's",
}
"""What lies in the working directory."""

TABLE: list[tuple[str, str]] = [
    # the command line itself
    ("trian", r"'trian': there is no such job; nearest: train"),
    ("out_dir=x", r"out_dir=x: must follow a job"),
    ("train --hlep", r"--hlep: there is no such flag; nearest: --help"),
    ("train --config-dir", r"--config-dir: must be followed by a folder"),
    ("train --config-dir nowhere", r"--config-dir: must be a folder that exists, got \S*nowhere"),
    ("train foo", r"'foo': must be key=value"),
    ("train =5", r"'=5': must be key=value"),
    ("train ~adapter.rank", r"~adapter.rank: a key cannot be removed"),
    ("train hydra.run.dir=x", r"hydra.run.dir: must be one of hydra/launcher, .*out_dir says where"),
    ("train hydra/launcher=basic", r"hydra/launcher=basic: must go with -m"),
    ("explain adpter", r"what: must be a group, .* got 'adpter'; nearest: adapter"),
    ("explain adapter=lra", r"adapter: there is no option 'lra'; nearest: lora"),
    ("explain adapter model", r"explain: must be asked of one thing at a time, got adapter model"),
    # keys
    ("train adpter.rank=3", r"adpter.rank: there is no such key .*nearest: adapter"),
    ("train adapter.rnak=3", r"adapter.rnak: there is no such key in adapter \(LoRA\); nearest: rank"),
    ("train adapter.rank.x=3", r"adapter.rank.x: there is no such key; adapter.rank is a value"),
    ("train +foo=1", r"foo: there is no such key \(Train\); valid: adapter, "),
    (
        "train ++adapter.foo=2",
        r"adapter.foo: there is no such key in adapter \(LoRA\); valid: alpha, alphas, dropout, init, ",
    ),
    ("train schedule.floor=0.1", r"schedule.floor: there is no such key in schedule \(Constant\); valid: warmup"),
    ("train targets.include.9=x", r"targets.include.9: must be one of the list's 2 positions, .* got '9'"),
    ("synthesize adapter=lora", r"adapter: there is no such key \(Synthesize\)"),
    ("synthesize experiment=short_run", r"experiment: synthesize has no experiments/"),
    # values
    ("train adapter.rank=eight", r"adapter.rank: must be a whole number, got 'eight'"),
    ("train adapter.rank=8.5", r"adapter.rank: must be a whole number, got 8.5"),
    ("train adapter.rank=true", r"adapter.rank: must be a whole number, got True"),
    ("train adapter.rank=", r"adapter.rank: must be a whole number, got ''"),
    ("train adapter.rank=null", r"adapter.rank: must not be null"),
    ("train adapter.rank=[8]", r"adapter.rank: must be a whole number, got \[8\]"),
    ("train adapter.rank=[8", r"adapter.rank: '\[8' cannot be read: .*\nquotes inside the argument keep it together"),
    ("train adapter.rank=8,16", r"adapter.rank: must be one value, got '8,16'; -m runs"),
    ("train cache=x adapter.rank=0", r"adapter.rank: must be at least 1, got 0"),
    ("train cache=x adapter.dropout=1", r"adapter.dropout: must be in \[0, 1\), got 1.0"),
    ("train adapter=lra", r"adapter: there is no option 'lra'; nearest: lora"),
    ("train adapter=null", r"adapter: there is no option None"),
    ("train adapter={rank:8}", r"adapter: there is no option \{'rank': 8\}"),
    ("train optimizer.lr=fast", r"optimizer.lr: must be a number, got 'fast'"),
    ("train cache=x optimizer.lr=nan", r"optimizer.lr: must be above 0 and finite, got nan"),
    ("train cache=x timesteps.mean=nan", r"timesteps.mean: must be finite, or null, got nan"),
    ("train cache=x optimizer.lr=0", r"optimizer.lr: must be above 0 and finite, got 0.0"),
    ("train cache=x optimizer.lr=inf", r"optimizer.lr: must be above 0 and finite, got inf"),
    ("train cache=x adapter.alpha=inf", r"adapter.alpha: must be above 0 and finite, got inf"),
    ("train precision=fp61", r"precision: there is no option 'fp61'; nearest: fp16"),
    ("train precision.base=fp8", r"precision.base: must be one of fp32, bf16, fp16, auto, got 'fp8'"),
    ("train resume=maybe", r"resume: must be one of auto, never, got 'maybe'"),
    (
        "train trainer.gradient_checkpointing=maybe",
        r"trainer.gradient_checkpointing: must be one of none, full, selective, got 'maybe'",
    ),
    ("train targets.include=self_attn", r"targets.include: must be a list like \[a,b\] of str, got 'self_attn'"),
    ("train max_steps=1e3", r"max_steps: must be a whole number, or null, got 1000.0"),
    ("train cache=x max_steps=0", r"max_steps: must be at least 1, or null, got 0"),
    ("train cache=x data.validation=1.5", r"data.validation: must be in \[0, 1\), got 1.5"),
    ("train cache=x data.max_frames=0", r"data.max_frames: must be a whole number of at least 1, or auto, got '0'"),
    ("train cache=x songs_per_step=0", r"songs_per_step: must be at least 1, got 0"),
    ("train cache=x name=a/b", r"name: must be a word without '/', got 'a/b'"),
    ("train cache=x seed=${nope}", r"seed: Interpolation key 'nope' not found"),
    # each group: a misspelt key, a bad value, an option that is not there
    ("train model.pth=x", r"model.pth: there is no such key in model \(Tiny\); nearest: path"),
    ("train cache=x model.shift=0", r"model.shift: must be above 0, or null, got 0.0"),
    ("train model=lite", r"model: there is no option 'lite'; valid: base, folder, sft, tiny, turbo, "),
    ("generate task.sorce=x", r"task.sorce: there is no such key in task \(Text2music\); there is none to choose from"),
    ("generate prompt=a output=x.wav task=repaint task.source=", r"task.source: must be an audio file, got ''"),
    ("generate task=remix", r"task: there is no option 'remix'; nearest: repaint"),
    ("train targets.exclud=[mlp]", r"targets.exclud: there is no such key in targets \(Targets\); nearest: exclude"),
    ("train targets=blocks targets.first=one", r"targets.first: must be a whole number, got 'one'"),
    ("train targets=atention", r"targets: there is no option 'atention'; nearest: attention"),
    (
        "train optimizer.betas=[0.9,0.99]",
        r"optimizer.betas: there is no such key in optimizer .*nearest: beta2",
    ),
    ("train cache=x optimizer.beta2=1", r"optimizer.beta2: must be in \[0, 1\), got 1.0"),
    ("train optimizer=adam", r"optimizer: there is no option 'adam'; nearest: adamw"),
    ("train cache=x schedule.warmup=-1", r"schedule.warmup: must be at least 0 steps, got -1"),
    ("train schedule=cosin", r"schedule: there is no option 'cosin'; nearest: cosine"),
    ("train timesteps.men=0", r"timesteps.men: there is no such key in timesteps \(Acestep\); nearest: mean"),
    ("train timesteps=logitnormal", r"timesteps: there is no option 'logitnormal'; nearest: logit_normal"),
    ("train loss.delta=1", r"loss.delta: there is no such key in loss \(Mse\); valid: reduction"),
    ("train loss.reduction=mean", r"loss.reduction: must be one of song, frame, got 'mean'"),
    ("train loss=mae", r"loss: there is no option 'mae'; nearest: mse"),
    ("train weighting.gama=5", r"weighting.gama: there is no such key in weighting \(Unweighted\)"),
    ("train cache=x weighting=min_snr weighting.gamma=0", r"weighting.gamma: must be above 0 and finite, got 0.0"),
    ("train weighting=snr", r"weighting: there is no option 'snr'; nearest: min_snr"),
    ("train precision.bas=bf16", r"precision.bas: there is no such key in precision \(Precision\); nearest: base"),
    ("train data.maxframes=1", r"data.maxframes: there is no such key in data \(Data\); nearest: max_frames"),
    ("train data=webdataset", r"data: there is no option 'webdataset'; valid: cached"),
    ("preprocess prompts.tagg=x", r"prompts.tagg: there is no such key in prompts \(Prompts\); nearest: tag"),
    ("preprocess prompts.genre_ratio=some", r"prompts.genre_ratio: must be a number, or null, got 'some'"),
    ("preprocess prompts=tagged", r"prompts: there is no option 'tagged'; valid: as_written"),
    ("train trainer.clp=1", r"trainer.clp: there is no such key in trainer \(TrainerOption\); nearest: clip"),
    ("train trainer=gpus", r"trainer: there is no option 'gpus'; nearest: "),
    ("train logger.projct=x", r"logger.projct: there is no such key in logger \(Wandb\); nearest: project"),
    ("train logger.mode=sometimes", r"logger.mode: must be one of auto, online, offline, got 'sometimes'"),
    ("train logger=wandbb", r"logger: there is no option 'wandbb'; nearest: wandb"),
    ("train ema.decy=1", r"ema.decy: there is no such key in ema \(NoEma\)"),
    ("train cache=x ema=ema ema.decay=1", r"ema.decay: must be in \(0, 1\), got 1.0"),
    ("train ema=emma", r"ema: there is no option 'emma'; nearest: ema"),
    ("train samples.evry=1", r"samples.evry: there is no such key in samples \(NoSamples\)"),
    ("train cache=x samples=prompts samples.every=0", r"samples.every: must be at least 1 step, got 0"),
    ("train samples=sungs", r"samples: there is no option 'sungs'; valid: none, prompts"),
    # missing or unfit input
    ("train", r"cache: must be given, text: cache=...\nFolder that `acetrain preprocess` wrote"),
    ("train cache=nowhere", r"cache: nowhere "),
    ("train cache=file.txt", r"cache: file.txt"),
    ("train cache=empty", r"cache: empty "),
    ("train cache=broken_cache", r"cache: broken_cache"),
    # option files, experiments
    ("train adapter=typo", r"conf/adapter/typo.yaml: adapter.rnak: there is no such key .*nearest: rank"),
    ("train adapter=text", r"conf/adapter/text.yaml: adapter.rank: must be a whole number, got 'eight'"),
    ("train cache=x adapter=unfinished", r"adapter.dropout: must be given, a number"),
    (
        "train adapter=untyped",
        r"conf/adapter/untyped.yaml: adapter.rank: .*schema.*\ndefaults: .*NAME being one of lora",
    ),
    ("train cache=x adapter=zero", r"conf/adapter/zero.yaml: adapter.rank: must be at least 1, got 0"),
    ("train cache=x adapter=zero adapter.rank=-1", r"adapter.rank: must be at least 1, got -1"),
    ("train adapter=empty", r"conf/adapter/empty.yaml: must start with its schema"),
    ("train adapter=list", r"conf/adapter/list.yaml: adapter: must be keys and values, got \[1\]"),
    ("train adapter=broken", r"conf/adapter/broken.yaml: line 2 is not YAML"),
    ("train adapter=twice", r"conf/adapter/twice.yaml: line 5 is not YAML: found duplicate key rank"),
    ("train adapter=unknown", r"conf/adapter/unknown.yaml: schema/adapter: there is no option 'lra'; nearest: lora"),
    (
        "train adapter=foreign",
        r"conf/adapter/foreign.yaml: adapter: must have a schema of its own group \(lora, .*\), got Cosine",
    ),
    (
        "train cache=x adapter=dangling",
        r"conf/adapter/dangling.yaml: adapter.rank: Interpolation key 'nope.x' not found",
    ),
    ("train adapter=latin", r"conf/adapter/latin.yaml: must be UTF-8 text"),
    ("train experiment=shrt_run", r"experiment: there is no 'shrt_run' in experiments/; nearest: short_run"),
    ("train experiment=[short_run,8]", r"experiment: must be a name, got \['short_run', 8\]"),
    ("train experiment=typo", r"experiments/typo.yaml: adapter.rnak: there is no such key .*nearest: rank"),
    ("train experiment=top", r"experiments/top.yaml: adpter: there is no such key \(Train\); nearest: adapter"),
    ("train experiment=type", r"experiments/type.yaml: adapter.rank: must be a whole number, got '\[1\]'"),
    ("train experiment=enum", r"experiments/enum.yaml: resume: must be one of auto, never, got 'sometimes'"),
    ("train cache=x experiment=zero", r"experiments/zero.yaml: adapter.rank: must be at least 1, got 0"),
    ("train experiment=group", r"experiments/group.yaml: override /adaptr: there is no such group .*nearest: adapter"),
    ("train experiment=option", r"experiments/option.yaml: adapter: there is no option 'lroa'; nearest: lora"),
    ("train experiment=again", r"experiments/again.yaml: adapter: must be chosen once"),
    ("train experiment=scalar", r"experiments/scalar.yaml: adapter: must be keys and values, got 8"),
    ("train experiment=null.yaml", r"experiment: there is no 'null.yaml' in experiments/; nearest: null"),
    ("train experiment='null'", r"experiments/null.yaml: adapter: must not be null"),
    ("train experiment=list", r"experiments/list.yaml: must be a mapping"),
    ("train experiment=broken", r"experiments/broken.yaml: line 2 is not YAML"),
    ("train experiment=itself", r"experiments/itself.yaml: defaults: must not name the file itself"),
    ("train experiment=base", r"experiment: there is no 'bse' in experiments/; nearest: base"),
    ("train experiment=hydra", r"experiments/hydra.yaml: hydra: must not be set in experiments/"),
    # grids: every cell is looked at before the first runs
    (
        "train -m cache=x adapter.rank=1,x",
        r"adapter.rank: must be a whole number, got 'x'\nin job 2 of 2: adapter.rank=x",
    ),
    ("train -m cache=x adapter.rank=1,0", r"adapter.rank: must be at least 1, got 0\nin job 2 of 2: adapter.rank=0"),
    ("train -m cache=x adapter=lora,lra", r"adapter: there is no option 'lra'; nearest: lora"),
    ("train -m cache=x seed=range(1,1)", r"seed: must be at least one value, got 'range\(1,1\)'"),
    ("train -m cache=x seed=interval(0,1)", r"seed: must be values to try"),
    ("train -m cache=a,b,c[", r"cache: 'a,b,c\[' cannot be read"),
    ("synthesize -m out_dir=x seed=1,2", r"out_dir: must differ between jobs, 1 and 2 would both write x"),
    ("synthesize -m out_dir=${seed} seed=1,2 hydra/launcher=nope", r"hydra/launcher: there is no option 'nope'"),
    ("synthesize -m out_dir=${seed} seed=1,2 hydra.launcher.jobs=2", r"hydra.launcher.jobs: there is no such key"),
    ("train cache=x sweep=nope", r"sweep: there is no 'nope' in sweeps/; nearest: none"),
    ("train cache=x sweep=none", r"sweeps/none.yaml: grid: must be a mapping of keys to lists of values, .* got None"),
    (
        "train cache=x sweep=list",
        r"sweeps/list.yaml: grid: must be a mapping of keys to lists of values, .* got \[{'seed': \[1\]}, 2\]",
    ),
    ("train cache=x sweep=how", r"sweeps/how.yaml: sweep.pakc: there is no such key in sweep \(Jobs\); nearest: pack"),
    ("train cache=x sweep=rank sweep.pack=0", r"sweep.pack: must be at least 1, got 0"),
    ("train cache=x sweep=rank launcher=slrum", r"launcher: there is no option 'slrum'; nearest: slurm"),
    ("train cache=x sweep=rank launcher=local launcher.jobs=0", r"launcher.jobs: must be at least 1, got 0"),
    ("train cache=x sweep.pack=2", r"sweep.pack=2: must go with -m or sweep=NAME, it says how a multirun is run"),
    (
        "train cache=x sweep=rank launcher.jbos=2",
        r"launcher.jbos: there is no such key in launcher \(Here\); there is none",
    ),
    (
        "synthesize -m out_dir=${seed} seed=1,2 launcher=local dry_run=true",
        r"launcher: must be here for synthesize, only trainings run side by side",
    ),
    (
        "synthesize -m out_dir=${seed} seed=1,2 sweep.pack=2 dry_run=true",
        r"sweep.pack: must be 1 for synthesize, only trainings go side by side",
    ),
    (
        "synthesize -m out_dir=${seed} seed=1,2 sweep.pack=2 hydra/launcher=basic dry_run=true",
        r"sweep.pack: must be 1 with a launcher of Hydra's, got 2",
    ),
    ("train cache=x launcher=local", r"launcher=local: must go with -m or sweep=NAME, it says how a multirun is run"),
    ("sweep results", r"name: must be the name of a sweep for results, got ''"),
    ("sweep status nope", r"name: there is no sweep 'nope' in runs; there is none|name: there is no sweep 'nope'"),
    ("sweep stauts nope", r"action: must be one of status, results, clean, run, got 'stauts'"),
    ("sweep run nope", r"job: must be the number of a job, from 1, or its run, where one is to run, got ''"),
    ("sweep status a b", r"'b': must be key=value, sweep takes action and name as words"),
    ("train cache=x sweep=axis", r"sweeps/axis.yaml: grid.adapter.rank: must be a list of values, got \[\]"),
    ("train cache=x sweep=scalar", r"sweeps/scalar.yaml: grid.adapter.rank: must be a list of values, got 8"),
    ("train cache=x sweep=key", r"sweeps/key.yaml: adapter.rnak: there is no such key .*nearest: rank"),
    ("train cache=x sweep=value", r"sweeps/value.yaml: adapter.rank: must be a whole number, got 'x'\nin job 2 of 2"),
    ("train cache=x sweep=rule", r"sweeps/rule.yaml: adapter.rank: must be at least 1, got 0\nin job 2 of 2"),
    ("train cache=x sweep=option", r"sweeps/option.yaml: adapter: there is no option 'lra'; nearest: lora"),
    ("train cache=x sweep=typo", r"sweeps/typo.yaml: adapter.rnak: there is no such key"),
    ("train sweep=rank seed=1,2 cache=x", r"seed: must be one value, got '1,2'; -m runs"),
    # synthesize
    ("synthesize", r"out_dir: must be given, text"),
    ("synthesize out_dir=", r"out_dir: must be a folder"),
    ("synthesize out_dir=file.txt", r"out_dir: file.txt is a file"),
    ("synthesize out_dir=full", r"out_dir: full is not empty"),
    ("synthesize out_dir=x count=0", r"count: must be at least 1, got 0"),
    ("synthesize out_dir=x style=waltz", r"style: 'waltz' is no style; valid: "),
    ("synthesize out_dir=x min_seconds=1", r"min_seconds: must be at least 4, got 1.0"),
    ("synthesize out_dir=x min_seconds=9 max_seconds=5", r"max_seconds: must be from min_seconds \(9\) to 60, got 5.0"),
    # preprocess
    ("preprocess cache=x", r"songs: must be given, text"),
    ("preprocess songs=nowhere cache=x", r"songs: .*nowhere"),
    ("preprocess songs=empty cache=x", r"songs: .*empty"),
    ("preprocess songs=bare cache=x", r"songs: .*bare"),
    ("preprocess songs=dataset/dataset.json cache=x", r"songs: .*dataset.json"),
    ("preprocess songs=tones cache=file.txt", r"cache: file.txt is a file"),
    ("preprocess songs=tones cache=x on_error=maybe", r"on_error: must be one of stop, skip, got 'maybe'"),
    ("preprocess songs=tones cache=x model=tny", r"model: there is no option 'tny'; nearest: tiny"),
    ("preprocess songs=silent cache=x", r"(?s).*a\.wav"),
    ("preprocess songs=tones cache=x", r"(?s).*tone\.wav"),
    # generate
    ("generate output=x.wav", r"prompt: must be given, text"),
    ("generate prompt=a", r"output: must be given, text"),
    ("generate prompt=\udcff output=x.wav", r"prompt: must be UTF-8 text, got"),
    ("generate prompt= output=x.wav", r"prompt: must be a text, got ''"),
    ("generate prompt=@nowhere output=x.wav", r"prompt: the file 'nowhere' cannot be read: No such file"),
    ("generate prompt=@conf/adapter/latin.yaml output=x.wav", r"prompt: the file .* cannot be read: it is not UTF-8"),
    ("generate prompt=a output=x.mp4", r"output: must be a \.wav, .*got 'x.mp4'"),
    ("generate prompt=a output=file.txt/x.wav", r"output: .*file.txt is a file"),
    ("generate prompt=a output=x.wav duration=0", r"duration: must be above 0"),
    ("generate prompt=a output=x.wav scale=nan", r"scale: must be a finite number, got nan"),
    ("generate prompt=a output=x.wav bpm=9", r"bpm: must be a number from 30 to 300, got 9"),
    ("generate prompt=a output=x.wav steps=0", r"steps: must be at least 1, or null, got 0"),
    ("generate prompt=a output=x.wav model.path=nowhere", r"model.path: nowhere does not exist"),
    ("generate prompt=a output=x.wav adapter_path=nowhere", r"adapter_path: .*nowhere"),
    ("generate prompt=a output=x.wav adapter_path=empty", r"adapter_path: .*empty"),
]
"""Arguments, split at blanks, and what stderr must start with."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The working directory of every request."""
    here = files(tmp_path_factory.mktemp("working"), FILES)
    (here / "conf/adapter/latin.yaml").write_bytes(b"rank: \xff\xfe\n")
    (here / "tones").mkdir()
    soundfile.write(here / "tones/tone.wav", np.sin(np.arange(16000) / 9), 16000)  # and no caption beside it
    return here


def state(folder: Path) -> dict[str, tuple[int, str]]:
    """Every path below `folder`, when it changed last, and its content."""
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes() if path.is_file() else b"").hexdigest())
        for path in [folder, *folder.rglob("*")]
    }


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[arguments for arguments, _ in TABLE])
def test_it_is_refused_with_its_message_and_nothing_changes(arguments, message, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    before = state(folder)
    code = main(arguments.split(" "))
    stderr = capsys.readouterr().err
    assert re.match(message, stderr), stderr
    assert code == 2
    assert len(stderr.splitlines()) <= 4
    assert "Traceback" not in stderr
    assert state(folder) == before


def test_the_table_is_long_enough():
    assert len({arguments for arguments, _ in TABLE}) == len(TABLE) >= 120


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_is_in_the_table(group):
    messages = [message for _, message in TABLE]
    for wrong in (
        rf"{group}.\w+: there is no such key",
        rf"(\S*: )?{group}.\w+: must be",
        f"{group}: there is no option",
    ):
        assert any(re.match(wrong, message) for message in messages), wrong
