"""Inner products by any kernel: the same numbers, whatever lies how."""

from __future__ import annotations

import pytest
import torch

from headpursuit.pursuit import products
from headpursuit.pursuit.bounds import accumulation, screening_dtype


@pytest.mark.parametrize("onednn", [products._ONEDNN, False])
def test_any_kernel_and_layout_gives_the_product(onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_ONEDNN", onednn)
    monkeypatch.setattr(products, "_ROWS", 7)
    g = torch.Generator().manual_seed(0)
    rows, directions = torch.randn(40, 130, generator=g), torch.randn(6, 130, generator=g)
    layouts = {"as they lie": (rows, directions), "columns": (rows.T.contiguous().T, directions)}
    layouts["parts of more"] = rows[:, 2:99], directions[:, 2:99]
    for name, (some, few) in layouts.items():
        found = products.inner_products(some, few)
        most = accumulation(some.shape[1], rows.device) * (some.double().abs() @ few.double().abs().T)
        assert bool(((found.double() - some.double() @ few.double().T).abs() <= most).all()), name


def test_a_lesser_machine_screens_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    for capability, expected in {"AVX512": torch.bfloat16, "AVX2": torch.float32, "NEON": torch.float32}.items():
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        assert screening_dtype(cpu, torch.bfloat16) == expected
        assert screening_dtype(cpu, torch.float32) == torch.float32
