"""A recipe that names heads: SOMP over the whole vocabulary, the logit lens beside it, layer by layer."""

from dataclasses import replace
from pathlib import Path

from tqdm.auto import tqdm

from headpursuit.engines import LOCAL, Engine
from headpursuit.evaluation.prepare import Prepared
from headpursuit.evaluation.rankings import FORMAT, depends_on, stored_capture
from headpursuit.files import digest, read_kept, write_sealed
from headpursuit.model.head_model import HeadModel
from headpursuit.model.heads import Head, parse_heads
from headpursuit.ranking.describe import HeadDescription, describe
from headpursuit.ranking.name_dictionary import name_dictionary
from headpursuit.ranking.name_evidence import name_evidence


def describe_heads(
    prepared: Prepared, model: HeadModel, *, out: Path, engine: Engine = LOCAL, seed: int = 0, progress: bool = True
) -> tuple[HeadDescription, ...]:
    """Name the recipe's heads, or all; what was done before in ``out`` is not done again.

    Args:
        prepared: data of a recipe with a ``[describe]`` table.
        model: the model.
        out: where the capture and each layer's descriptions are kept.
        engine: where the capture is made.
        seed: seed of the random turns that names are tested against.
        progress: show progress bars.

    Returns:
        The heads by SOMP, then the same heads by the logit lens.
    """
    spec = prepared.recipe.describe
    assert spec is not None
    samples = prepared.selection["describe"].samples
    folder = out / "captures"
    acts = stored_capture(model, samples, positions=spec.positions, folder=folder, engine=engine, progress=progress)
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
                **({} if spec.dictionary == "all" else {"dictionary": spec.dictionary}),
            }
            path = out / "descriptions" / f"{digest(about)}.json"
            if not path.is_file():
                made = describe(
                    acts,
                    heads=heads,
                    n_atoms=spec.atoms,
                    method=method,
                    dictionary=spec.dictionary,
                    samples=samples,
                    progress=False,
                )
                write_sealed(path, {"format": FORMAT, "about": about, "descriptions": [one.to_dict() for one in made]})
            stored = read_kept(path, format=FORMAT, what="list of descriptions", remedy="delete it and run again")
            named += [HeadDescription.from_dict(one) for one in stored["descriptions"]]
    if spec.significance:  # over all heads together, since the false-discovery rate is
        atoms = name_dictionary(acts, spec.dictionary, samples=samples).atoms
        wanted = [one.head for one in found["somp"]]
        evidence = name_evidence(acts, wanted, atoms, draws=spec.significance, seed=seed, progress=progress)
        found["somp"] = [replace(one, evidence=evidence[one.head]) for one in found["somp"]]
    return (*found["somp"], *found["logit_lens"])
