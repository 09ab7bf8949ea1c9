"""What SLURM would not take is refused in a line, before anything is submitted or written."""

import pytest
from slurm_site import SMALL, Site

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("launcher.partition=nix", "launcher: SLURM takes no such job: invalid partition specified: nix"),
        ("launcher.memory=900", "launcher: SLURM takes no such job: "),
        ("launcher.gpus=7", "launcher: SLURM takes no such job: Requested node configuration is not available"),
        ("launcher.constraint=h100", "launcher: SLURM takes no such job: Invalid feature specification"),
        ("launcher.time=soon", "launcher.time: must be minutes, HH:MM:SS or D-HH:MM:SS, got 'soon'"),
        ("launcher.tasks=2", "launcher.tasks: must be trainer.devices, 1, or null, got 2"),
    ],
)
def test_a_job_that_slurm_would_not_take_is_refused(site: Site, change: str, told: str) -> None:
    printed = site.run(*site.training("-m", "seed=1,2", "max_steps=2", *SMALL, change), code=2)
    assert told in printed and len(printed.splitlines()) <= 8
    assert not site.cluster.ask("squeue", "-h")
    assert not list(site.folder.glob("runs/*/identity.json"))
