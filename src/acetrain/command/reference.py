"""The reference of every job, group and option: `python -m acetrain.command.reference` prints `docs/options.md`."""

import inspect

from omegaconf import DictConfig

from acetrain.command.describe import keys, option_node, schema_of
from acetrain.composition.docs import summary
from acetrain.composition.job import Composer
from acetrain.composition.recipes import opening
from acetrain.composition.sources import PACKAGED, RECIPES, Sources
from acetrain.composition.types import hints
from acetrain.schemas import GROUPS, JOBS, MULTIRUN, ROOTS

HEAD = """# Options

Every job, group and option of the package, as `acetrain explain` prints them. `make reference` writes this page.
"""


def page(sources: Sources) -> str:
    """The reference in Markdown: jobs with their keys, groups with the keys of each option, and files of many keys."""
    jobs, groups = (_job(job, sources) for job in JOBS), (_group(group, sources) for group in GROUPS)
    recipes = (_recipes(kind, sources) for kind in RECIPES)
    parts = [
        HEAD,
        "## Jobs\n",
        *jobs,
        _job(MULTIRUN, sources),
        "## Groups\n",
        *groups,
        "## Files that change any key\n",
        *recipes,
    ]
    return "\n".join(parts)


def _job(job: str, sources: Sources) -> str:
    composed = Composer(job, sources).compose([])
    groups = [f"[`{name}`](#{name})" for name in hints(ROOTS[job]) if name in GROUPS]
    choices = f"\nGroups: {', '.join(groups)}\n" if groups else ""
    title = "multiruns: -m and sweep=NAME" if job == MULTIRUN else f"acetrain {job}"
    return f"### {title}\n\n{_said(ROOTS[job])}\n{choices}\n{_table(composed.config)}"


def _group(group: str, sources: Sources) -> str:
    options = sources.options(group)
    nodes = {option: option_node(group, option, sources) for option in options}
    rows = [
        f"| [`{option}`](#{group}{option}) | {_cell(summary(schema_of(node)))} |\n" for option, node in nodes.items()
    ]
    pages = [f"#### {group}={option}\n\n{_said(schema_of(node))}\n\n{_table(node)}" for option, node in nodes.items()]
    return "\n".join([f"### {group}\n\n| option | what it is |\n| --- | --- |\n{''.join(rows)}", *pages])


def _recipes(kind: str, sources: Sources) -> str:
    rows = [f"| `{name}` | {_cell(opening(file))} |\n" for name, file in sources.recipes(kind).items()]
    return f"### {kind}=NAME\n\nIn `{RECIPES[kind]}/`.\n\n| name | what it says |\n| --- | --- |\n{''.join(rows)}"


def _said(owner: type) -> str:
    return inspect.getdoc(owner) or ""


def _table(node: DictConfig) -> str:
    rows = [f"| `{name}` | {_cell(kind)} | {_value(value)} | {_cell(doc)} |\n" for name, kind, value, doc in keys(node)]
    return f"| key | type | value | meaning |\n| --- | --- | --- | --- |\n{''.join(rows)}" if rows else "No keys.\n"


def _value(value: str) -> str:
    return "`" + value.replace("|", "\\|") + "`" if value else "must be given"


def _cell(text: str) -> str:
    """Text that ends no cell and no line of a table, and is not taken for a tag of HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(page(Sources((PACKAGED,))), end="")
