"""Where options come from: the package's folders, and the user's own, which come first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import acetrain
from acetrain.errors import Refused, nearest

_INSTALLED = Path(acetrain.__file__).parent / "_configs"
PACKAGED = _INSTALLED if _INSTALLED.is_dir() else Path(acetrain.__file__).parents[2]
"""The folder of conf/, experiments/ and sweeps/: inside an installed package, or the top of a checkout."""

RECIPES = {"experiment": "experiments", "preset": "conf/preset", "sweep": "sweeps"}
"""Groups whose files change any key of a job, and the folder that each lies in; each is laid over those before it."""

FOREIGN = "wandb"
"""Folder in `sweeps/` of the files that W&B's own controller reads; they are no recipes."""


@dataclass(frozen=True)
class Sources:
    """Folders in order of precedence; each may hold conf/, experiments/ and sweeps/."""

    roots: tuple[Path, ...]
    extra: tuple[Path, ...] = ()
    """Folders that hold groups of options directly."""

    @classmethod
    def of(cls, working: Path, config_dirs: Sequence[str] = ()) -> "Sources":
        """The sources seen from the folder `working`, with the folders given as `--config-dir` before it.

        Raises Refused for a folder that does not exist.
        """
        given = tuple(Path(folder).absolute() for folder in config_dirs)
        for folder in given:
            if not folder.is_dir():
                raise Refused(f"--config-dir: must be a folder that exists, got {folder}")
        return cls(tuple(dict.fromkeys((*given, working.absolute(), PACKAGED))), given)

    def conf(self) -> list[Path]:
        """Folders that hold groups, the first to hold an option winning; the package's own is the last."""
        nested = [root / "conf" for root in self.roots]
        return [folder for folder in dict.fromkeys((*self.extra, *nested)) if folder.is_dir()]

    def options(self, group: str) -> dict[str, Path]:
        """Option -> file of a group."""
        return _files([folder / group for folder in self.conf()], "*.yaml")

    def recipes(self, group: str) -> dict[str, Path]:
        """Name -> file of the experiments, presets or sweeps, those in folders below by `folder/name`."""
        direct = [folder / group for folder in self.extra if RECIPES[group].startswith("conf/")]
        files = _files([*direct, *(root / RECIPES[group] for root in self.roots)], "**/*.yaml")
        return {name: file for name, file in files.items() if group != "sweep" or name.split("/")[0] != FOREIGN}

    def recipe(self, group: str, name: str) -> Path:
        """The file that `group=name` means: one of `recipes`, or a YAML file by its path.

        Raises Refused if there is none.
        """
        known = self.recipes(group)
        if name in known:
            return known[name]
        if name.endswith((".yaml", ".yml")) and Path(name).is_file():
            return Path(name)
        raise Refused(f"{group}: there is no '{name}' in {RECIPES[group]}/; {nearest(name, known)}")

    def file(self, config: str) -> Path | None:
        """The file behind Hydra's name of a config, such as `adapter/lora` or `train`; None if it lies in no file."""
        for folder in self.conf():
            if (file := folder / f"{config}.yaml").is_file():
                return file
        return None


def _files(folders: Sequence[Path], pattern: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        for file in folder.glob(pattern):
            found.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
    return dict(sorted(found.items()))
