"""The commands and the script of docs/slurm.md, on a cluster of a few cores."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from slurm_site import LONG, QUICK, Site, until
from test_sweeps_on_slurm import same

pytestmark = pytest.mark.slurm

PAGE = (Path(__file__).parents[2] / "docs" / "slurm.md").read_text(encoding="utf-8")
FEW = ["max_steps=2", "schedule.warmup=0"]


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[list[str]]:
    """The page's commands of a program, each in words."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith(f"$ {program} ")]


def smaller(words: list[str]) -> list[str]:
    """The arguments of an sbatch that asks for no more than there is: two processes, and a GB on each node."""
    each = "1" if any(word.startswith("--nodes") for word in words) else "2"
    fitting = [re.sub(r"(--ntasks-per-node|--gpus-per-node)=\d+", rf"\g<1>={each}", word) for word in words]
    place = fitting.index("train.sbatch")
    return [*fitting[:place], "--mem=1500M", "--cpus-per-task=1", "--time=10", *fitting[place:]]


@pytest.fixture
def user(site: Site) -> Site:
    """A user who has done what the page says, with the songs in `cache`."""
    (site.folder / "conf/launcher").mkdir(parents=True)
    (site.folder / "conf/launcher/mine.yaml").write_text(blocks("yaml")[0])
    (site.folder / "train.sbatch").write_text(blocks("bash")[0])
    shutil.copytree(site.cache, site.folder / "cache")
    return site


def submit(site: Site, *words: str) -> str:
    """Submit what sbatch is given and return the job's id."""
    return site.ask("sbatch", "--parsable", *words, *QUICK)


def test_the_launchers_commands_run(user: Site) -> None:
    given = commands("acetrain")
    assert len(given) == 2
    user.run(*given[0], *(change for change in QUICK if not change.startswith("adapter.")), *FEW)
    array = next(iter(user.submitted("rank").values())).partition("_")[0]
    until("the end", lambda: not user.cluster.ask("squeue", "-h", "-j", array, check=False))
    assert "3 jobs: 3 finished" in user.run(*given[1])


def test_the_script_runs_in_each_way_that_the_page_has(user: Site) -> None:
    given = commands("sbatch")
    assert len(given) == 4
    jobs = [submit(user, *smaller(words), *FEW) for words in given]
    until("their end", lambda: all(not user.cluster.ask("squeue", "-h", "-j", job, check=False) for job in jobs))
    logs = "".join(path.read_text() for path in user.folder.glob("acetrain-*.log"))
    assert [user.accounted(job) for job in jobs] == [[(job, "COMPLETED")] for job in jobs], logs
    runs = ("one", "ddp", "nodes", "fsdp")
    assert all((user.folder / run / "adapter/adapter_model.safetensors").exists() for run in runs)


def test_the_script_requeues_itself_when_it_is_warned(user: Site, calm: Path) -> None:
    words = smaller([*commands("sbatch")[0], *LONG, "seed=1"])
    job = submit(user, *words)
    metrics = user.folder / "one/metrics.csv"
    until("the first steps", lambda: metrics.exists() and metrics.read_text().count("\n") > 8)
    user.cluster.ask("scancel", "--signal=USR1", job)
    until("its end", lambda: not user.cluster.ask("squeue", "-h", "-j", job, check=False))
    until("the accounts", lambda: all(state != "RUNNING" for _, state in user.accounted(job)))
    assert [state for _, state in user.accounted(job, every=True)] == ["REQUEUED", "COMPLETED"]
    same(user.folder / "one", calm)
