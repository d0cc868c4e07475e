"""Results on disk: everything a result can be shown as, written into a folder, and results read back from one."""

from pathlib import Path

from headpursuit.drawing import save_figure
from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.demo import DEMO_RECIPES
from headpursuit.evaluation.results import RESULTS, Results
from headpursuit.files import locked, write_text
from headpursuit.report.figures import figures
from headpursuit.report.page import page
from headpursuit.report.tables import Reportable, tables
from headpursuit.tuning.tune import TUNED, Tuned


def write_report(what: Reportable, folder: str | Path) -> list[Path]:
    """Write ``report.html``, ``tables.md``, ``tables.tex``, ``tables/NN.csv``, and ``figures/`` as SVG and PNG.

    Args:
        what: an evaluation, several, a tuned edit, or a ranking.
        folder: where; made if needed.

    Returns:
        The paths written.

    Raises:
        HeadPursuitError: a file cannot be written, or another process writes into the folder.
        MissingExtraError: matplotlib or jinja2 is not installed.

    >>> paths = write_report(hp.rank(acts, hp.concept("colours")), tmp_path)
    >>> sorted(path.name for path in paths)
    ['01.csv', 'colours-map.png', 'colours-map.svg', 'report.html', 'tables.md', 'tables.tex']
    """
    folder = Path(folder)
    found = tables(what)
    texts = {
        "tables.md": "\n".join(table.to_markdown() for table in found),
        "tables.tex": "\n".join(table.to_latex() for table in found),
        **{f"tables/{number:02d}.csv": table.to_csv() for number, table in enumerate(found, start=1)},
    }
    with locked(folder):
        written = [write_text(folder / name, text) for name, text in texts.items()]
        for name, figure in figures(what).items():
            written += [save_figure(figure, folder / "figures" / f"{name}.{kind}") for kind in ("svg", "png")]
        return [*written, page(what, folder / "report.html")]


def load(folder: str | Path) -> Results | list[Results] | Tuned:
    """Read what an evaluation, a tuning, or several evaluations side by side left in a folder; those of the demo in its order.

    Raises:
        HeadPursuitError: the folder holds none of them, or some that cannot be read.
    """
    folder = Path(folder)
    if (folder / TUNED).is_file():
        return Tuned.load(folder)
    if (folder / RESULTS).is_file():
        return Results.load(folder)
    if not folder.is_dir():
        raise HeadPursuitError(f"there is no folder {folder}: give one that `headpursuit evaluate`, `tune` or `demo` wrote")
    order = {name: number for number, name in enumerate(DEMO_RECIPES)}
    folders = sorted(path.parent for path in folder.glob(f"*/{RESULTS}"))
    found = [Results.load(one) for one in sorted(folders, key=lambda one: order.get(one.name, len(order)))]
    if not found:
        raise HeadPursuitError(
            f"{folder} holds no {RESULTS}: give a folder that `headpursuit evaluate`, `tune` or `demo` wrote"
        )
    return found
