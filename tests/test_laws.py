"""Every option on disk against the laws of its group: an option is tested the day its file appears."""

import copy
import functools
from pathlib import Path
from typing import Any

import laws
import pytest
import reports

from acetrain.composition.job import Composer
from acetrain.composition.overrides import read
from acetrain.composition.sources import PACKAGED, Sources

SOURCES = Sources((PACKAGED,))
LAWS = {
    "timesteps": [laws.is_a_quantile_function, laws.is_what_songs_draw],
    "loss": [laws.belongs_to_the_song, laws.grows_with_the_error_alike_on_both_sides],
    "weighting": [laws.weighs_every_time_by_itself],
    "schedule": [laws.stays_within_the_peak_and_rises_at_restarts_only, laws.is_never_raised_by_an_extension],
    "ema": [laws.averages_without_a_trace_and_goes_on_to_the_bit],
    "optimizer": [
        laws.resumes_to_the_bit,
        laws.lowers_a_loss,
        laws.evaluating_leaves_no_trace,
        laws.starts_every_group_at_its_rate,
        laws.moves_every_weight_of_the_adapter_in_fp32_and_no_other,
    ],
}
ADAPTER_LAWS = [
    laws.attaching_changes_no_output,
    laws.training_changes_the_adapter_and_no_base_weight,
    laws.exactly_the_selected_modules_are_adapted,
    laws.goes_on_to_the_bit,
    laws.merged_is_the_same,
]
ELSEWHERE = {"model", "data", "trainer", "samples", "logger"}
"""Groups whose options change no mathematics; composing, running and resuming them is tested beside their code."""


def option(group: str, name: str) -> Any:
    """The live option, as a command line would choose it."""
    return copy.deepcopy(_composed(group, name))


@functools.cache
def _composed(group: str, name: str) -> Any:
    chosen = reports.choice(name) if group == "targets" else [f"{group}={name}"]
    return getattr(Composer("train", SOURCES).compose([*map(read, chosen), read("cache=x")]).build(), group)


def options(group: str) -> list[str]:
    return sorted(SOURCES.options(group))


CASES = [
    pytest.param(group, name, law, marks=pytest.mark.slow if law is laws.is_what_songs_draw else ())
    for group in LAWS
    for name in options(group)
    for law in LAWS[group]
]


@pytest.mark.parametrize(("group", "name", "law"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_the_option_obeys_the_law(group: str, name: str, law: Any) -> None:
    law(option(group, name))


EVERYWHERE = "all_linear"
"""The target set that has modules of every kind."""
QUICK = ("lora", "dora", "lokr")
"""The adapters that the quick tests hold to the laws there; the product of all with all is slow."""
PAIRS = [
    pytest.param(adapter, targets, marks=() if targets == EVERYWHERE and adapter in QUICK else pytest.mark.slow)
    for adapter in options("adapter")
    for targets in options("targets")
]


@pytest.mark.parametrize("law", ADAPTER_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("adapter", "targets"), PAIRS)
def test_every_adapter_on_every_target_set_obeys_the_law(adapter: str, targets: str, law: Any) -> None:
    law(option("adapter", adapter), option("targets", targets))


@pytest.mark.parametrize(("adapter", "targets"), PAIRS)
def test_every_adapter_is_loaded_as_it_was_saved(adapter: str, targets: str, tmp_path: Path) -> None:
    laws.saved_and_loaded_is_the_same(option("adapter", adapter), option("targets", targets), tmp_path / "adapter")


@pytest.mark.slow
@pytest.mark.parametrize("adapter", options("adapter"))
def test_every_adapter_is_kept_in_fp32_on_a_bf16_base(adapter: str) -> None:
    parts = option("precision", "bf16"), option("adapter", adapter), option("targets", EVERYWHERE)
    laws.keeps_the_adapter_in_fp32(*parts)


@pytest.mark.parametrize("precision", options("precision"))
def test_every_precision_keeps_the_adapter_in_fp32(precision: str) -> None:
    adapter, targets = option("adapter", "lora"), option("targets", "attention")
    laws.keeps_the_adapter_in_fp32(option("precision", precision), adapter, targets)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize(
    "adapter", [name if name == "lora" else pytest.param(name, marks=pytest.mark.slow) for name in options("adapter")]
)
def test_every_adapter_trains_on_a_quantised_base_as_on_the_dense_one_it_stands_for(adapter, kind, tmp_path) -> None:
    parts = option("adapter", adapter), option("targets", EVERYWHERE)
    laws.trained_on_quantised_weights_fits_them_dense(*parts, kind, tmp_path / "adapter")


def test_no_group_is_forgotten() -> None:
    groups = set(Composer("train", SOURCES).groups())
    assert groups == {*LAWS, "adapter", "targets", "precision"} | ELSEWHERE
    assert len(CASES) == sum(len(options(group)) * len(found) for group, found in LAWS.items()) > 0
