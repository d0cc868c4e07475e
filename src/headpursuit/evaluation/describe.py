"""A recipe that names heads: SOMP over the whole vocabulary, the logit lens beside it, layer by layer."""

from pathlib import Path

from tqdm.auto import tqdm

from headpursuit.evaluation.prepare import Prepared
from headpursuit.evaluation.rankings import FORMAT, depends_on, stored_capture
from headpursuit.files import digest, read_kept, write_sealed
from headpursuit.model.head_model import HeadModel
from headpursuit.model.heads import Head, parse_heads
from headpursuit.ranking.describe import HeadDescription, describe


def describe_heads(prepared: Prepared, model: HeadModel, *, out: Path, progress: bool = True) -> tuple[HeadDescription, ...]:
    """Name the recipe's heads, or all; what was done before in ``out`` is not done again.

    Args:
        prepared: data of a recipe with a ``[describe]`` table.
        model: the model.
        out: where the capture and each layer's descriptions are kept.
        progress: show progress bars.

    Returns:
        The heads by SOMP, then the same heads by the logit lens.
    """
    spec = prepared.recipe.describe
    assert spec is not None
    samples = prepared.selection["describe"].samples
    acts = stored_capture(model, samples, positions=spec.positions, folder=out / "captures", progress=progress)
    layers: dict[int, list[Head]] = {}
    for head in parse_heads(spec.heads) if spec.heads else acts.heads():
        layers.setdefault(head.layer, []).append(head)
    found: dict[str, list[HeadDescription]] = {"somp": [], "logit_lens": []}
    for heads in tqdm(layers.values(), desc="describe", unit="layer", disable=not progress):
        for method, named in found.items():
            about = {
                **depends_on(model, samples, spec.positions),
                "heads": [head.name for head in heads],
                "atoms": spec.atoms,
                "method": method,
            }
            path = out / "descriptions" / f"{digest(about)}.json"
            if not path.is_file():
                made = describe(acts, heads=heads, n_atoms=spec.atoms, method=method, progress=False)
                write_sealed(path, {"format": FORMAT, "about": about, "descriptions": [one.to_dict() for one in made]})
            stored = read_kept(path, format=FORMAT, what="list of descriptions", remedy="delete it and run again")
            named += [HeadDescription.from_dict(one) for one in stored["descriptions"]]
    return (*found["somp"], *found["logit_lens"])
