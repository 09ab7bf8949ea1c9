"""The command line as a shell sees it: what is printed, exit codes, signals, multiruns."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import fabricate
import pytest
from hydra.core.hydra_config import HydraConfig

from acetrain import __version__
from acetrain.cli import main
from acetrain.config import repeatable
from acetrain.errors import Failed, Interrupted, Refused
from acetrain.jobs.generate import Generate
from acetrain.jobs.synthesize import Synthesize
from acetrain.jobs.train import Train
from acetrain.schemas import GROUPS, JOBS
from acetrain.stopping import STOPPING

HEAVY = ["torch", "lightning", "peft", "diffusers", "transformers", "wandb", "matplotlib", "soundfile"]


@pytest.fixture
def there(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ran(monkeypatch) -> list:
    """The synthesize jobs that would have run."""
    jobs: list = []
    monkeypatch.setattr(Synthesize, "run", lambda self: jobs.append(self))
    return jobs


def ending(monkeypatch, error: BaseException) -> None:
    """Have synthesize end with `error`."""

    def run(self) -> None:
        raise error

    monkeypatch.setattr(Synthesize, "run", run)


def contents(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_usage_names_every_job(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^  {job} +\S", printed, re.MULTILINE) for job in JOBS)


def test_no_job_is_a_refusal_with_the_usage(capsys):
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage:")


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"acetrain {__version__}\n"


@pytest.mark.parametrize("job", JOBS)
def test_help_of_every_job_names_its_keys_groups_and_choices(job, capsys):
    assert main([job, "--help"]) == 0
    printed = capsys.readouterr().out
    for field in dataclasses.fields(JOBS[job]):
        assert re.search(rf"^  {field.name}(:|  )", printed, re.MULTILINE), field.name


def test_help_follows_the_choices(capsys):
    assert main(["train", "schedule=cosine", "adapter.rank=7", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "constant cosine*" in printed
    assert "schedule.floor: float" in printed
    assert "adapter.rank: int = 7" in printed
    assert "cache: str (must be given)" in printed


def test_help_and_explain_import_nothing_heavy(there):
    code = (
        "import sys; from acetrain.cli import main\n"
        f"for job in {list(JOBS)}: assert main([job, '--help']) == 0\n"
        "assert main(['--help']) == main(['explain', 'adapter']) == 0\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
    assert contents(there) == []


@pytest.mark.parametrize(
    "what", ["loss", "train", *(pytest.param(group, marks=pytest.mark.slow) for group in GROUPS if group != "loss")]
)
def test_explain_prints_every_group_and_a_job(what, capsys):
    assert main(["explain", what]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) > 1
    assert f"{what}=" in printed or "keys (key=value)" in printed


def test_explain_puts_the_options_of_a_group_side_by_side(capsys):
    assert main(["explain", "adapter"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "options of adapter" and [line.split()[0] for line in lines[1:4]] == ["adalora", "boft", "dora"]
    assert "  rslora        rank=64 alpha=16.0 dropout=0.0 init=default init_songs=8" in lines


def test_explain_takes_its_question_as_a_key_too(capsys):
    assert main(["explain", "adapter=lora"]) == 0
    by_position = capsys.readouterr().out
    assert main(["explain", "what=adapter=lora"]) == 0
    assert capsys.readouterr().out == by_position
    assert by_position.startswith("adapter=lora: Low-rank adaptation")


def test_explain_lists_groups_and_jobs_where_nothing_is_asked(capsys):
    assert main(["explain"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\S", printed, re.MULTILINE) for name in (*GROUPS, *JOBS))


def test_explain_knows_the_folders_that_are_given(there, capsys):
    file = there / "more" / "adapter" / "small.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("defaults:\n  - lora\n  - _self_\nrank: 2\n")
    assert main(["explain", "adapter=small", "--config-dir", str(there / "more")]) == 0
    assert "adapter.rank: int = 2" in capsys.readouterr().out


def test_cfg_prints_the_configuration_and_runs_nothing(there, ran, capsys):
    assert main(["synthesize", "out_dir=a,b", "count=3", "--cfg"]) == 0
    assert "out_dir: a,b\ncount: 3\n" in capsys.readouterr().out
    assert main(["synthesize", "-m", "out_dir=x", "count=3,4", "--cfg"]) == 0
    assert capsys.readouterr().out.count("out_dir: x") == 2
    assert ran == []


def test_text_keys_reach_the_job_as_typed(monkeypatch):
    jobs: list[Generate] = []
    monkeypatch.setattr(Generate, "run", lambda self: jobs.append(self))
    lyrics = '[verse] it\'s ${x}, "now" \\ C# minor = 바다'
    assert main(["generate", f"prompt= {lyrics} ", f"lyrics={lyrics}", "output=노래, [1].wav"]) == 0
    assert (jobs[0].prompt, jobs[0].lyrics, jobs[0].output) == (f" {lyrics} ", lyrics, "노래, [1].wav")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Failed("it broke"), 1, "it broke"),
        (Refused("no: must be yes"), 2, "no: must be yes"),
        (Interrupted(10), 138, "stopped by signal 10"),
        (KeyboardInterrupt(), 130, "stopped by signal 2"),
    ],
)
def test_every_end_has_its_code_and_at_most_four_lines(there, monkeypatch, capsys, error, code, said):
    ending(monkeypatch, error)
    assert main(["synthesize", "out_dir=x"]) == code
    stderr = capsys.readouterr().err
    assert said in stderr
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) <= 4


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ZeroDivisionError('1/0\\nmore\\nand more\\nand more')", "ZeroDivisionError: 1/0"),
        ("OSError(28, 'No space left on device')", "OSError: [Errno 28] No space left on device"),
        ("KeyError()", "KeyError: without a message"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_an_unexpected_error_ends_the_process_in_a_line_or_with_its_trace(there, error, said, debug):
    code = (
        "import sys; from acetrain.cli import main; from acetrain.jobs.synthesize import Synthesize\n"
        f"def run(self): sys.excepthook = None; raise {error}\n"
        "Synthesize.run = run; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "synthesize", "out_dir=x", *(["--debug"] if debug else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr) is debug
    assert debug or (done.stderr.splitlines()[0] == said and len(done.stderr.splitlines()) <= 4)


def test_an_unexpected_error_of_a_cell_stops_no_other(there, monkeypatch, capsys):
    ending(monkeypatch, ZeroDivisionError("1/0"))
    assert main(["synthesize", "-m", "out_dir=s${seed}", "seed=1,2"]) == 1
    printed = capsys.readouterr()
    assert "job 2 failed: ZeroDivisionError: 1/0" in printed.out
    assert printed.err.splitlines() == [
        "2 of 2 jobs failed",
        "seed=1: ZeroDivisionError: 1/0 --debug shows the trace",
        "seed=2: ZeroDivisionError: 1/0 --debug shows the trace",
    ]
    assert main(["synthesize", "-m", "out_dir=s${seed}", "seed=1,2", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_debug_adds_the_trace(there, monkeypatch, capsys):
    ending(monkeypatch, Failed("it broke"))
    assert main(["synthesize", "out_dir=x", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert main(["train", "adapter.rank=x", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.fixture
def interruptible():
    """As in a terminal: what runs in the background of a shell starts with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", list(STOPPING))
def test_a_signal_ends_a_job_with_its_code(there, monkeypatch, number):
    monkeypatch.setattr(Synthesize, "run", lambda self: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    assert main(["synthesize", "out_dir=x"]) == 128 + number
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_job_whose_library_exits_otherwise(there, monkeypatch):
    def run(self: Synthesize) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            sys.exit(1)

    monkeypatch.setattr(Synthesize, "run", run)
    assert main(["synthesize", "out_dir=x"]) == 130


@pytest.mark.parametrize("error", [Refused("cut short"), ValueError("cut short"), None])
def test_a_signal_ends_a_job_whose_library_stumbles_over_it(there, monkeypatch, error):
    def run(self: Synthesize) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            if error is not None:
                raise error
            return  # noqa: B012

    monkeypatch.setattr(Synthesize, "run", run)
    assert main(["synthesize", "out_dir=x"]) == 143


def test_a_signal_that_is_ignored_stays_ignored(there, monkeypatch):
    monkeypatch.setattr(Synthesize, "run", lambda self: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["synthesize", "out_dir=x"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_reader_that_leaves_is_no_error(there):
    shell = f"{sys.executable} -m acetrain train --help | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith("usage:")
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] in ("0", "141")


def test_the_module_is_the_command(there):
    done = subprocess.run([sys.executable, "-m", "acetrain", "trian"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "'trian': there is no such job; nearest: train\n"


def test_a_multirun_runs_every_cell_and_leaves_no_litter(there, ran, capfd):
    assert main(["synthesize", "-m", "out_dir='songs, ${style}'", "style=piano,ambient", "count=1"]) == 0
    assert [(job.style, job.out_dir) for job in ran] == [("piano", "songs, piano"), ("ambient", "songs, ambient")]
    assert contents(there) == []
    printed = capfd.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines() == ["job 1 of 2: style=piano", "job 2 of 2: style=ambient"]


def test_a_failing_cell_stops_no_other(there, monkeypatch, capsys):
    seen: list[int] = []

    def run(self: Synthesize) -> None:
        seen.append(self.seed)
        if self.seed in (1, 3):
            raise Failed(f"seed {self.seed} is unlucky")

    monkeypatch.setattr(Synthesize, "run", run)
    assert main(["synthesize", "-m", "out_dir=s${seed}", "seed=1,2,3,4"]) == 1
    assert seen == [1, 2, 3, 4]
    assert capsys.readouterr().err.splitlines() == [
        "2 of 4 jobs failed",
        "seed=1: seed 1 is unlucky",
        "seed=3: seed 3 is unlucky",
    ]


def test_a_signal_ends_the_whole_multirun(there, monkeypatch):
    seen: list[int] = []

    def run(self: Synthesize) -> None:
        seen.append(self.seed)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Synthesize, "run", run)
    assert main(["synthesize", "-m", "out_dir=s${seed}", "seed=1,2"]) == 143
    assert seen == [1]


def test_nothing_runs_if_a_cell_cannot(there, ran, capsys):
    assert main(["synthesize", "-m", "out_dir=s${count}", "count=1,2,0"]) == 2
    assert capsys.readouterr().err.splitlines() == ["count: must be at least 1, got 0", "in job 3 of 3: count=0"]
    assert ran == []
    assert contents(there) == []


def test_runs_of_a_multirun_lie_below_out_dir_by_signature(there, monkeypatch):
    encoded = fabricate.cache(there / "cache", songs=3)
    jobs: list[Train] = []
    monkeypatch.setattr(Train, "run", lambda self, bases: jobs.append(self))
    arguments = ["train", "-m", f"cache='{encoded}'", "adapter.rank=8,16", "out_dir=all", "max_steps=1"]
    assert main(arguments) == 0
    folders = [job.out_dir for job in jobs]
    assert len(set(folders)) == 2
    assert all(re.fullmatch(r"all/train-[0-9a-f]{8}", folder) for folder in folders)
    assert main([*arguments[:-1], "max_steps=2"]) == 0
    assert [job.out_dir for job in jobs[2:]] == folders
    assert main(["train", f"cache={encoded}", "sweep=rank", "max_steps=1"]) == 0
    assert all(job.out_dir.startswith("runs/train-") for job in jobs[4:])
    assert len(jobs[4:]) == 3


def test_processes_that_a_cell_starts_are_a_single_run(there, monkeypatch):
    encoded = fabricate.cache(there / "cache", songs=3)
    seen: list[tuple[Train, list[str]]] = []

    def run(self: Train, bases: object = None) -> None:
        assert not HydraConfig.initialized()
        self.folder.claim(repeatable(self))
        seen.append((self, sys.argv[1:]))

    monkeypatch.setattr(Train, "run", run)
    before = list(sys.argv)
    assert main(["train", "-m", f"cache='{encoded}'", "seed=1,2", "out_dir='all, of them'"]) == 0
    assert sys.argv == before
    for job, arguments in list(seen):
        assert main(arguments) == 0
        assert seen.pop()[0] == job


@pytest.mark.slow
def test_a_multirun_trains_data_parallel(there):
    encoded = fabricate.cache(there / "cache", songs=4)
    option = "defaults:\n  - /schema/adapter@_here_: lora\n  - _self_\nrank: 2\nalpha: 4\ndropout: 0.0\n"
    option += "init: default\ninit_songs: 8\nranks: {}\nalphas: {}\nstart_from: ''\n"
    (there / "more" / "adapter").mkdir(parents=True)
    (there / "more" / "adapter" / "small.yaml").write_text(option)
    quick = [
        "--config-dir=more",
        "adapter=small",
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "logger=csv",
        "data.workers=0",
        "max_steps=1",
    ]
    command = [sys.executable, "-m", "acetrain", "train", "-m", f"cache='{encoded}'", "seed=1,2", "out_dir=all", *quick]
    subprocess.run(command, check=True, timeout=300)
    assert len(list(there.glob("all/*/adapter/adapter_model.safetensors"))) == 2


def test_a_launcher_of_hydras_runs_the_cells(there):
    launching = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    songs = [f"out_dir={there}/s${{seed}}", "seed=1,2", "count=1", "max_seconds=4"]
    assert main(["synthesize", "-m", *songs, *launching]) == 0
    assert {path.name for path in there.iterdir()} == {"s1", "s2"}
