"""Every option file composes, every value arrives as it was given, and what comes out composes again."""

import dataclasses
import random
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from acetrain.adapters.lora import Init, LoRA
from acetrain.command.grid import expand, settings
from acetrain.command.multirun import Multirun
from acetrain.command.searching import Searching
from acetrain.composition.docs import field_docs, summary
from acetrain.composition.job import Composer
from acetrain.composition.overrides import Given, Grammatical, Typed, literal, parsed, quoted, read, values
from acetrain.composition.sources import PACKAGED, Sources
from acetrain.composition.types import hints, named, rule
from acetrain.config import repeatable, resolved
from acetrain.errors import Refused
from acetrain.jobs.train import Resume
from acetrain.schemas import GROUPS, JOBS, PRODUCTS, ROOTS
from acetrain.training.precision import Format

ROOT = Path(__file__).parents[1]
HOSTILE = [
    "a, b",
    "[verse] one\n[chorus] two",
    "C# minor",
    'it\'s "quoted"',
    "${oc.env:HOME}",
    "\\${x} \\\\${y} \\",
    "  padded  ",
    "바다의 노래, 제1장",
    "a=b=c",
    "",
    "null",
    "12",
    "C:\\songs\\",
    "{x: 1}",
    "(1)",
    "~tilde +plus",
]


def composed(job: str, *arguments: str, sources: Sources | None = None):
    return Composer(job, sources or Sources.of(ROOT)).compose([read(argument) for argument in arguments])


def built(job: str, *arguments: str, sources: Sources | None = None):
    return composed(job, *arguments, sources=sources).build()


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.yaml"))


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("file", files("experiments"), ids=lambda file: file.stem)
def test_every_experiment_composes(file):
    name = file.relative_to(ROOT / "experiments").with_suffix("").as_posix()
    assert built("train", "cache=x", f"experiment={name}")


@pytest.mark.parametrize(
    "file", [one for one in files("sweeps") if one.parent.name != "wandb"], ids=lambda file: file.stem
)
def test_every_cell_of_every_sweep_composes(file):
    composer = Composer("train", Sources.of(ROOT))
    name = file.relative_to(ROOT / "sweeps").with_suffix("").as_posix()
    grid = expand(composer, ["cache=x", f"sweep={name}"], multirun=False)
    how = settings(composer.sources, [], name)
    if how.search.space:
        grid = Searching(Multirun(composer, grid, how, name, (), False)).corners().grid
    jobs = [(resolved(job), job.choices) for job in (composer.compose(cell).build() for cell in grid.cells)]
    assert len(jobs) > 1
    assert all(a != b for i, a in enumerate(jobs) for b in jobs[:i])


def test_there_are_experiments_and_sweeps():
    assert files("experiments")
    assert files("sweeps")


def test_every_group_has_a_folder_and_every_folder_is_a_group():
    assert {file.parent.name for file in files("conf") if file.parent.name != "conf"} == {*GROUPS, "preset"}
    assert {file.stem for file in (ROOT / "conf").glob("*.yaml")} == set(ROOTS)
    assert all(key in hints(JOBS[job]) for job, key in PRODUCTS.items())


@pytest.mark.parametrize("schema", [*ROOTS.values(), *(one for group in GROUPS.values() for one in group.values())])
def test_schemas_explain_every_key_and_hold_no_default(schema):
    assert summary(schema)
    for field in dataclasses.fields(schema):
        assert field.default is field.default_factory is dataclasses.MISSING, "a default belongs into the YAML"
        assert field.name in GROUPS or field_docs(schema).get(field.name), f"{field.name} is not explained"


def test_values_arrive_typed_and_the_last_wins():
    job = built(
        "train", "cache=c", "adapter.rank=7", "adapter.alpha=3", "precision=bf16", "resume=never", "adapter.rank=8"
    )
    assert job.adapter == LoRA(
        rank=8, alpha=3.0, dropout=0.0, init=Init.default, init_songs=8, ranks={}, alphas={}, start_from=""
    )
    assert isinstance(job.adapter.alpha, float)
    assert job.precision.base is Format.bf16
    assert job.resume is Resume.never
    assert job.choices["precision"] == "bf16"
    assert job.choices["adapter"] == "lora"
    assert set(job.choices) == set(GROUPS) - {"launcher", "prompts", "task"}


def test_lists_interpolations_and_null_follow_hydras_grammar():
    job = built("train", "cache=c", "targets.include=[to_q,'to_k']", "adapter.alpha=${adapter.rank}", "max_steps=5")
    assert job.targets.include == ["to_q", "to_k"]
    assert job.adapter.alpha == job.adapter.rank
    assert built("train", "cache=c", "max_steps=5", "max_steps=null").max_steps is None
    assert built("train", "cache=c", "targets.include=[a,b]", "targets.include.1=c").targets.include == ["a", "c"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_taken_literally_and_survives_a_round_trip(text, tmp_path):
    job = built("train", f"cache={text}", f"model.path={text}")
    assert (job.cache, job.model.path) == (text, text)
    file = tmp_path / "again.yaml"
    file.write_text(repeatable(job), encoding="utf-8")
    assert resolved(built("train", f"experiment={file}")) == resolved(job)


def test_random_text_is_taken_literally():
    draw = random.Random(0)
    config = OmegaConf.create({"text": ""})
    for _ in range(2000):
        text = "".join(
            draw.choices(["\\", "$", "{", "}", "${", "'", '"', "a", ",", "[", "]", " ", "=", "#", "한"], k=8)
        )
        config.text = literal(text)
        assert config.text == text
        assert parsed(f"key={quoted(text)}").value() == text


def test_prompt_and_lyrics_come_from_files_and_paths_do_not(tmp_path):
    file = tmp_path / "prompt, 1.txt"
    file.write_text("slow ${jazz}, 바다\n", encoding="utf-8")
    job = built("generate", f"prompt=@{file}", "output=@x.wav", "lyrics=a@b")
    assert (job.prompt, job.output, job.lyrics) == ("slow ${jazz}, 바다", "@x.wav", "a@b")
    composer = Composer("generate", Sources.of(ROOT))
    cells = expand(composer, [f"prompt=b,'@{file}'", "output=x.wav"], multirun=True).cells
    assert [composer.compose(cell).build().prompt for cell in cells] == ["b", "slow ${jazz}, 바다"]


def test_a_plus_sets_a_key_that_exists():
    assert built("train", "cache=c", "+seed=3", "++adapter.rank=4").seed == 3
    with pytest.raises(Refused, match="foo: there is no such key"):
        composed("train", "+foo=1")


def test_config_yaml_repeats_the_run_with_its_choices(tmp_path):
    job = built("train", "cache=c", "schedule=cosine", "timesteps=discrete", "schedule.floor=0.1", "seed=9")
    file = tmp_path / "config.yaml"
    file.write_text(repeatable(job), encoding="utf-8")
    again = built("train", f"experiment={file}")
    assert again == job
    assert again.choices == job.choices
    assert built("train", f"experiment={file}", "seed=1").seed == 1


def test_the_users_folders_add_options_and_come_first(tmp_path):
    head = "defaults:\n  - /schema/adapter@_here_: lora\n  - _self_\n"
    head += "dropout: 0.0\ninit: default\ninit_songs: 8\nranks: {}\nalphas: {}\nstart_from: ''\n"
    write(
        tmp_path / "conf/adapter/small.yaml",
        f"{head}rank: 2\nalpha: 2\n",
    )
    write(
        tmp_path / "conf/adapter/lora.yaml",
        f"{head}rank: 3\nalpha: 3\n",
    )
    write(tmp_path / "experiments/deep/mine.yaml", "defaults:\n  - override /adapter: small\nseed: 5\n")
    sources = Sources.of(tmp_path)
    assert built("train", "cache=c", sources=sources).adapter.rank == 3
    job = built("train", "cache=c", "experiment=deep/mine", sources=sources)
    assert (job.adapter.rank, job.seed, job.choices["adapter"]) == (2, 5, "small")
    assert built("train", "cache=c", sources=Sources.of(ROOT)).adapter.rank == 64


def test_the_users_own_defaults_of_a_job_are_taken_if_they_name_the_schema(tmp_path):
    text = (ROOT / "conf/synthesize.yaml").read_text()
    write(tmp_path / "conf/synthesize.yaml", text.replace("count: 8", "count: 3"))
    assert built("synthesize", "out_dir=x", sources=Sources.of(tmp_path)).count == 3
    write(tmp_path / "conf/synthesize.yaml", "count: 3\n")
    with pytest.raises(Refused, match=r"conf/synthesize.yaml: must start with its schema"):
        composed("synthesize", sources=Sources.of(tmp_path))


@pytest.mark.parametrize("below", ["", "conf/"])
def test_a_config_dir_holds_groups_directly_or_in_conf(tmp_path, below):
    folder = tmp_path / "it's [odd], ${x}"
    write(folder / below / "adapter/small.yaml", "defaults:\n  - lora\n  - _self_\nrank: 2\n")
    write(folder / "sweeps/mine.yaml", "grid:\n  seed: [1, 2]\n")
    sources = Sources.of(tmp_path, [str(folder)])
    assert built("train", "cache=c", "adapter=small", sources=sources).adapter.rank == 2
    assert "mine" in sources.recipes("sweep")


def test_experiments_build_on_each_other(tmp_path):
    write(tmp_path / "experiments/base.yaml", "seed: 5\nadapter:\n  rank: 5\n")
    write(tmp_path / "experiments/more.yaml", "defaults:\n  - base\n  - _self_\nseed: 6\n")
    write(tmp_path / "experiments/other.yaml", "songs_per_step: 3\n")
    sources = Sources.of(tmp_path)
    job = built("train", "cache=c", "experiment=more", sources=sources)
    assert (job.seed, job.adapter.rank) == (6, 5)
    job = built("train", "cache=c", "experiment=[base,other]", sources=sources)
    assert (job.seed, job.songs_per_step) == (5, 3)


def test_a_multirun_takes_every_combination():
    composer = Composer("train", Sources.of(ROOT))
    axes = ["adapter.rank=8,16", "seed=range(0,3)", "schedule=glob(cosine*)"]
    grid = expand(composer, ["cache='a, b'", *axes], multirun=True)
    jobs = [composer.compose(cell).build() for cell in grid.cells]
    assert len(jobs) == 2 * 3 * 2
    assert {(job.adapter.rank, job.seed, job.choices["schedule"]) for job in jobs} == {
        (rank, seed, schedule) for rank in (8, 16) for seed in (0, 1, 2) for schedule in ("cosine", "cosine_restarts")
    }
    assert {job.cache for job in jobs} == {"a, b"}
    assert grid.cell(0) == "adapter.rank=8 seed=0 schedule=cosine"


def test_a_sweep_file_sets_the_grid_and_the_command_line_wins(tmp_path):
    write(
        tmp_path / "sweeps/mine.yaml",
        "songs_per_step: 2\ngrid:\n  seed: [1, 2]\n  adapter.rank: 'range(4,6)'\n  name: ['a, b']\n",
    )
    composer = Composer("train", Sources.of(tmp_path))
    jobs = [composer.compose(cell).build() for cell in expand(composer, ["sweep=mine", "cache=a,b"], False).cells]
    assert [(job.seed, job.adapter.rank) for job in jobs] == [(1, 4), (1, 5), (2, 4), (2, 5)]
    assert {(job.songs_per_step, job.name, job.cache) for job in jobs} == {(2, "a, b", "a,b")}
    assert len(expand(composer, ["sweep=mine", "cache=c", "songs_per_step=1,2"], True).cells) == 8
    assert len(expand(composer, [f"sweep={tmp_path}/sweeps/mine.yaml", "cache=c"], False).cells) == 4
    cells = expand(composer, ["sweep=mine", "cache=c", "seed=7"], False).cells
    assert [composer.compose(cell).build().seed for cell in cells] == [7, 7]


def test_a_sweep_may_have_several_grids(tmp_path):
    one, other = "{optimizer: [adamw], optimizer.lr: [1e-3, 1e-4]}", "{optimizer: [lion], optimizer.lr: [1e-5]}"
    write(tmp_path / "sweeps/mine.yaml", f"grid:\n  - {one}\n  - {other}\n")
    composer = Composer("train", Sources.of(tmp_path))
    grid = expand(composer, ["sweep=mine", "cache=c", "seed=0,1"], True)
    jobs = [composer.compose(cell).build() for cell in grid.cells]
    assert [(job.choices["optimizer"], job.optimizer.lr, job.seed) for job in jobs] == [
        *(("adamw", lr, seed) for lr in (1e-3, 1e-4) for seed in (0, 1)),
        *(("lion", 1e-5, seed) for seed in (0, 1)),
    ]
    assert grid.cell(4) == "optimizer=lion optimizer.lr=1e-05 seed=0"


def test_values_of_every_kind_read_as_they_should():
    assert values("k=1,2") == ["1", "2"]
    assert values("k=glob(b*)", ["bar", "baz", "cat"]) == ["bar", "baz"]
    assert Typed("k", "[1,2]").value(text=False) == [1, 2]
    assert Typed("k", "[1,2]").value(text=True) == "[1,2]"
    assert Grammatical("k", "'a,b'").value(text=True) == "a,b"
    assert Given("k", "a,b").value(text=False) == "a,b"


def test_types_have_names_and_rules():
    train = hints(JOBS["train"])
    assert named(train["max_steps"]) == "int or null"
    assert named(train["resume"]) == "auto|never"
    assert rule(train["max_steps"]) == "a whole number, or null"
    assert rule(list[str]) == "a list like [a,b] of str"
    assert rule(dict[str, int]) == "a mapping like {a: 1}"
    assert rule(str) == "text"


def test_the_packages_configs_are_those_of_the_checkout():
    assert PACKAGED == ROOT
