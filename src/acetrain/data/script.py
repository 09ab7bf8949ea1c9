"""All that the model may be told of one song, and the encodings that takes."""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import TypeVar

from acetrain.data.prompt import Prompt
from acetrain.data.sections import in_windows
from acetrain.data.variants import Windows, Wordings

T = TypeVar("T")


@dataclass(frozen=True)
class Encodings:
    """The texts and lyrics to encode for a song, each once, and what visits draw from them."""

    texts: tuple[tuple[str, float], ...]
    """Caption and stated seconds of each text; text 0 is the one as written."""
    lyrics: tuple[str, ...]
    """Lyrics 0 are the whole ones."""
    whole: Wordings
    windows: Windows | None

    def prompts(self, written: Prompt) -> list[tuple[Prompt, float]]:
        """Prompts with their seconds that hold every text and every lyrics at least once: pair n has text n if there
        are as many, and lyrics n likewise."""
        pairs = []
        for number in range(max(len(self.texts), len(self.lyrics))):
            caption, seconds = self.texts[number % len(self.texts)]
            lyrics = self.lyrics[number % len(self.lyrics)]
            pairs.append((replace(written, caption=caption, lyrics=lyrics), seconds))
        return pairs


@dataclass(frozen=True)
class Script:
    """What is said of a song over all its visits."""

    prompt: Prompt
    """As written, with the whole lyrics."""
    captions: tuple[str, ...] = ()
    """Further wordings of the caption."""
    genre: str = ""
    """Caption made of the genre, which takes the caption's place in some visits; empty where none does."""
    times: tuple[float | None, ...] = ()
    """Second at which each line of the lyrics starts, None where it is not known; empty where none is."""
    window: float | None = None
    """Seconds that a visit may take of the song; None where visits take all of it."""

    def digest(self) -> str:
        """SHA-256 of everything that is encoded; that of the prompt where it is all."""
        more = [self.captions, self.genre, self.window, self.times if self.window else ()]
        if not any(more):
            return self.prompt.digest()
        return hashlib.sha256(json.dumps([self.prompt.digest(), *more]).encode()).hexdigest()

    def encodings(self, frames: int, frame_rate: float) -> Encodings:
        """What to encode of a song of `frames` latent frames, `frame_rate` a second."""
        texts: list[tuple[str, float]] = []
        lyrics = [self.prompt.lyrics]
        whole = self._wordings(texts, frames / frame_rate)
        windows = None
        length = window_frames(self.window, frame_rate) if self.window else frames
        if length < frames:
            starts, sung = zip(*in_windows(self.prompt.lyrics, self.times, frames, length, frame_rate), strict=True)
            numbers = [_number(lyrics, words) for words in sung]
            windows = Windows(length, self._wordings(texts, length / frame_rate), list(starts), numbers)
        return Encodings(tuple(texts), tuple(lyrics), whole, windows)

    def _wordings(self, texts: list[tuple[str, float]], seconds: float) -> Wordings:
        captions = [_number(texts, (caption, seconds)) for caption in (self.prompt.caption, *self.captions)]
        return Wordings(captions, _number(texts, (self.genre, seconds)) if self.genre else None)


def window_frames(seconds: float, frame_rate: float) -> int:
    """Latent frames of a window."""
    return math.floor(seconds * frame_rate + 1e-6)


def _number(known: list[T], item: T) -> int:
    """The place of `item` in `known`, where it is put if it is new."""
    if item not in known:
        known.append(item)
    return known.index(item)
