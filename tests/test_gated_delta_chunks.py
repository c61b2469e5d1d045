"""The fast chunked form: in which precision it works, what it counts as, and the frozen form it is measured against."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from labkit import checks
from labkit.budget import flops_of
from labkit.kernels import gated_delta_rule
from labkit.kernels.gated_delta import chunked, plain


def drawn(case: str = "random", **sizes: int) -> dict[str, Tensor]:
    inputs, _ = checks.draw(case, sizes.pop("length"), True, torch.Generator().manual_seed(3), **sizes)
    return inputs


def rule(inputs: dict[str, Tensor], **options: object) -> tuple[Tensor, Tensor]:
    return gated_delta_rule(**inputs, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("strength", [1.0, 1.5, 1.74, 1.76, 2.0])
def test_rows_are_wild_where_float32_would_lose_digits_and_no_earlier(
    monkeypatch: pytest.MonkeyPatch, strength: float
) -> None:
    """Equal keys at strengths up to 2: the inverse's row sums cross the bound between 1.74 and 1.76."""
    inputs, weights = checks.draw("equal keys", 1000, True, torch.Generator().manual_seed(2), batch=1)
    inputs["beta"].fill_(strength)
    wanted = checks.results(inputs, weights, torch.float64, "recurrent", 1)
    taken, in_dtype = [], chunked._in_dtype
    monkeypatch.setattr(chunked, "_in_dtype", lambda wide, *rest: (taken.append(wide), in_dtype(wide, *rest))[1])
    found = checks.results(inputs, weights, torch.float32, "chunked", 32)
    assert taken == [torch.float64 if strength > 1.75 else torch.float32]
    assert max(checks.relative_error(found[what], wanted[what]) for what in wanted) < 1e-5


def test_a_wild_row_leaves_the_others_as_they_are() -> None:
    """Rows of one batch in two precisions: each is what it is alone, to the last bit, gradients too."""
    tame, weights = checks.draw("random", 100, True, torch.Generator().manual_seed(2), batch=3, key_dim=64)
    wild, _ = checks.draw("equal keys", 100, True, torch.Generator().manual_seed(3), batch=3, key_dim=64)
    mixed = {name: torch.stack([wild[name][0], t[1], wild[name][2]]) for name, t in tame.items()}
    together = checks.results(mixed, weights, torch.float32, "chunked", 32)
    for row in range(3):
        alone = {name: t[row : row + 1] for name, t in mixed.items()}
        own = (weights[0][row : row + 1], weights[1][row : row + 1])
        for what, t in checks.results(alone, own, torch.float32, "chunked", 32).items():
            torch.testing.assert_close(together[what][row : row + 1], t, rtol=0, atol=0, msg=what)


@pytest.mark.parametrize("case", checks.CASES)
def test_the_frozen_yardstick_is_the_same_function(case: str) -> None:
    inputs = drawn(case, length=100)
    wanted = rule({name: t.double() for name, t in inputs.items()}, backend="recurrent")
    found = plain.chunked_gated_delta_rule(**inputs, scale=8**-0.5, chunk_size=64)  # type: ignore[arg-type]
    assert max(checks.relative_error(a, b) for a, b in zip(found, wanted, strict=True)) < 1e-5


def test_neither_pass_is_touched_by_autocast() -> None:
    inputs = {name: t.requires_grad_() for name, t in drawn(length=40).items()}
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            o, state = rule(inputs)
            found.append((o, state, *torch.autograd.grad(o.sum() + state.square().sum(), list(inputs.values()))))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_its_operations_are_all_counted() -> None:
    """By hand: products of C by C with K or V, of C by K with V, and the inverse at C^2 for each of C columns."""
    C, K, V, chunks = 32, 8, 6, 2
    inputs = drawn(length=chunks * C, batch=1, heads=1, key_dim=K, value_dim=V)
    forward = 2 * (3 * C * C * K + 2 * C * C * V + 3 * C * K * V) + C**3
    assert flops_of(lambda: rule(inputs, backend="chunked", chunk_size=C)) == chunks * forward
    leaves = {name: t.requires_grad_() for name, t in inputs.items()}
    back = 2 * (4 * C * C * K + 4 * C * C * V + 6 * C * K * V)
    both = flops_of(lambda: torch.autograd.grad(rule(leaves, chunk_size=C)[0].sum(), list(leaves.values())))
    assert both == chunks * (forward + back)
