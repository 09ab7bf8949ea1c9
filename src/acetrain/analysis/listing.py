"""The modules with the highest scores, as a table for a terminal."""

from rich.console import Console
from rich.table import Table

from acetrain.analysis.report import Module, Report, significant

SHOWN = 15


def show(report: Report) -> None:
    """Print the first modules by score, and how many scores are above 0 beyond doubt."""
    ranked = report.ranked()
    table = Table(title=f"modules by score, the first {min(SHOWN, len(ranked))} of {len(ranked)}", title_justify="left")
    for column in ("module", "shape", "score", "95 % interval", "largest singular values", "ranks", "by Fisher"):
        table.add_column(column, justify="left" if column == "module" else "right", no_wrap=True)
    fisher = sorted(report.modules, key=lambda module: -module.baselines["fisher"])
    for module in ranked[:SHOWN]:
        table.add_row(*_cells(module), str(fisher.index(module) + 1))
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)
    if report.interval_over == "draws":
        print("intervals are over draws of noise of these songs, and say nothing of others")
    if ranked and ranked[0].interval is None:
        print("no intervals: draws=2 or more gives them")
        return
    sure = sum(map(significant, ranked))
    print(f"{sure} of {len(ranked)} scores are above 0 with their 95 % interval")


def ranks(spectrum: tuple[float, ...]) -> int:
    """Singular values that the other half confirms: those before the first that is not above 0."""
    return next((place for place, value in enumerate(spectrum) if value <= 0), len(spectrum))


def _cells(module: Module) -> list[str]:
    interval = "-" if module.interval is None else f"{module.interval[0]:.3g} to {module.interval[1]:.3g}"
    values = " ".join(f"{value:.2g}" for value in module.spectrum[:3])
    shape = f"{module.shape[0]} x {module.shape[1]}"
    return [module.name, shape, f"{module.score:.3g}", interval, values, str(ranks(module.spectrum))]
