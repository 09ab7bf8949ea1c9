"""What the pipeline is asked to make: the tasks ACE-Step 1.5 was trained on, each with its own inputs."""

from dataclasses import dataclass
from typing import Any

from acetrain.errors import require

_OF_BASE = "extract, lego and complete are trained into the base checkpoints alone"


@dataclass
class Task:
    """What is made."""

    def arguments(self) -> dict[str, Any]:
        """What `AceStepPipeline.__call__` is told of the task besides the audio it starts from."""
        raise NotImplementedError

    def starts_from(self) -> str:
        """The audio file the task starts from, which also gives the length; empty where there is none."""
        return ""

    def warning(self, variant: str) -> str:
        """What speaks against the task with this variant; empty where nothing does."""
        return ""


@dataclass
class Text2music(Task):
    """Music from the prompt alone."""

    def arguments(self) -> dict[str, Any]:
        return {"task_type": "text2music"}


@dataclass
class FromSource(Task):
    """Music made from music."""

    source: str
    """Audio file to start from; the result is as long as it is."""

    def __post_init__(self) -> None:
        require(bool(self.source), "task.source", "an audio file", self.source)

    def starts_from(self) -> str:
        return self.source


@dataclass
class Span(FromSource):
    """Music made anew within a span of the source."""

    start: float
    """Where the span starts, in seconds."""
    end: float | None
    """Where the span ends, in seconds; null for the end of the source."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.start >= 0, "task.start", "at least 0", self.start)
        require(self.end is None or self.end > self.start, "task.end", "above task.start, or null", self.end)


@dataclass
class Repaint(Span):
    """A span of the source made anew, the rest kept."""

    def arguments(self) -> dict[str, Any]:
        return {"task_type": "repaint", "repainting_start": self.start, "repainting_end": self.end}


@dataclass
class Cover(FromSource):
    """The source's music in the prompt's style."""

    strength: float
    """How far the source leads, in [0, 1]; below 1 it is mixed with the prompt alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.strength <= 1, "task.strength", "in [0, 1]", self.strength)

    def arguments(self) -> dict[str, Any]:
        return {"task_type": "cover", "audio_cover_strength": self.strength}


@dataclass
class Extract(FromSource):
    """One track out of the source's mix."""

    track: str
    """The track, such as vocals, drums, bass or guitar; empty leaves it to the model."""

    def arguments(self) -> dict[str, Any]:
        return {"task_type": "extract", "track_name": self.track or None}

    def warning(self, variant: str) -> str:
        return _of_base(variant)


@dataclass
class Lego(Span):
    """A new track that goes with the source."""

    track: str
    """The track, such as vocals, drums, bass or guitar; empty leaves it to the model."""

    def arguments(self) -> dict[str, Any]:
        named = {"task_type": "lego", "track_name": self.track or None}
        return named | {"repainting_start": self.start, "repainting_end": self.end}

    def warning(self, variant: str) -> str:
        return _of_base(variant)


@dataclass
class Complete(FromSource):
    """The source with further tracks."""

    tracks: list[str]
    """The kinds of track to add, such as [drums, bass]; empty leaves them to the model."""

    def arguments(self) -> dict[str, Any]:
        return {"task_type": "complete", "complete_track_classes": list(self.tracks) or None}

    def warning(self, variant: str) -> str:
        return _of_base(variant)


def _of_base(variant: str) -> str:
    return "" if "base" in variant or variant == "tiny" else f"{_OF_BASE}, this is {variant}"
