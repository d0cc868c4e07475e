"""The atlas of a model: a folder of pages, one a head, made of a capture alone and opened from the disk."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from headpursuit.activations.head_activations import HeadActivations
from headpursuit.activations.moments import HeadMoments, rows_of
from headpursuit.activations.store import ActsLike, as_acts
from headpursuit.concepts import Concept, ConceptLike, as_concept, concept_names
from headpursuit.concepts.vocabulary import atom_ids
from headpursuit.errors import SEEDS, HeadPursuitError, MissingExtraError, check_counts
from headpursuit.exporting.folder import new_folder
from headpursuit.files import digest, expanded, locked, read_kept, read_sealed, write_sealed
from headpursuit.model.samples import Sample, Samples, as_samples
from headpursuit.optional import optional_import
from headpursuit.ranking.describe import Descriptions, HeadDescription, describe
from headpursuit.ranking.examples import check_samples, driving_samples
from headpursuit.ranking.name_dictionary import NameDictionary, name_dictionary
from headpursuit.ranking.name_evidence import NameEvidence, name_evidence
from headpursuit.ranking.rank import rank_resolved
from headpursuit.ranking.ranking import HeadRanking
from headpursuit.ranking.scorer import Scorer
from headpursuit.report.atlas_pages import Facts, write_pages
from headpursuit.versions import versions

FORMAT = 1
# Written last into an atlas, so that its folder is known as one.
MARK = "atlas.json"


def atlas(
    acts: ActsLike,
    *,
    out: str | Path,
    concept: Iterable[ConceptLike] | None = None,
    n_atoms: int = 10,
    dictionary: str = "all",
    fold_norm: bool = False,
    significance: int = 200,
    examples: int = 5,
    samples: Samples | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write a site of all heads of a capture: a map of them as entrance, a page a head, a search by token, a layer a concept.

    It is opened from the disk, asks no server and loads nothing from elsewhere. It appears whole or not at all: one that was
    cut off goes on where it stopped, an earlier atlas gives way once the new one is written.

    Args:
        acts: a capture, or the folder of one.
        out: the folder; made if needed, and no other than an atlas may lie in it.
        concept: word lists with different names, each a layer of the map, ranked by :func:`headpursuit.rank`; all built-in ones
            that the vocabulary knows where left out.
        n_atoms: tokens a head.
        dictionary: which tokens may name a head, see :func:`headpursuit.describe`.
        fold_norm: multiply the unembedding by the gain of the norm before it.
        significance: test every name against so many random turns of what the head writes; 0 for no test.
        examples: so many samples a head at which it writes most of its first token, or against it; none for a capture of
            ``positions="all"``, which keeps no samples.
        samples: the captured samples, whose texts and pictures are shown then; a capture keeps none.
        seed: seed of whatever is drawn.
        progress: show a progress bar.

    Returns:
        The entrance, ``index.html``.

    Raises:
        HeadPursuitError: the folder holds something else, a concept without a token in the vocabulary, other samples than those
            of the capture, or a wrong option.
        MissingExtraError: jinja2 is not installed, scipy (``significance``), or the library of a built-in concept.

    Examples:
        >>> made = hp.atlas(acts, out=tmp_path / "atlas", concept=["colours", "numbers"], samples=samples, progress=False)
        >>> made.name, len(list((made.parent / "heads").iterdir()))
        ('index.html', 120)
    """
    check_counts(n_atoms=n_atoms)
    check_counts(0, significance=significance, examples=examples)
    check_counts(*SEEDS, seed=seed)
    optional_import("jinja2", extra="report", purpose="an atlas")
    if significance:
        optional_import("scipy.stats", extra="stats", purpose="the significance of names")
    out = expanded(out)
    check_atlas_folder(out)
    acts = as_acts(acts)
    given = [] if samples is None else as_samples(samples)
    if given:
        check_samples(acts, given)
    scorer = Scorer(acts, fold_norm=fold_norm, progress=False)
    lists = _concepts(scorer, concept)
    about = {
        "versions": versions(),
        "model": dict(acts.model),
        "capture": {**acts.about, "positions": acts.positions, "n": acts.n},
        "n_atoms": n_atoms,
        "dictionary": dictionary,
        "fold_norm": fold_norm,
        "significance": significance,
        "examples": examples if acts.rows is not None else 0,
        "texts": bool(given),
        "seed": seed,
    }
    whole = {**about, "concepts": {one.name: list(one.words) for one in lists}}
    with locked(out, beside=True):
        if not _is_made(out, whole):
            work = out.resolve().with_name(f".{out.resolve().name}.parts")
            parts = _Parts(work, about, bar=tqdm(desc="atlas", unit="part", disable=not progress, leave=False))
            named = name_dictionary(acts, dictionary, samples=given, fold_norm=fold_norm)
            parts.bar.total = len(acts.layers) + bool(significance) + len(lists)
            with parts.bar:
                described = _described(acts, named, given, parts, about)
                rankings = [_ranked(scorer, one, parts, seed) for one in lists]
            facts = Facts(described, tuple(rankings), acts.model, acts.n, acts.positions, acts.about, seed, tuple(given))
            with new_folder(out) as draft:
                write_pages(draft, facts, progress=progress)
                write_sealed(draft / MARK, {"format": FORMAT, "about": whole})
                _give_way(out)
            for old in (work, _old(out)):
                shutil.rmtree(old, ignore_errors=True)
    return out / "index.html"


def check_atlas_folder(out: Path) -> None:
    """Check that an atlas may be written there.

    Raises:
        HeadPursuitError: it is a file, or a folder that holds something else.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file())):
        raise HeadPursuitError(f"{out} is not empty and holds no atlas: choose a new folder, or delete this one")


@dataclass(frozen=True)
class _Parts:
    """Parts of an atlas that lie beside it until it is whole, each under the digest of what it depends on."""

    folder: Path
    about: Mapping[str, Any]
    bar: Any

    def part(self, about: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """A part in plain values: made, or read where it was made before."""
        about = {**self.about, **about}
        path = self.folder / f"{digest(about)}.json"
        if not path.is_file():
            write_sealed(path, {"format": FORMAT, "about": about, "made": make()}, indent=None)
        self.bar.update()
        return read_kept(path, format=FORMAT, what="part of an atlas", remedy="delete it and run again")["made"]


def _concepts(scorer: Scorer, given: Iterable[ConceptLike] | None) -> list[Concept]:
    """The concepts that are asked for; of the built-in ones those that the vocabulary has a token for."""
    if given is not None:
        lists = [as_concept(one) for one in ([given] if isinstance(given, str | Path | Concept) else given)]
        if len({one.name for one in lists}) < len(lists):
            raise HeadPursuitError(f"concepts {', '.join(one.name for one in lists)}: give each a name of its own")
        for one in lists:
            scorer.resolved(one)
        return lists
    lists = []
    for name in concept_names():
        try:
            scorer.resolved(built_in := as_concept(name))
        except MissingExtraError:
            raise
        except HeadPursuitError:  # the vocabulary has none of its words
            continue
        lists.append(built_in)
    return lists


def _described(
    acts: HeadActivations | HeadMoments, named: NameDictionary, samples: list[Sample], parts: _Parts, about: Mapping[str, Any]
) -> Descriptions:
    """All heads with their tokens, the samples that drive them, and what chance gives."""
    row_of = {token: row for row, token in enumerate(atom_ids(named.atoms))}

    def driven(one: HeadDescription) -> HeadDescription:
        if not (about["examples"] and one.token_ids):
            return one
        rows, atom = rows_of(acts, what="driving samples"), named.atoms.atoms[row_of[one.token_ids[0]]]
        found = driving_samples(rows, one.head, atom, samples, count=about["examples"])
        return replace(one, examples=found)

    def layer(index: int) -> list[dict[str, Any]]:
        heads = [head for head in acts.heads() if head.layer == index]
        made = describe(acts, heads=heads, n_atoms=about["n_atoms"], dictionary=named.atoms, progress=False)
        return [driven(one).to_dict() for one in made]

    found = [
        HeadDescription.from_dict(one) for index in acts.layers for one in parts.part({"layer": index}, partial(layer, index))
    ]
    if about["significance"]:
        heads = [one.head for one in found]

        def evidence() -> list[dict[str, Any]]:
            options = {"draws": about["significance"], "seed": about["seed"], "progress": False}
            tested = name_evidence(acts, heads, named.atoms, **options)
            return [replace(one, evidence=tested[one.head]).to_dict()["evidence"] for one in found]

        tested = parts.part({"evidence": True}, evidence)
        told = [NameEvidence(**{**one, "tokens": tuple(one["tokens"])}) for one in tested]
        found = [replace(one, evidence=evidence) for one, evidence in zip(found, told, strict=True)]
    return Descriptions(tuple(found), named.unused_rows, named.reserved_rows, named.name, len(named.atoms))


def _ranked(scorer: Scorer, concept: Concept, parts: _Parts, seed: int) -> HeadRanking:
    def ranking() -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that chance does as well is said on the map
            return rank_resolved(scorer, scorer.resolved(concept), seed=seed)[0].to_dict()

    return HeadRanking.from_dict(parts.part({"concept": concept.name, "words": list(concept.words)}, ranking))


def _is_made(out: Path, about: Mapping[str, Any]) -> bool:
    """Whether the folder holds just this atlas."""
    if not (out / MARK).is_file():
        return False
    stored = read_sealed(out / MARK, format=FORMAT, what="atlas", remedy="delete the folder and make it anew")
    return digest(stored["about"]) == digest(about)


def _old(out: Path) -> Path:
    return out.resolve().with_name(f".{out.resolve().name}.old")


def _give_way(out: Path) -> None:
    """Put an earlier atlas aside, in one step."""
    if (out / MARK).is_file():
        shutil.rmtree(_old(out), ignore_errors=True)
        out.replace(_old(out))
