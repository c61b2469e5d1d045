"""The triangular solve inside a chunk: its compiled twin, and the faster inverse that is a trap."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from labkit import checks
from labkit.kernels.gated_delta.solve import solve_unit_lower


def inverse_by_squaring(lower: Tensor) -> Tensor:
    """``(I + A)^-1 = (I − A)(I + A²)(I + A⁴) ...``: exact for a nilpotent A, in 2 log2(C) - 2 products."""
    eye = torch.eye(lower.shape[-1], dtype=lower.dtype)
    inverse, power = eye - lower, lower
    for _ in range(int(math.log2(lower.shape[-1])) - 1):
        power = power @ power
        inverse = inverse @ (eye + power)
    return inverse


def overlap(keys: Tensor, beta: float) -> Tensor:
    return (beta * keys @ keys.mT).tril(-1)


def test_inverting_by_squaring_is_a_trap() -> None:
    """It looks right on random keys. On repeated keys its terms grow to 1e30 before they cancel."""
    random = torch.nn.functional.normalize(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    keys = {"random": random, "all equal": random[:1].expand(64, -1)}
    squaring, solve = {}, {}
    for kind, beta in itertools.product(keys, (1.0, 2.0)):
        lower = overlap(keys[kind], beta)
        truth = torch.linalg.inv(torch.eye(64).double() + lower.double())
        squaring[kind, beta] = checks.relative_error(inverse_by_squaring(lower), truth)
        solve[kind, beta] = checks.relative_error(solve_unit_lower(lower, torch.eye(64)), truth)
        print(f"{kind}, beta {beta:g}: squaring {squaring[kind, beta]:.0e}, solve {solve[kind, beta]:.0e}")
        exact = solve_unit_lower(lower.double(), torch.eye(64).double())
        assert checks.relative_error(exact, truth) < 1e-12
    assert max(squaring["random", 1.0], squaring["random", 2.0]) < 1e-5 and max(solve.values()) < 1e-4
    assert not squaring["all equal", 1.0] < 1e6 and not squaring["all equal", 2.0] < 1e15


@pytest.mark.parametrize("case", ["random", "equal keys"])
def test_the_solve_for_compiled_graphs_is_the_same_solve(case: str) -> None:
    keys = checks.draw(case, 12, False, torch.Generator().manual_seed(3))[0]["k"].transpose(1, 2).double()
    lower = overlap(keys, 1.5).requires_grad_()
    right = torch.randn(2, 2, 12, 5, dtype=torch.float64).requires_grad_()
    weights = torch.randn(2, 2, 12, 5, dtype=torch.float64)
    compiled = torch.ops.labkit.solve_unit_lower
    results = []
    for solve in (solve_unit_lower, compiled):
        solved = solve(lower, right)
        grads = torch.autograd.grad((solved * weights).sum(), [lower, right])
        # above the diagonal nothing is read, so nothing there has a gradient
        results.append([solved, grads[0].tril(-1), grads[1]])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    torch.library.opcheck(compiled, (lower.detach(), right.detach()))
