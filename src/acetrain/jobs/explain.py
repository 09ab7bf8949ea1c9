"""`acetrain explain`: what can be chosen, in which units, and what it is without choosing."""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Explain:
    """Print the options of a group, or the keys of an option or a job, with types, values and meaning."""

    what: str
    """A group, an option as `group=option`, or a job; empty for an overview. Also `acetrain explain WHAT`."""
    config_dirs: list[str]
    """Folders with further options; `--config-dir DIR` adds to them."""

    def check(self) -> None:
        """Refuse what is neither group, option nor job."""
        self._text()

    def run(self) -> None:
        """Print it."""
        print(self._text())

    def _text(self) -> str:
        from acetrain.command.describe import anything
        from acetrain.composition.sources import Sources

        return anything(self.what, Sources.of(Path.cwd(), self.config_dirs))
