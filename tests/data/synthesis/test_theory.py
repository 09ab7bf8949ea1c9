from itertools import pairwise

import numpy as np
import pytest

from acetrain.data.synthesis import theory
from acetrain.data.synthesis.theory import Key


@pytest.mark.parametrize(
    ("tonic", "mode", "name"), [(0, "major", "C major"), (1, "minor", "C# minor"), (10, "major", "Bb major")]
)
def test_key_is_named_as_players_write_it(tonic: int, mode: str, name: str):
    assert Key(tonic, mode).name == name


def test_the_dominant_of_a_minor_key_has_its_leading_tone():
    assert theory.chord(Key(9, "minor"), 4, seventh=False).tones == (4, 8, 11)


@pytest.mark.parametrize("mode", ["major", "minor"])
@pytest.mark.parametrize("bars", [2, 5, 9])
def test_a_progression_rests_on_the_tonic_and_stays_in_the_key(mode: str, bars: int):
    key = Key(3, mode)
    chords = theory.progression(np.random.default_rng(0), key, bars, seventh=True)
    allowed = {key.pitch(degree) % 12 for degree in range(7)} | {(key.tonic + 11) % 12}
    assert len(chords) == bars
    assert chords[-1].root == key.tonic
    assert all(set(chord.tones) <= allowed for chord in chords)


def test_voices_move_by_less_than_in_root_position():
    chords = [theory.chord(Key(0, "major"), degree, seventh=False) for degree in (0, 3, 4, 0, 5, 3, 1, 4)]
    voiced = theory.voicings(chords, 60)
    moved = [abs(a - b) for one, two in pairwise(voiced) for a, b in zip(one, two, strict=True)]
    assert [{pitch % 12 for pitch in notes} for notes in voiced] == [set(chord.tones) for chord in chords]
    assert np.mean(moved) < 2.5
    assert max(moved) <= 7
