"""Products of few rows are those of torch's own `linear`, and nothing else takes their road."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from registry.pretrained import kernels
from registry.pretrained.kernels import linear
from registry.pretrained.layers import LayerNorm, Linear

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "as torch stores it": lambda weight: weight,
    "as GPT-2 stores it": lambda weight: weight.t().contiguous().t(),
    "a part of a larger one": lambda weight: torch.cat((weight, weight), dim=1)[:, : weight.shape[1]],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 3, 128, 129])
@pytest.mark.parametrize(("inputs", "outputs"), [(768, 768), (96, 520), (770, 769), (64, 30522), (40, 64)])
def test_products_are_those_of_torch_up_to_rounding(inputs: int, outputs: int, rows: int, with_bias: bool, layout: str) -> None:
    torch.manual_seed(rows)
    x, weight = torch.randn(rows, inputs), LAYOUTS[layout](torch.randn(outputs, inputs) / inputs**0.5)
    bias = torch.randn(outputs) if with_bias else None
    before = [tensor.clone() for tensor in (x, weight, *([] if bias is None else [bias]))]
    with torch.inference_mode():
        result = linear(x, weight, bias)
    torch.testing.assert_close(result, nn.functional.linear(x, weight, bias), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(*pair) for pair in zip((x, weight, bias), before, strict=False)), "an input was written to"


def test_any_leading_dimensions_are_kept() -> None:
    x, weight = torch.randn(2, 3, 4, 64), torch.randn(1024, 64)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight), nn.functional.linear(x, weight))
        torch.testing.assert_close(linear(x[0, 0, 0], weight), nn.functional.linear(x[0, 0, 0], weight))
        torch.testing.assert_close(linear(x.transpose(0, 2), weight), nn.functional.linear(x.transpose(0, 2), weight))
        assert linear(x[:0], weight).shape == (0, 3, 4, 1024)


@pytest.fixture
def parted(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Count the products that take the other road."""
    taken: list[None] = []
    original = kernels._parted

    def counted(x: Tensor, weight: Tensor) -> Tensor | None:
        taken.append(None)
        return original(x, weight)

    monkeypatch.setattr(kernels, "_parted", counted)
    return taken


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="the other road is MKL's")
def test_the_other_road_is_for_inference_in_float32_alone(parted: list[None]) -> None:
    layer, x = Linear(64, 1024), torch.randn(2, 64)
    with torch.no_grad():
        nn.init.normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        layer(x)
    assert len(parted) == 1
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.no_grad():
        layer.double()(x.double())
        layer.float()(torch.randn(kernels._FEW_ROWS + 1, 64))
    assert len(parted) == 1


def test_a_program_that_torch_compiles_has_torchs_own_product(parted: list[None]) -> None:
    layer = Linear(64, 1024).requires_grad_(False)
    with torch.no_grad():
        nn.init.normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        exported = torch.export.export(layer, (torch.randn(2, 64),))
    assert not parted
    assert "linear" in str(exported.graph)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Linear(3, 5), nn.Linear(3, 5)),
        (Linear(3, 5, bias=False), nn.Linear(3, 5, bias=False)),
        (LayerNorm(4), nn.LayerNorm(4)),
    ],
)
def test_layers_are_of_torchs_own_kind_with_all_its_attributes(ours: nn.Module, theirs: nn.Module) -> None:
    assert isinstance(ours, type(theirs))
    assert ours.__dict__.keys() == theirs.__dict__.keys()
    assert repr(ours) == repr(theirs)
    assert [(name, value.shape) for name, value in ours.named_parameters()] == [
        (name, value.shape) for name, value in theirs.named_parameters()
    ]
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # of torch's own jvp
@pytest.mark.parametrize("outputs", [30522, 1024, 40])
def test_transforms_of_torch_have_torchs_own_product(outputs: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 2, 64), torch.randn(outputs, 64), torch.randn(outputs)
    with torch.no_grad():
        expected = nn.functional.linear(x, weight, bias)
        torch.testing.assert_close(torch.func.vmap(lambda row: linear(row, weight, bias))(x), expected)
        torch.testing.assert_close(torch.func.vmap(lambda w: linear(x[0], w, bias))(weight[None])[0], expected[0])
        torch.testing.assert_close(torch.func.vmap(lambda b: linear(x[0], weight, b))(bias[None])[0], expected[0])
        _, moved = torch.func.jvp(lambda row: linear(row, weight, bias), (x,), (torch.ones_like(x),))
        torch.testing.assert_close(moved, nn.functional.linear(torch.ones_like(x), weight))
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            moved = torch.autograd.forward_ad.unpack_dual(linear(dual, weight, bias)).tangent
        torch.testing.assert_close(moved, nn.functional.linear(torch.ones_like(x), weight))
