"""Run a recipe that names heads: SOMP over the whole vocabulary, the logit lens beside it, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from headpursuit.evaluation.cell_files import digest, write_whole
from headpursuit.evaluation.rankings import origin, stored_capture
from headpursuit.evaluation.results import Results
from headpursuit.model.heads import Head, parse_heads
from headpursuit.ranking.describe import describe
from headpursuit.versions import versions

if TYPE_CHECKING:
    from headpursuit.evaluation.prepare import Material
    from headpursuit.model.head_model import HeadModel

_METHODS = ("somp", "logit-lens")


def describe_heads(material: Material, model: HeadModel, *, out: Path, progress: bool = True) -> Results:
    """Name the recipe's heads, or all; what was done before in ``out`` is not done again.

    Args:
        material: of a recipe with a ``[describe]`` table.
        model: the model.
        out: where the capture and each layer's descriptions are kept.
        progress: show progress bars with the time that is left.

    Returns:
        No rows, but ``about["described"]``: for each head its SOMP tokens with the share of variance that they explain, and
        the logit lens's tokens with the share of samples that have them.
    """
    spec = material.recipe.describe
    assert spec is not None
    samples = material.selection["describe"].samples
    acts = stored_capture(model, samples, positions=spec.positions, folder=out / "captures", progress=progress)
    wanted = parse_heads(spec.heads) if spec.heads else acts.heads()
    layers: dict[int, list[Head]] = {}
    for head in wanted:
        layers.setdefault(head.layer, []).append(head)
    found: dict[str, dict[str, Any]] = {}
    for heads in tqdm(layers.values(), desc="describe", unit="layer", disable=not progress):
        names = [head.name for head in heads]
        about = {**origin(model, samples, spec.positions), "heads": names, "atoms": spec.atoms}
        path = out / "descriptions" / f"{digest(about)}.json"
        if not path.is_file():
            named = {
                method: describe(acts, heads=heads, n_atoms=spec.atoms, method=method, progress=False)  # type: ignore[arg-type]
                for method in _METHODS
            }
            lines = [_line(one.to_dict(), lens.to_dict()) for one, lens in zip(*named.values(), strict=True)]
            write_whole(path, json.dumps(lines, ensure_ascii=False))
        found.update({line["name"]: line for line in json.loads(path.read_text(encoding="utf-8"))})
    return Results(
        recipe=material.recipe.name,
        model=model.identity,
        versions=versions(),
        rows=(),
        about={
            "recipe": material.recipe.model_dump(),
            "data": material.about,
            "described": [found[head.name] for head in wanted],
        },
    )


def _line(somp: dict[str, Any], lens: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": somp["name"],
        "tokens": somp["tokens"],
        "explained_variance": somp["explained_variance"][-1],
        "lens_tokens": lens["tokens"],
        "lens_frequency": lens["frequency"],
        "n": somp["n"],
    }
