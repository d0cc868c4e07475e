"""Heads of a heads file, checked against the model that they are meant for; apart from ``ranking.py``, which needs no torch."""

from pathlib import Path

from headpursuit.model.heads import Head
from headpursuit.model.identity import require_same_model
from headpursuit.model.load import ModelLike, as_model
from headpursuit.ranking.ranking import read_heads


def load_heads(path: str | Path, *, model: ModelLike) -> tuple[Head, ...]:
    """Read the list of heads that a heads file holds, best first.

    Args:
        path: a file that :meth:`headpursuit.HeadRanking.save` or ``headpursuit rank --out`` wrote.
        model: the model that they are meant for, or what :func:`headpursuit.load` takes.

    Raises:
        HeadPursuitError: the file cannot be read, or its heads are another model's, or of another part than it was loaded as.

    Examples:
        >>> path = hp.rank(acts, ["red", "green", "blue"], progress=False).save(tmp_path / "heads.json", top=4)
        >>> len(hp.load_heads(path, model=model))
        4
    """
    stored, model = read_heads(path), as_model(model)
    require_same_model(path, stored.model, model.identity)
    model.anatomy.require(stored.heads)
    return stored.heads
