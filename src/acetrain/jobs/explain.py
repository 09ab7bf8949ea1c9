"""`acetrain explain`: what can be chosen, in which units, and what it is without choosing."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acetrain.command.histogram import Screen


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
        """Print it, densities of timesteps with their plots as wide as the terminal."""
        from acetrain.command.histogram import Screen

        blocks = (sys.stdout.encoding or "").lower().startswith("utf")
        print(self._text(Screen(shutil.get_terminal_size().columns, blocks)))

    def _text(self, screen: "Screen | None" = None) -> str:
        from acetrain.command.describe import anything
        from acetrain.composition.sources import Sources

        return anything(self.what, Sources.of(Path.cwd(), self.config_dirs), screen)
