"""The public pursuits: one signal, all heads of a layer, many dictionaries at once, or second moments."""

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from headpursuit.errors import HeadPursuitError
from headpursuit.pursuit.batches import Found, Options, Signals, pursue_dictionary, pursue_lists
from headpursuit.pursuit.checks import CONSTANT, Criterion, check_finite, check_options, describe_early_stop, no_variance
from headpursuit.pursuit.dictionary import Dictionary, rows_of
from headpursuit.pursuit.results import EarlyStopWarning, HeadPursuits, Pursuit
from headpursuit.pursuit.signal import HeadSignal


def somp(
    signal: Float[Tensor, "n d"] | HeadSignal,
    atoms: Float[Tensor, "v d"] | Dictionary,
    *,
    n_atoms: int = 50,
    criterion: Criterion = "l1",
    center: bool = True,
    normalize: bool = True,
) -> Pursuit:
    """`somp_literal`'s answer, fast. Arguments, result, warnings and errors are the same.

    A plain signal ``(n, d)`` is treated as one head whose width is its rank (at most ``n``, at most ``d``).

    >>> signal = hp.pursuit.HeadSignal(acts.z[2][:, 2], acts.weights.projection(2)[2])  # L2.H2
    >>> found = hp.pursuit.somp(signal, acts.weights.unembedding(), n_atoms=3)
    >>> [acts.tokenizer.decode([row]) for row in found.support]
    [' stars', ' squares', ' rings']
    >>> [round(share, 2) for share in found.explained_variance.tolist()]
    [0.11, 0.4, 0.55]
    """
    if not isinstance(signal, HeadSignal):
        signal = _factored(signal, center=center)
        center = False
    found = somp_heads(
        signal.z[:, None],
        signal.projection[None],
        atoms,
        n_atoms=n_atoms,
        criterion=criterion,
        center=center,
        normalize=normalize,
    )
    return found.head(0)


def somp_heads(
    z: Float[Tensor, "n h e"],
    projection: Float[Tensor, "h e d"],
    atoms: Float[Tensor, "v d"] | Dictionary,
    *,
    n_atoms: int = 50,
    criterion: Criterion = "l1",
    center: bool = True,
    normalize: bool = True,
) -> HeadPursuits:
    """Pursue many heads at once, each as `somp` would: those of a layer, or of all layers of one shape.

    Args:
        z: head activations, one row per sample.
        projection: each head's rows of the output projection.
        atoms: the dictionary; a `Dictionary` is prepared for screening once, a tensor at every call.
        n_atoms: how many steps to take.
        criterion: ``"l1"`` (the paper's) or ``"l2"``.
        center: subtract each head's mean over samples first.
        normalize: give every atom unit length first.

    Returns:
        Support and cumulative explained variance, ``(h, k)`` each. A head that stops early is padded, a head without
        variance explains nothing; one `EarlyStopWarning` tells how many did.

    Raises:
        HeadPursuitError: shapes, devices or options that do not fit, NaN or infinite entries, no variance in any head.

    Notes:
        Exact by the argument of ``docs/pursuit.md``; ties within 1e-6 of each other apart, where float64 itself may order
        them differently.

    >>> support, explained = hp.pursuit.somp_heads(
    ...     acts.z[3], acts.weights.projection(3), acts.weights.unembedding(), n_atoms=3
    ... )
    >>> [acts.tokenizer.decode([row]) for row in support[11]]
    [' blue', ' pink', ' golden']
    >>> explained.shape
    torch.Size([20, 3])
    """
    D = rows_of(atoms)
    _check(z, projection, D, n_atoms=n_atoms, criterion=criterion)
    options = Options(n_atoms, criterion, center, normalize)
    found = pursue_dictionary(Signals(rows=z), projection, atoms, options)
    _report(found, samples=len(z), atoms=len(D))
    return HeadPursuits(found.support[0], found.explained_variance[0])


def somp_many(
    z: Float[Tensor, "n h e"],
    projection: Float[Tensor, "h e d"],
    atoms: Float[Tensor, "v d"] | Dictionary,
    dictionaries: Sequence[Sequence[int] | Int64[Tensor, " r"]],
    *,
    n_atoms: int = 50,
    criterion: Criterion = "l1",
    center: bool = True,
    normalize: bool = True,
) -> HeadPursuits:
    """Pursue many heads over many small dictionaries in one pass: several concepts, or a null distribution.

    Args:
        z: head activations, one row per sample.
        projection: each head's rows of the output projection.
        atoms: what the dictionaries are drawn from.
        dictionaries: rows of `atoms`, one list a dictionary; they may differ in length and overlap.
        n_atoms: how many steps to take; a shorter dictionary ends earlier.
        criterion: ``"l1"`` (the paper's) or ``"l2"``.
        center: subtract each head's mean over samples first.
        normalize: give every atom unit length first.

    Returns:
        Support (rows of `atoms`) and cumulative explained variance, ``(g, h, k)`` each for ``g`` dictionaries, padded
        as in `somp_heads`. A dictionary gives the same numbers alone and among others, up to rounding.

    Raises:
        HeadPursuitError: as `somp_heads`, and for a dictionary that is empty or names a row that does not exist.

    >>> found = hp.pursuit.somp_many(
    ...     acts.z[1], acts.weights.projection(1), acts.weights.unembedding(), [[5, 6, 7, 8], [90, 91, 92]], n_atoms=3
    ... )
    >>> found.explained_variance.shape  # dictionaries, heads, steps
    torch.Size([2, 20, 3])
    """
    D = rows_of(atoms)
    _check(z, projection, D, n_atoms=n_atoms, criterion=criterion)
    options = Options(n_atoms, criterion, center, normalize)
    index = _index_of(dictionaries, D)
    found = pursue_lists(Signals(rows=z), projection, D, index, options)
    _report(found, samples=len(z), atoms=index.shape[1])
    return HeadPursuits(found.support, found.explained_variance)


def somp_moments(
    second_moment: Float[Tensor, "h e e"],
    projection: Float[Tensor, "h e d"],
    atoms: Float[Tensor, "v d"] | Dictionary,
    *,
    n_atoms: int = 50,
    normalize: bool = True,
) -> HeadPursuits:
    """Pursue heads that are known by their second moments alone, with the L2 criterion.

    Args:
        second_moment: ``zᵀz`` of each head's rows, centred if variances are to be explained; a factor on it (one over the
            number of rows, say) changes nothing.
        projection: each head's rows of the output projection.
        atoms: the dictionary.
        n_atoms: how many steps to take.
        normalize: give every atom unit length first.

    Returns:
        What ``somp_heads(z, …, criterion="l2")`` returns for the rows that the moments were made of: ``‖R d‖² = dᵀ RᵀR d``
        needs no rows.

    Raises:
        HeadPursuitError: as `somp_heads`, and for moments that are not square.

    >>> moments = hp.capture(model, samples, positions="all", progress=False)
    >>> found = hp.pursuit.somp_moments(
    ...     moments.centered(1), moments.weights.projection(1), moments.weights.unembedding(), n_atoms=3
    ... )
    >>> found.explained_variance.shape
    torch.Size([20, 3])
    """
    D = rows_of(atoms)
    _check_moments(second_moment, projection, D, n_atoms=n_atoms)
    options = Options(n_atoms, "l2", False, normalize)
    found = pursue_dictionary(Signals(moments=second_moment), projection, atoms, options)
    _report(found, samples=None, atoms=len(D))
    return HeadPursuits(found.support[0], found.explained_variance[0])


def somp_many_moments(
    second_moment: Float[Tensor, "h e e"],
    projection: Float[Tensor, "h e d"],
    atoms: Float[Tensor, "v d"] | Dictionary,
    dictionaries: Sequence[Sequence[int] | Int64[Tensor, " r"]],
    *,
    n_atoms: int = 50,
    normalize: bool = True,
) -> HeadPursuits:
    """`somp_many` for heads that are known by their second moments, with the L2 criterion.

    Arguments, result and errors are those of `somp_moments` and `somp_many`.
    """
    D = rows_of(atoms)
    _check_moments(second_moment, projection, D, n_atoms=n_atoms)
    options = Options(n_atoms, "l2", False, normalize)
    index = _index_of(dictionaries, D)
    found = pursue_lists(Signals(moments=second_moment), projection, D, index, options)
    _report(found, samples=None, atoms=index.shape[1])
    return HeadPursuits(found.support, found.explained_variance)


def _index_of(dictionaries: Sequence[Sequence[int] | Int64[Tensor, " r"]], D: Float[Tensor, "v d"]) -> Int64[Tensor, "g r"]:
    """Rows of every dictionary, padded by -1."""
    lists = [torch.as_tensor(rows, dtype=torch.int64, device=D.device).reshape(-1) for rows in dictionaries]
    for i, rows in enumerate(lists):
        if not len(rows) or int(rows.min()) < 0 or int(rows.max()) >= len(D):
            raise HeadPursuitError(f"dictionary {i} of {len(lists)} is empty or names a row outside 0..{len(D) - 1}")
    if not lists:
        raise HeadPursuitError("a pursuit over many dictionaries needs at least one")
    return torch.nn.utils.rnn.pad_sequence(lists, batch_first=True, padding_value=-1)


def _check_moments(
    second_moment: Float[Tensor, "h e e"], projection: Float[Tensor, "h e d"], D: Float[Tensor, "v d"], *, n_atoms: int
) -> None:
    if second_moment.ndim != 3 or second_moment.shape[1] != second_moment.shape[2]:
        raise HeadPursuitError(f"second moments are square, (h, e, e); got {tuple(second_moment.shape)}")
    _check(second_moment.transpose(0, 1), projection, D, n_atoms=n_atoms, criterion="l2")


def _factored(signal: Float[Tensor, "n d"], *, center: bool) -> HeadSignal:
    """A dense signal as a head of the smaller width, its rows or its columns being the identity."""
    if signal.ndim != 2 or 0 in signal.shape:
        raise HeadPursuitError(f"a signal is (n, d) and not empty, got {tuple(signal.shape)}")
    check_finite("the signal", signal)
    H = signal.double()
    scale = torch.linalg.vector_norm(H)
    if center:
        H = H - H.mean(dim=0)
    if torch.linalg.vector_norm(H) <= CONSTANT * torch.finfo(torch.float64).eps * scale:
        raise HeadPursuitError(no_variance(len(H)))
    n, d = H.shape
    if n <= d:
        return HeadSignal(torch.eye(n, dtype=H.dtype, device=H.device), H)
    return HeadSignal(H, torch.eye(d, dtype=H.dtype, device=H.device))


def _check(
    z: Float[Tensor, "n h e"], projection: Float[Tensor, "h e d"], D: Float[Tensor, "v d"], *, n_atoms: int, criterion: str
) -> None:
    check_options(n_atoms=n_atoms, criterion=criterion)
    fits = z.ndim == 3 and projection.ndim == 3 and D.ndim == 2
    if not fits or z.shape[1:] != projection.shape[:2] or projection.shape[2] != D.shape[1]:
        raise HeadPursuitError(
            "a pursuit of heads needs z (n, h, e), projection (h, e, d) and atoms (v, d); got "
            f"{tuple(z.shape)}, {tuple(projection.shape)} and {tuple(D.shape)}"
        )
    if 0 in (*z.shape, *projection.shape, *D.shape):
        raise HeadPursuitError("a pursuit needs at least one sample, one head and one atom")
    devices = {tensor.device for tensor in (z, projection, D)}
    if len(devices) > 1:
        raise HeadPursuitError(f"activations, projection and atoms lie on {len(devices)} devices: move them to one")
    check_finite("the head activations", z)
    check_finite("the output projection", projection)
    check_finite("the dictionary", D)


def _report(found: Found, *, samples: int | None, atoms: int) -> None:
    """Raise or warn, once, about what was not found."""
    heads = found.support.shape[1]
    silent = found.silent.nonzero()[:, 0].tolist()
    if len(silent) == heads:
        raise HeadPursuitError(no_variance(samples))
    asked = found.support.shape[2]
    taken = (found.support >= 0).sum(dim=2)
    short = (taken < asked) & ~found.silent
    if not bool(short.any()) and not silent:
        return
    if heads == 1:
        text = describe_early_stop(int(taken.min()), asked, atoms)
    else:
        text = f"{int(short.sum())} of {taken.numel()} pursuits stopped before {asked} steps: no atom was left for them"
        if silent:
            text += f"; no variance over samples in head(s) {', '.join(map(str, silent))}"
    warnings.warn(text, EarlyStopWarning, stacklevel=3)
