import pytest
import torch

from earl.generation.matrix import PackedMatrix, PlainMatrix, can_pack


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_packed_and_plain_agree(dtype, bias):
    if not can_pack(dtype):
        pytest.skip("this build of torch cannot pack")
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(72, 48, generator=generator) / 7).to(dtype)
    added = torch.randn(72, generator=generator).to(dtype) if bias else None
    plain, packed = PlainMatrix(weight, added), PackedMatrix(weight, added)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    for rows in (1, 7, 64, 130):
        x = torch.randn(rows, 48, generator=generator).to(dtype)
        other = torch.randn(rows, 72, generator=generator).to(dtype)
        for found, wanted in (
            (packed(x), plain(x)),
            (packed.silu(x), plain.silu(x)),
            (packed.times(x, other), plain.times(x, other)),
        ):
            assert found.dtype == dtype
            assert torch.allclose(found, wanted, atol=tolerance, rtol=tolerance)
