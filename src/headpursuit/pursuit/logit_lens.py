"""The logit lens on head outputs: the baseline, and one step of matching pursuit on one sample (Head Pursuit, section 3)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def mean_logits(
    mean: Float[Tensor, "h e"], projection: Float[Tensor, "h e d"], rows: Float[Tensor, "c d"]
) -> Float[Tensor, "h c"]:
    """Mean logit over samples that each head gives to each row of the unembedding, shape ``(h, c)``, float32.

    Logits are linear in ``z``, so its mean over samples is enough.
    """
    outputs = torch.einsum("he,hed->hd", mean.float(), projection.float())
    return outputs @ rows.float().T


def frequent_tokens(
    z: Float[Tensor, "n e"],
    projection: Float[Tensor, "e d"],
    unembedding: Float[Tensor, "v d"],
    *,
    n_tokens: int = 5,
    chunk: int = 256,
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Describe one head as the paper's Table 6 does: per sample the tokens of highest logit, then the most frequent of them.

    Args:
        z: activations of the head, shape ``(n, e)``.
        projection: its rows of the output projection, shape ``(e, d)``.
        unembedding: raw rows, shape ``(v, d)``.
        n_tokens: how many tokens are kept a sample, and reported.
        chunk: samples whose ``chunk × v`` logits are in memory at once.

    Returns:
        Token ids and the share of samples that have each among their highest, both ``(n_tokens,)``; of equally frequent
        tokens the lower id comes first.
    """
    lens = projection.float() @ unembedding.float().T
    counts = torch.zeros(unembedding.shape[0], dtype=torch.long, device=z.device)
    n_tokens = min(n_tokens, unembedding.shape[0])
    for part in z.float().split(chunk):
        best = (part @ lens).topk(n_tokens, dim=1).indices
        counts += torch.bincount(best.flatten(), minlength=counts.shape[0])
    order = counts.sort(descending=True, stable=True)
    return order.indices[:n_tokens], order.values[:n_tokens] / z.shape[0]
