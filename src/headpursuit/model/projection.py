"""The output projection, cut into one block of rows a head."""

import warnings
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

_PROBE_ROWS = 256


def input_width(projection: Any) -> int | None:
    """Width of what enters a linear map (``nn.Linear`` or GPT-2's ``Conv1D``), or None for another module."""
    if hasattr(projection, "in_features"):
        return int(projection.in_features)
    return int(projection.nx) if hasattr(projection, "nx") else None


def output_width(projection: Any) -> int | None:
    """Width of what leaves a linear map, or None for another module."""
    if hasattr(projection, "out_features"):
        return int(projection.out_features)
    return int(projection.nf) if hasattr(projection, "nf") else None


def stores_input_first(projection: nn.Module) -> bool:
    """Whether the weight is ``(in, out)``, as in GPT-2's ``Conv1D``, and not ``(out, in)``, as in ``nn.Linear``."""
    return hasattr(projection, "nx")


def split_heads(weight: Float[Tensor, "a b"], *, n_heads: int, input_first: bool) -> Float[Tensor, "h e d"]:
    """Cut an output projection's weight into heads, ``W_h`` of Head Pursuit, section 3.

    Args:
        weight: ``(d, h·e)`` as ``nn.Linear`` stores it, or ``(h·e, d)`` as GPT-2's ``Conv1D`` does.
        n_heads: number of heads ``h``.
        input_first: which of the two.

    Returns:
        A view in the weight's own dtype, shape ``(h, e, d)``.
    """
    rows = weight if input_first else weight.T
    return rows.unflatten(0, (n_heads, rows.shape[0] // n_heads))


def weight_of(module: nn.Module) -> Tensor:
    """The weight of a linear map or an embedding, detached.

    Where the weight is packed or adapted (int8, LoRA, offloaded to disk), the map that the module computes is measured.
    """
    return cast("Tensor", module.weight).detach() if _is_plain(module) else _probed(module)


def module_heads(projection: nn.Module, n_heads: int) -> Float[Tensor, "h e d"]:
    """``W_h`` of a loaded output projection, in float32, shape ``(h, e, d)``."""
    return split_heads(weight_of(projection), n_heads=n_heads, input_first=stores_input_first(projection)).float()


def head_outputs_sum(projection: nn.Module, z: Float[Tensor, "... he"], n_heads: int) -> Float[Tensor, "... d"]:
    """Σ_h z_h W_h + bias, head by head in float64, shape ``(..., d)``."""
    heads = module_heads(projection, n_heads).double()
    outputs = torch.einsum("...he,hed->...hd", z.double().unflatten(-1, heads.shape[:2]), heads)
    return outputs.sum(dim=-2) + _bias_of(projection).double()


def is_packed(module: nn.Module) -> bool:
    """Whether weights of a module are stored as integers, and are multiplied in whatever precision its library chooses."""
    return any(not one.is_floating_point() for one in (*module.parameters(), *module.buffers()))


def without_derivatives(model: nn.Module, *, like: Tensor) -> nn.Module | None:
    """A module of packed weights through which derivatives do not come back as they should; None where there is none.

    Some kernels have no way back, and some let zeros through. One module of each class is tried: of ``y = M x`` the derivative
    ``Mᵀ y`` must have ``⟨Mᵀ y, x⟩ = ‖y‖²``.

    Args:
        model: the model.
        like: whose device and dtype modules are tried with.
    """
    found: dict[type[nn.Module], nn.Module] = {}
    for module in model.modules():
        own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if input_width(module) and any(not one.is_floating_point() for one in own):
            found.setdefault(type(module), module)
    return next((one for one in found.values() if not _passes_derivatives(one, like=like)), None)


def _passes_derivatives(module: nn.Module, *, like: Tensor) -> bool:
    x = torch.linspace(-1, 1, 2 * cast("int", input_width(module))).view(1, 2, -1).to(like.device, like.dtype)
    x.requires_grad_()
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel has no derivative
        try:
            written = module(x)
            y = written.detach() - module(torch.zeros_like(x)).detach()
            (back,) = torch.autograd.grad(written, x, y, allow_unused=True, materialize_grads=True)
        except (RuntimeError, NotImplementedError):
            return False
    length = y.double().square().sum()
    return bool(((back.double() * x.double()).sum() - length).abs() <= 0.1 * length)


def _is_plain(module: nn.Module) -> bool:
    weight: Any = getattr(module, "weight", None)
    if type(weight) not in (torch.Tensor, nn.Parameter) or not weight.is_floating_point() or weight.is_meta:
        return False  # packed, quantised (a tensor of another class), or offloaded
    return isinstance(module, nn.Embedding) or stores_input_first(module) or type(module).forward is nn.Linear.forward


def _bias_of(module: nn.Module) -> Tensor:
    if not _is_plain(module):
        return _apply(module, torch.zeros(1, cast("int", input_width(module))))[0]
    bias = cast("Tensor | None", getattr(module, "bias", None))
    return torch.zeros((), device=weight_of(module).device) if bias is None else bias.detach()


def _probed(module: nn.Module) -> Tensor:
    """Weight ``(out, in)`` of a linear map, from what it makes of unit vectors."""
    units = torch.eye(cast("int", input_width(module))).split(_PROBE_ROWS)
    bias = _bias_of(module)
    return torch.cat([_apply(module, part) - bias for part in units]).T.contiguous()


def _apply(module: nn.Module, rows: Tensor) -> Tensor:
    reference = next((one for one in module.parameters() if one.is_floating_point()), rows)
    device = rows.device if reference.is_meta else reference.device
    with torch.no_grad():
        return cast("Tensor", module(rows.to(device, reference.dtype)))
