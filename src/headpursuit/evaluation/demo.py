"""The demo: six recipes on the embedded model, each with its goals, run one after the other."""

from pathlib import Path
from typing import Any

from headpursuit.errors import HeadPursuitError
from headpursuit.evaluation.evaluate import check_folder, evaluate
from headpursuit.evaluation.results import Results
from headpursuit.model.load import ModelLike, as_model, load

DEMO_RECIPES = (
    "demo-caption-colors",
    "demo-caption-sentiments",
    "demo-caption-quantity",
    "demo-digits",
    "demo-qa-countries",
    "demo-rude",
    "demo-describe",
)


def run_demo(model: ModelLike | None = None, *, out: str | Path | None = None, **options: Any) -> list[Results]:
    """Run the demo's recipes.

    Args:
        model: the demo model, or one of the same tokenizer trained in its place.
        out: folder for a folder of each recipe; a demo that was cut off there goes on.
        **options: options of :func:`headpursuit.evaluate`.

    Raises:
        HeadPursuitError: ``out`` holds something else.
    """
    present = set() if out is None or not Path(out).is_dir() else {path.name for path in Path(out).iterdir()}
    if present and present.isdisjoint(DEMO_RECIPES):
        raise HeadPursuitError(f"{out} is not empty and holds no demo: choose a new folder, or one with an earlier demo")
    folders = {name: None if out is None else Path(out) / name for name in DEMO_RECIPES}
    for name, folder in folders.items():
        if folder is not None:
            check_folder(folder, name)
    loaded = load("demo", device="cpu") if model is None else as_model(model)
    return [evaluate(name, loaded, out=folder, **options) for name, folder in folders.items()]
