"""Small dictionaries on a CPU, compiled: a head at a time, with all that it needs in a core's cache.

A concept has so few atoms that a head's correlations ``C = D H`` (``v × n``) stay in the cache from the first step to the
last. Choosing ``q`` with ``s = H q`` makes ``C − (D q) sᵀ`` of them: two operations a number, where scoring an atom anew
costs ``e`` of them. Torch has no such fused loop, numba makes one (:mod:`headpursuit.pursuit.compiled_loop`, the extra
``fast``); without numba, and on a GPU, :mod:`headpursuit.pursuit.screened` gives the same answers.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Barrier, Lock

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from headpursuit.pursuit.bounds import accumulation
from headpursuit.pursuit.checks import EXHAUSTED
from headpursuit.pursuit.whitening import is_silent

# Bytes of correlations that are worth keeping; where there are more, it pays to look at fewer of them.
_KEPT = 2**26

# Held while torch's number of threads, which is the process's, is another than the caller's.
_SETTING = Lock()


def serves(z: Float[Tensor, "n h e"], atoms: int, *, criterion: str) -> bool:
    """Tell whether dictionaries of so many atoms are pursued here."""
    small = 4 * len(z) * atoms <= _KEPT
    return small and criterion == "l1" and z.device.type == "cpu" and find_spec("numba") is not None


def pursue_compiled(
    z: Float[Tensor, "n h e"],
    projection: Float[Tensor, "h e d"],
    unit: Float64[Tensor, "u d"],
    gram: Float64[Tensor, "g r r"],
    lists: Int64[Tensor, "g r"],
    *,
    n_atoms: int,
    center: bool,
    gains: Float64[Tensor, " u"] | None,
) -> tuple[Int64[Tensor, "g h k"], Float64[Tensor, "g h k"], Bool[Tensor, " h"]]:
    """Run `n_atoms` steps for every head and dictionary, by the L1 criterion.

    Args:
        z: the heads' rows.
        projection: the heads' rows of the output projection.
        unit: atoms of unit length.
        gram: inner products of each dictionary's atoms; zero for padding.
        lists: which of the atoms each dictionary has; -1 for padding.
        n_atoms: steps at most.
        center: subtract each head's mean over samples first.
        gains: factors on the scores of atoms that are not to count as unit atoms.

    Returns:
        Support (indices into the lists), cumulative explained variance, and which heads do not vary. A problem that ends
        early is padded by -1 and its last value.
    """
    # Compiled when it is first imported and called, which takes seconds once a machine.
    from headpursuit.pursuit.compiled_loop import pursue_correlations

    g, h = len(lists), z.shape[1]
    support = torch.full((g, h, n_atoms), -1)
    explained = torch.zeros(g, h, n_atoms, dtype=torch.float64)
    silent = torch.zeros(h, dtype=torch.bool)
    real = (lists >= 0).double()
    factors = real if gains is None else gains[lists] * real
    n, _, e = z.shape
    # Rounding of rows, images and their product, by Cauchy-Schwarz: this times ``‖W d‖ Σ ‖z_i‖`` bounds a score's error.
    rounding = accumulation(e + 4, z.device)

    @torch.no_grad()
    def pursue_head(head: int) -> None:
        rows = z[:, head].to(torch.promote_types(z.dtype, torch.float32)).contiguous()
        W = projection[head]
        mean = rows.mean(dim=0, dtype=torch.float64) if center else torch.zeros(e, dtype=torch.float64)
        short = (rows - mean).float()
        # Squares of very small numbers would leave float32's range.
        top = short.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
        scaled = short / top
        width = W.float() @ W.float().T
        squares = (scaled @ width).mul_(scaled).sum(dim=1).clamp_min_(0).double() * top.double().square()
        energy = squares.sum()
        silent[head] = is_silent(energy, energy + n * (mean @ width.double() @ mean))
        if silent[head]:
            return
        images = unit @ W.double().T
        floor = EXHAUSTED * squares.sqrt().sum()
        doubt = rounding * torch.linalg.vector_norm(short, dim=1).sum(dtype=torch.float64)
        for which, rows_of_list in enumerate(lists):
            atoms = images[rows_of_list]
            pursue_correlations(
                (atoms.float() @ short.T).numpy(),
                rows.numpy(),
                mean.numpy(),
                atoms.numpy(),
                gram[which].numpy(),
                factors[which].numpy(),
                (doubt * torch.linalg.vector_norm(atoms, dim=1)).numpy(),
                float(floor * factors[which].max()),
                support[which, head].numpy(),
                explained[which, head].numpy(),
            )
        explained[:, head] /= energy

    with _single_threaded_workers() as pool:
        list(pool.map(pursue_head, range(h)))
    return support, explained, silent


@contextmanager
def _single_threaded_workers() -> Iterator[ThreadPoolExecutor]:
    """As many workers as torch has threads, in each of which torch computes with one.

    `torch.set_num_threads` sets the number for the thread that calls it and for all threads that start later, so it is set
    back before any work begins.
    """
    with _SETTING:
        threads = torch.get_num_threads()
        pool, started = ThreadPoolExecutor(threads), Barrier(threads)

        def compute_alone(_: int) -> None:
            torch.get_num_threads()  # the first look at it in a thread takes over the process's number
            torch.set_num_threads(1)
            started.wait()  # or one worker might do this for another

        try:
            list(pool.map(compute_alone, range(threads)))
        finally:
            torch.set_num_threads(threads)
    with pool:
        yield pool
