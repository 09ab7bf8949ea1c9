"""Likeness of updates, from factors, against the dense matrices."""

import numpy as np
import pytest
import scipy.linalg
import torch
from test_truncate import UPDATES, drawn

from acetrain.adapters.low_rank import LowRank
from acetrain.analysis.comparing import compare, likeness
from acetrain.analysis.comparing_plot import draw
from acetrain.analysis.comparing_report import page, rows
from acetrain.analysis.truncate import decompose
from acetrain.errors import Refused

NAME = "layers.0.mlp.up_proj"


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("rank", [None, 1, 3])
def test_it_is_as_of_the_dense_updates(name: str, rank: int | None) -> None:
    first, second = UPDATES[name], drawn(*UPDATES[name].shape, 5, seed=7)
    second = LowRank(second.b + 0.0, second.a, ())
    found = likeness(NAME, decompose(first), decompose(second), rank)
    a, b = (one.dense().double().numpy() for one in (first, second))
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    assert found.cosine == pytest.approx((a * b).sum() / lengths if lengths else 0.0, abs=1e-6)
    assert (found.norm_a, found.norm_b) == pytest.approx((np.linalg.norm(a), np.linalg.norm(b)), rel=1e-6)
    if not lengths:
        assert found.outputs == found.inputs == found.chance_outputs == 0
        return
    (ua, sa, va), (ub, _, vb) = (np.linalg.svd(one, full_matrices=False) for one in (a, b))
    kept = [min(rank or 99, count) for count in (int((sa > sa[0] * 1e-6).sum()), 5)]
    for overlap, left, right in ((found.outputs, ua, ub), (found.inputs, va.T, vb.T)):
        angles = scipy.linalg.subspace_angles(left[:, : kept[0]], right[:, : kept[1]])
        assert overlap == pytest.approx(np.square(np.cos(angles)).mean(), abs=1e-5)


def test_an_update_is_wholly_like_itself_and_not_its_negative() -> None:
    update = UPDATES["tall"]
    twice = likeness(NAME, decompose(update), decompose(update.times(2.0)), None)
    assert (twice.cosine, twice.outputs, twice.inputs) == pytest.approx((1, 1, 1))
    assert twice.norm_b == pytest.approx(2 * twice.norm_a)
    assert likeness(NAME, decompose(update), decompose(update.times(-1.0)), None).cosine == pytest.approx(-1)


def test_spaces_drawn_at_random_overlap_as_chance_says() -> None:
    found = [
        likeness(NAME, decompose(drawn(60, 40, 4, seed)), decompose(drawn(60, 40, 8, seed + 100)), None)
        for seed in range(40)
    ]
    assert np.mean([one.outputs for one in found]) == pytest.approx(found[0].chance_outputs, rel=0.1)
    assert np.mean([one.inputs for one in found]) == pytest.approx(found[0].chance_inputs, rel=0.1)


def test_modules_that_only_one_has_count_in_all(tmp_path) -> None:
    update, other = decompose(drawn(30, 20, 3)), decompose(drawn(30, 20, 3, seed=1))
    first = {NAME: update, "time_embed.linear_1": other}
    found = compare(first, {NAME: update, "layers.1.mlp.up_proj": other})
    assert list(found.modules) == [NAME]
    assert list(found.only_a) == ["time_embed.linear_1"] and list(found.only_b) == ["layers.1.mlp.up_proj"]
    shared, alone = update.s.square().sum().item(), other.s.square().sum().item()
    assert found.cosine == pytest.approx(shared / (shared + alone))
    assert "only in the first: 1 modules" in page(found) and "mlp.up_proj" in page(found)
    assert rows(found).splitlines()[0].startswith("module,norm_a,norm_b,cosine") and len(rows(found).splitlines()) == 2
    draw(compare(first, first), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_adapters_that_do_not_go_together_are_refused() -> None:
    update = decompose(drawn(30, 20, 3))
    with pytest.raises(Refused, match="adapter_paths: must have a module in common"):
        compare({NAME: update}, {"time_embed.linear_1": update})
    with pytest.raises(Refused, match=r"must be of one base, layers.0.mlp.up_proj is \[30, 20\] and \[20, 30\]"):
        compare({NAME: update}, {NAME: decompose(LowRank(torch.ones(20, 1), torch.ones(1, 30)))})
