"""Every option composes, `docs/options.md` is of the options as they are, and pages refer to what is there."""

import re
from pathlib import Path

from omegaconf import OmegaConf

from acetrain.command import reference
from acetrain.command.describe import option_node, schema_of
from acetrain.composition.sources import PACKAGED, RECIPES, Sources
from acetrain.schemas import GROUPS, JOBS

SOURCES = Sources((PACKAGED,))
DOCS = Path(__file__).parents[1] / "docs"


def test_every_file_of_conf_composes_and_the_reference_shows_it(monkeypatch):
    shown = {}

    def recorded(group, option, sources):
        shown[f"{group}={option}"] = option_node(group, option, sources)
        return shown[f"{group}={option}"]

    monkeypatch.setattr(reference, "option_node", recorded)
    now = reference.page(SOURCES)
    files = {f"{file.parent.name}={file.stem}" for file in (PACKAGED / "conf").glob("*/*.yaml")}
    assert set(shown) == {name for name in files if not name.startswith("preset=")}
    for name, node in shown.items():
        assert schema_of(node) in GROUPS[name.partition("=")[0]].values()
        assert not OmegaConf.missing_keys(node), f"{name} leaves a key without a value"
    headings = set(re.findall(r"^#+ (.*)$", now, re.MULTILINE))
    assert headings >= set(shown) | {f"acetrain {job}" for job in JOBS}
    assert all(f"\n| `{name}` |" in now for kind in RECIPES for name in SOURCES.recipes(kind))
    anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", now)) <= anchors
    assert (DOCS / "options.md").read_text(encoding="utf-8") == now, "make reference writes it"


def test_pages_refer_to_what_is_there():
    for file in (*DOCS.glob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.name} refers to {target}"
