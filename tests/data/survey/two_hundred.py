"""A folder of two hundred short songs with every kind of file beside them, thirty of them with something wrong."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff")
SUBTYPES = {".ogg": "VORBIS", ".opus": "OPUS"}
KEYS = ("C major", "F# minor", "B♭ major", "E♭ minor", "G major")
METERS = ("4", "3", "2", "6")
WORDS = ("[Verse]\nla la\n[Chorus]\nlu lu", "[Verse]\n바다, 바다", "")
SONGS = 200


def tone(file: Path, seconds: float = 0.8, channels: int = 2, pitch: int = 0) -> np.ndarray:
    """A file that holds two tones, one on each side."""
    time = np.arange(round(seconds * RATE)) / RATE
    sides = [np.sin(2 * np.pi * (220 + 7 * pitch) * (side + 2) / 2 * time) for side in range(channels)]
    samples = 0.25 * np.stack(sides, axis=1)
    write(file, samples)
    return samples


def write(file: Path, samples: np.ndarray, subtype: str | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    form = "OGG" if file.suffix in (".ogg", ".opus") else None
    soundfile.write(file, samples, RATE, format=form, subtype=subtype or SUBTYPES.get(file.suffix))


def beside(file: Path, ending: str, content: str | bytes | dict | list) -> None:
    """Write the sidecar of a song."""
    text = json.dumps(content) if isinstance(content, dict | list) else content
    file.with_name(file.stem + ending).write_bytes(text if isinstance(text, bytes) else text.encode())


@dataclass(frozen=True)
class Facts:
    """What a good song's files say, in whatever form."""

    caption: str
    lyrics: str
    bpm: int
    keyscale: str
    timesignature: str

    @classmethod
    def of(cls, index: int) -> "Facts":
        return cls(
            f"a tone, number {index}",
            WORDS[index % len(WORDS)],
            60 + index % 100,
            KEYS[index % len(KEYS)],
            METERS[index % len(METERS)],
        )

    @property
    def fields(self) -> dict[str, object]:
        return {"bpm": self.bpm, "keyscale": self.keyscale, "timesignature": self.timesignature, "language": "ko"}


def official(file: Path, facts: Facts) -> None:
    beside(file, ".caption.txt", facts.caption)
    beside(file, ".lyrics.txt", facts.lyrics)
    beside(file, ".json", facts.fields)


def json_alone(file: Path, facts: Facts) -> None:
    beside(file, ".json", b"\xef\xbb\xbf" + json.dumps({"caption": facts.caption, **facts.fields}).encode())


def plain_lyrics(file: Path, facts: Facts) -> None:
    beside(file, ".caption.txt", f"\ufeff{facts.caption}\r\n")
    beside(file, ".txt", facts.lyrics.replace("\n", "\r\n"))


def timed_lyrics(file: Path, facts: Facts) -> None:
    beside(file, ".caption.txt", facts.caption)
    lines = [f"[00:{at:02d}.50]{line}" for at, line in enumerate(facts.lyrics.splitlines())]
    beside(file, ".lrc", "\n".join(["[ar:nobody]", *lines]))


def side_step(file: Path, facts: Facts) -> None:
    head = f"caption: {facts.caption}\ngenre: tones\nbpm: {facts.bpm}\nkey: {facts.keyscale}\n"
    beside(file, ".txt", f"{head}signature: {facts.timesignature}\nlyrics:\n{facts.lyrics}")


def version_one(file: Path, facts: Facts) -> None:
    beside(file, "_prompt.txt", facts.caption)
    beside(file, "_lyrics.txt", facts.lyrics)


def in_table(file: Path, facts: Facts) -> None:
    """A row of the folder's table; the folder's name is the delimiter's."""
    mark = {"comma": ",", "semicolon": ";", "tab": "\t"}[file.parent.name]
    table = file.parent / "labels.csv"
    head = mark.join(("File", "Artist", "Title", "BPM", "Key", "Camelot", "Caption"))
    cells = (file.name, "", "", str(facts.bpm), facts.keyscale, "8A", f'"{facts.caption}"')
    before = table.read_text(encoding="utf-8") if table.exists() else f"\ufeff{head}\r\n"
    table.write_text(f"{before}{mark.join(cells)}\r\n", encoding="utf-8", newline="")


KINDS: dict[str, Callable[[Path, Facts], None]] = {
    "official": official,
    "json": json_alone,
    "plain": plain_lyrics,
    "timed": timed_lyrics,
    "side step": side_step,
    "v1": version_one,
    "comma": in_table,
    "semicolon": in_table,
    "tab": in_table,
}
"""Folder -> what writes a good song's sidecars in it."""


def good(folder: Path, count: int) -> None:
    """`count` songs without a fault, in every kind and every format in turn."""
    for index in range(count):
        kind = list(KINDS)[index % len(KINDS)]
        file = folder / kind / f"{index:03d} 노래{SUFFIXES[index % len(SUFFIXES)]}"
        tone(file, 0.5 + index % 4 / 10, pitch=index)
        KINDS[kind](file, Facts.of(index))


def captioned(file: Path, samples: np.ndarray, subtype: str | None = None) -> None:
    write(file, samples, subtype)
    beside(file, ".caption.txt", "a caption")


def cut(share: float) -> Callable[[Path], None]:
    """A song of which only the first part arrived."""

    def plant(file: Path) -> None:
        captioned(file, np.repeat(0.3 * np.sin(np.arange(4 * RATE) / 9)[:, None], 2, axis=1))
        whole = file.read_bytes()
        file.write_bytes(whole[: round(share * len(whole))])

    return plant


def content(data: bytes) -> Callable[[Path], None]:
    """A captioned file that holds something else than audio."""

    def plant(file: Path) -> None:
        beside(file, ".caption.txt", "a caption")
        file.write_bytes(data)

    return plant


def samples(seconds: float, channels: int = 2, last: float = 0.1) -> Callable[[Path], None]:
    """A captioned song of a length and width, whose last sample is `last`."""

    def plant(file: Path) -> None:
        wave = np.repeat(0.1 * np.sin(np.arange(round(seconds * RATE)) / 9)[:, None], channels, axis=1)
        wave[-1:] = last
        captioned(file, wave.astype(np.float32), None if np.isfinite(last) else "FLOAT")

    return plant


def sidecar(ending: str, said: str | bytes | dict | list, caption: str = "a caption") -> Callable[[Path], None]:
    """A good song with a caption, and a file beside it that is not as it must be."""

    def plant(file: Path) -> None:
        tone(file)
        if caption:
            beside(file, ".caption.txt", caption)
        beside(file, ending, said)

    return plant


def row(*cells: str) -> Callable[[Path], None]:
    """A good song in a folder with tables, with rows of its own; `{}` is its name."""

    def plant(file: Path) -> None:
        tone(file)
        beside(file, ".caption.txt", "a caption")
        table = file.parent / "labels.csv"
        with table.open("a", encoding="utf-8", newline="") as stream:
            stream.writelines(f"{cell.format(file.name)}\r\n" for cell in cells)

    return plant


def dead_link(file: Path) -> None:
    os.symlink(file.with_name("moved away.wav"), file)


def bare(file: Path) -> None:
    tone(file)


FAULTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "official/cut.mp3": (r"is cut short", cut(0.5)),
    "official/half.flac": (r"cannot be decoded", cut(0.5)),
    "official/text.wav": (r"cannot be decoded", content(b"these are words, and no music\n" * 40)),
    "official/zero.flac": (r"is empty", content(b"")),
    "official/nan.wav": (r"holds non-finite samples", samples(0.5, last=float("nan"))),
    "official/six.wav": (r"has 6 channels", samples(0.5, channels=6)),
    "official/short.wav": (r"lasts 0\.050 s, the shortest song is", samples(0.05)),
    "official/long.flac": (r"lasts 601 s, the longest song is 600 s", samples(601)),
    "official/nothing.wav": (r"holds no audio", samples(0.0)),
    "official/link.wav": (r"leads nowhere", dead_link),
    "official/bare.wav": (r"no caption \(write bare\.caption\.txt\)", bare),
    "official/latin.wav": (r"latin\.lyrics\.txt: is not UTF-8", sidecar(".lyrics.txt", b"caf\xe9")),
    "official/line\nend.wav": (r"name holds control characters", sidecar(".lyrics.txt", "la")),
    "json/broken.ogg": (r"broken\.json: .*Expecting|broken\.json: .*JSON", sidecar(".json", '{"bpm": 99,')),
    "json/list.ogg": (r"list\.json: not a JSON object", sidecar(".json", [1, 2])),
    "json/typo.ogg": (r"unknown key 'captoin'; nearest: caption", sidecar(".json", {"captoin": "x"})),
    "json/fast.ogg": (r"bpm: must be a number from 30 to 300, got 400", sidecar(".json", {"bpm": 400})),
    "json/word.ogg": (r"bpm: must be a number from 30 to 300, got 'fast'", sidecar(".json", {"bpm": "fast"})),
    "json/key.ogg": (r"keyscale: must be a key like .* got 'H dur'", sidecar(".json", {"keyscale": "H dur"})),
    "json/five.ogg": (r"timesignature: must be one of 2, 3, 4, 6, got 5", sidecar(".json", {"timesignature": 5})),
    "json/tongue.ogg": (r"language: must be a code", sidecar(".json", {"language": "english"})),
    "json/number.ogg": (r"caption: must be text, got 7", sidecar(".json", {"caption": 7}, caption="")),
    "json/never.ogg": (r"repeat: must be a whole number, at least 1, got 0", sidecar(".json", {"repeat": 0})),
    "side step/slow.mp3": (r"slow\.txt: bpm: must be .* got '12'", sidecar(".txt", "caption: x\nbpm: 12\n", "")),
    "side step/typo.mp3": (r"unknown key 'captions'", sidecar(".txt", "caption: x\ncaptions: y\n", "")),
    "comma/slow.wav": (r"labels\.csv: bpm: must be .* got '7'", row("{},,,7,C major,8B,")),
}
"""Song -> what its fault says, and what plants it."""

WARNINGS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "semicolon/twice.wav": (
        r"2 rows for it that differ .*none is taken",
        row("{};;;70;C major;;", "{};;;90;C major;;"),
    ),
    "tab/absent.wav": (r"labels\.csv: no row for it", row()),
    "json/two.ogg": (r"bpm: two\.json says 99, two\.txt says 98", sidecar(".txt", "caption: a caption\nbpm: 98")),
    "plain/twin.flac": (r"shares the files beside it with twin\.wav", sidecar(".lyrics.txt", "la")),
}
"""The same for what is said and stops nothing."""


def build(folder: Path) -> Path:
    """The folder, with all of its songs."""
    planted = FAULTS | WARNINGS
    good(folder, SONGS - len(planted) - 1)
    for name, (_, plant) in planted.items():
        plant(folder / name)
    beside(folder / "json/two.ogg", ".json", {"bpm": 99})
    tone(folder / "plain/twin.wav", pitch=3)
    return folder
