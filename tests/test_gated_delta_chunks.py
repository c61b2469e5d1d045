"""The fast chunked form: in which precision it works, what it counts as, and the frozen form it is measured against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
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


# ------------------------------------------------------------------------------- short texts without gradients


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", checks.CASES)
def test_a_short_text_without_gradients_equals_the_reference(case: str, dtype: torch.dtype) -> None:
    for length in (1, 2, 8, 31, 32):
        for filled in (False, True):
            inputs, _ = checks.draw(case, length, filled, torch.Generator().manual_seed(4))
            wanted = rule({name: t.double() for name, t in inputs.items()}, backend="recurrent")
            found = rule({name: t.to(dtype) for name, t in inputs.items()}, backend="chunked")
            errors = [checks.relative_error(a, b) for a, b in zip(found, wanted, strict=True)]
            assert max(errors) <= checks.LIMITS[dtype], (length, filled)


@pytest.mark.parametrize("case", checks.CASES)
def test_a_thousand_tokens_in_short_texts_keep_their_digits(case: str) -> None:
    """As a model awake reads them, a few at a time; float32 alone would lose the fifth digit on equal keys."""
    inputs = drawn(case, length=1000, batch=1, key_dim=16)
    wanted = rule({name: t.double() for name, t in inputs.items()}, backend="recurrent")
    state, parts = inputs.pop("initial_state"), []
    for first in range(0, 1000, 20):
        some = {name: t[:, first : first + 20] for name, t in inputs.items()}
        o, state = rule({**some, "initial_state": state}, backend="chunked")
        parts.append(o)
    assert checks.relative_error(torch.cat(parts, dim=1), wanted[0]) < 1e-5
    assert checks.relative_error(state, wanted[1]) < 1e-5


def test_the_cheap_way_is_for_one_small_chunk_that_needs_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, small = [], chunked._small_chunk
    monkeypatch.setattr(chunked, "_small_chunk", lambda *args: (taken.append(1), small(*args))[1])

    def is_taken(inputs: dict[str, Tensor], **options: Any) -> bool:
        taken.clear()
        rule(inputs, backend="chunked", **options)
        return bool(taken)

    short = drawn(length=32, batch=4, heads=4)
    learning = {**short, "beta": short["beta"].clone().requires_grad_()}
    assert is_taken(short) and not is_taken(short, chunk_size=16) and not is_taken(learning)
    with torch.no_grad():
        assert is_taken(learning)
    assert not is_taken(drawn(length=33, batch=1)) and not is_taken(drawn(length=32, batch=4, heads=5))


def test_the_cheap_way_counts_as_the_other() -> None:
    """Budgets are counted without gradients and must not depend on how many sequences were counted at once."""
    one = drawn(length=20, batch=1, heads=1)
    many = {name: t.expand(100, *t.shape[1:]) for name, t in one.items()}
    counts = [flops_of(lambda some=some: rule(some, backend="chunked")) for some in (one, many)]
    assert counts[1] == 100 * counts[0] > 0


# ----------------------------------------------------------------------------------------- what the forms promise


def test_a_second_derivative_is_right_or_refused() -> None:
    """Two ways to ask: through the incoming gradient, and past it, where PyTorch itself says nothing."""
    inputs = {name: t.double().requires_grad_() for name, t in drawn(length=5, batch=1, heads=1, key_dim=3).items()}

    def penalised(backend: str, past: bool) -> Tensor:
        o, _ = rule(inputs, backend=backend)
        (slope,) = torch.autograd.grad(o.sum() if past else o.square().sum(), inputs["q"], create_graph=True)
        return torch.autograd.grad(slope.square().sum(), inputs["k"])[0]

    for past in (False, True):
        assert penalised("recurrent", past).isfinite().all()
        for backend in ("chunked", "auto"):
            with pytest.raises(NotImplementedError, match=r'first derivatives only.*take backend="recurrent"\.'):
                penalised(backend, past)

    def form(*args: Tensor) -> tuple[Tensor, Tensor]:
        return gated_delta_rule(*args[:5], initial_state=args[5], backend="recurrent")

    assert torch.autograd.gradgradcheck(form, list(inputs.values()))


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("chunk", [16, 32])
def test_a_token_that_is_no_number_spoils_its_chunk_and_what_follows(poison: float, chunk: int) -> None:
    inputs = drawn(length=40, batch=2)
    inputs["v"][0, 35] = poison
    for backend, first in (("recurrent", 35), ("chunked", 20)):  # 40 tokens are 2 chunks of 20 or, of 16, 3 of 14
        o, _ = rule(inputs, backend=backend, chunk_size=chunk)
        first = 28 if backend == "chunked" and chunk == 16 else first
        assert o[0, :first].isfinite().all() and not o[0, 35:].isfinite().all() and o[1].isfinite().all()


def test_numbers_of_other_kinds_are_numbers() -> None:
    inputs = drawn(length=9)
    wanted = rule(inputs, scale=0.5, chunk_size=32)
    found = rule(inputs, scale=np.float32(0.5), chunk_size=np.int64(32))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    for wrong in ({"scale": True}, {"scale": np.True_}, {"scale": 1j}, {"chunk_size": np.float64(32)}):
        with pytest.raises(ValueError, match="must be a"):
            rule(inputs, **wrong)
