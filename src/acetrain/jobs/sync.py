"""`acetrain sync`: send W&B runs that were kept offline."""

from dataclasses import dataclass
from pathlib import Path

from acetrain.errors import require


@dataclass
class Sync:
    """Send W&B runs that were kept offline, each part of them once; nothing is deleted here."""

    paths: list[str]
    """Folders that are looked through, with all below them. Also words: `acetrain sync runs other_runs`."""
    dry_run: bool
    """Whether to list what would be sent, which needs neither a key nor a network."""
    online: bool
    """Whether to send runs as well that were online, and that W&B says were cut short."""
    patience: float
    """Seconds that sending one part of a run may take, above 0."""

    def __post_init__(self) -> None:
        require(bool(self.paths), "paths", "at least one folder", self.paths)
        require(self.patience > 0, "patience", "above 0", self.patience)

    def check(self) -> None:
        """Whether the folders are there."""
        for path in self.paths:
            require(Path(path).is_dir(), "paths", "folders that exist", path)

    def run(self) -> None:
        """Send, the oldest first. Raises Refused without a key, Failed where W&B cannot be reached or takes something
        not."""
        from acetrain.tracking import syncing

        found = syncing.find([Path(path) for path in self.paths], self.online)
        print(f"{len(found.waiting)} to send, {found.sent} sent before, {len(found.busy)} of runs that are running")
        if self.dry_run:
            print("\n".join(map(str, found.waiting)))
        elif found.waiting:
            syncing.check()
            syncing.send(found.waiting, self.patience)
