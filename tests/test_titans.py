"""The neural memory of Titans: the recurrence against the paper, every fast form against its own definition."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from labkit import checks_titans
from labkit.checks import relative_error
from labkit.checks_titans import Inputs, draw, results
from labkit.kernels import neural_memory
from labkit.kernels.titans import Carried, chunked, continue_memory, read_memory, recurrent_neural_memory
from labkit.kernels.titans.chunked import products
from labkit.kernels.titans.recurrent import read

GATES = ("step", "momentum", "forget")


def drawn(length: int, layers: int, **options: Any) -> Inputs:
    """Inputs in float64."""
    return tuple([t.double() for t in several] for several in draw(length, layers, **options))  # type: ignore[return-value]


def worst(inputs: Inputs, chunk: int) -> float:
    """The largest relative error of values and gradients, fast against slow, in float64."""
    found, wanted = (
        results(form, inputs, torch.float64, chunk) for form in (neural_memory, recurrent_neural_memory)
    )
    return max(relative_error(found[what], right) for what, right in wanted.items())


# ------------------------------------------------------------------------------------ the recurrence and the paper


def test_the_reference_descends_the_loss_of_the_paper() -> None:
    """One token against equations 12 to 14 with the gradient by central differences, entry by entry."""
    (q, k, v, step, momentum, forget), weights, velocity = drawn(1, 2, batch=1, heads=1, width=3)
    y, (after, pushed) = recurrent_neural_memory(q, k, v, step, momentum, forget, weights, velocity)

    def loss(weights: list[Tensor]) -> float:
        hidden = k[0, 0, 0] @ weights[0][0, 0]
        return float((F.silu(hidden) @ weights[1][0, 0] - v[0, 0, 0]).square().sum())

    θ, η, α = (float(gate) for gate in (step, momentum, forget))
    for layer, weight in enumerate(weights):
        for place in itertools.product(*map(range, weight.shape)):
            ends = []
            for sign in (1, -1):
                moved = [w.clone() for w in weights]
                moved[layer][place] += sign * 1e-5
                ends.append(loss(moved))
            surprise = (ends[0] - ends[1]) / 2e-5
            wanted = η * float(velocity[layer][place]) - θ * surprise
            assert float(pushed[layer][place]) == pytest.approx(wanted, abs=1e-8)
            assert float(after[layer][place]) == pytest.approx((1 - α) * float(weight[place]) + wanted, abs=1e-8)
    answer = F.silu(q[0, 0, 0] @ after[0][0, 0]) @ after[1][0, 0]
    assert torch.allclose(y[0, 0, 0], answer, atol=1e-12, rtol=0), "read after the write"


def test_a_linear_memory_without_momentum_is_the_gated_delta_rule() -> None:
    """The paper's appendix C: one layer, η = 0. There e = v - S^T k on the decayed state, here on the undecayed one."""
    from labkit.kernels import gated_delta_rule

    (q, k, v, step, momentum, forget), weights, velocity = drawn(9, 1, filled=False)
    y, (after, _) = neural_memory(q, k, v, step, 0 * momentum, 0 * forget, weights, velocity)
    o, state = gated_delta_rule(q, k, v, 0 * step, 2 * step, initial_state=weights[0], scale=1.0)
    assert relative_error(y, o) < 1e-12 and relative_error(after[0], state) < 1e-12


# ---------------------------------------------------------------------------------------- fast forms and definitions


@pytest.mark.parametrize("layers", checks_titans.LAYERS)
def test_the_fast_form_is_the_slow_one_in_values_and_gradients(layers: int) -> None:
    """Chunks of 1, 4 and 16; nothing to ragged lengths; with and without past surprise; all cases and dtypes."""
    rows = checks_titans.neural_memory_errors(layers=[layers])
    assert [row for row in rows if not row.error <= checks_titans.LIMITS[row.dtype]] == []
    results_of_each = 1 + 2 * layers + 6 + 2 * layers
    settings = len(checks_titans.CASES) * len(checks_titans.LENGTHS) * 2 * len(checks_titans.CHUNKS)
    assert len(rows) == settings * len(checks_titans.LIMITS) * results_of_each


def test_the_distance_of_chunks_is_told() -> None:
    one, two = checks_titans.chunk_distances(length=32, seeds=1)
    assert "1 layers" in one and "2 layers" in two and ": 1: 0.00 to 0.00, 4: 0." in one


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gates_at_their_ends_are_exact_and_have_gradients(gate: str, value: float) -> None:
    """Nothing remembered, everything forgotten, nothing written: no logarithm and no division stands in the way."""
    inputs = drawn(7, 2)
    inputs[0][3 + GATES.index(gate)][:, ::2] = value * (0.2 if gate == "step" else 1.0)
    assert worst(inputs, chunk=4) < 1e-10


def test_the_chunk_size_changes_the_function() -> None:
    inputs = drawn(16, 2)
    exact = neural_memory(*inputs[0], *inputs[1:])[0]
    apart = [relative_error(neural_memory(*inputs[0], *inputs[1:], chunk_size=c)[0], exact) for c in (2, 4, 16)]
    assert 1e-3 < apart[0] < apart[1] < apart[2]


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 13), max_size=4), chunk=st.integers(1, 16), layers=st.integers(1, 3)
)
def test_splitting_a_sequence_anywhere_changes_nothing(cuts: list[int], chunk: int, layers: int) -> None:
    tokens, weights, velocity = drawn(13, layers)
    whole, at_end, surprise = continue_memory(*tokens, Carried.begin(weights, velocity), chunk_size=chunk, limit=1.0)
    carried, parts, surprises = Carried.begin(weights, velocity), [], []
    for first, last in itertools.pairwise([0, *sorted(cuts), 13]):
        y, carried, s = continue_memory(*(t[:, first:last] for t in tokens), carried, chunk_size=chunk, limit=1.0)
        parts.append(y)
        surprises.append(s)
    assert relative_error(torch.cat(parts, 1), whole) < 1e-12
    assert relative_error(torch.cat(surprises, 1), surprise) < 1e-12
    assert carried.position == at_end.position == 13 % chunk
    for a, b in zip(carried.weights + carried.velocity, at_end.weights + at_end.velocity, strict=True):
        assert relative_error(a, b) < 1e-12


def test_surprise_is_the_norm_of_the_gradient() -> None:
    tokens, weights, velocity = drawn(3, 3)
    _, _, surprise = continue_memory(*tokens, Carried.begin(weights, velocity), chunk_size=3)
    for row, t, head in itertools.product(range(2), range(3), range(2)):
        at = [w[row : row + 1, head : head + 1].clone().requires_grad_() for w in weights]
        key, value = (tokens[i][row : row + 1, t, head : head + 1] for i in (1, 2))
        slopes = torch.autograd.grad((read(at, key) - value).square().sum(), at)
        assert float(surprise[row, t, head]) == pytest.approx(float(sum(g.square().sum() for g in slopes)) ** 0.5)


def test_nothing_read_leaves_everything_as_it_was() -> None:
    tokens, weights, velocity = drawn(0, 2)
    y, (after, pushed) = neural_memory(*tokens, weights, velocity, chunk_size=4)
    assert y.shape == (2, 0, 2, 4)
    assert all(a is b or torch.equal(a, b) for a, b in zip(after + pushed, weights + velocity, strict=True))


def test_reading_alone_is_what_the_memory_answers() -> None:
    tokens, weights, _ = drawn(5, 3)
    found = read_memory(weights, tokens[0])
    wanted = torch.stack([read(weights, tokens[0][:, t]) for t in range(5)], dim=1)
    assert relative_error(found, wanted) < 1e-14


# --------------------------------------------------------------------------------------------- batches, dtypes, limits


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("other", [1e6, float("nan")])
def test_rows_and_heads_do_not_meet(chunk: int, other: float) -> None:
    tokens, weights, velocity = (([t.float() for t in several]) for several in drawn(9, 2))
    alone = neural_memory(*tokens, weights, velocity, chunk_size=chunk)
    for several in (tokens, weights, velocity):
        for t in several:
            t[1] = other
    beside = neural_memory(*tokens, weights, velocity, chunk_size=chunk)
    assert torch.equal(alone[0][0], beside[0][0])
    for a, b in zip(alone[1][0] + alone[1][1], beside[1][0] + beside[1][1], strict=True):
        assert torch.equal(a[0], b[0])


def test_the_state_is_kept_in_float32_and_outputs_have_the_dtype_of_v() -> None:
    tokens, weights, velocity = (([t.bfloat16() for t in several]) for several in drawn(5, 2))
    y, (after, pushed) = neural_memory(*tokens, weights, velocity, chunk_size=4)
    assert y.dtype == torch.bfloat16 and {t.dtype for t in after + pushed} == {torch.float32}


def test_a_limit_keeps_what_overshoots_finite_and_touches_nothing_else() -> None:
    tokens, weights, velocity = ([t.float() for t in several] for several in drawn(400, 2, filled=False))
    wild = [*tokens[:3], tokens[3] + 3, tokens[4], 0 * tokens[5]]
    assert not neural_memory(*wild, weights, velocity, chunk_size=8)[1][0][0].isfinite().all()
    y, carried, _ = continue_memory(*wild, Carried.begin(weights, velocity), chunk_size=8, limit=4.0)
    assert y.isfinite().all()
    nothing = [t[:, :0] for t in wild]
    for _ in range(60):  # chunks that are broken off are limited too, when the next one begins
        begun = Carried.begin(carried.weights, carried.velocity)
        y, carried, _ = continue_memory(*(t[:, :5] for t in wild), begun, chunk_size=8, limit=4.0)
        assert y.isfinite().all()
    assert continue_memory(*nothing, carried, chunk_size=8)[0].shape[1] == 0
    tame = neural_memory(*tokens, weights, velocity, chunk_size=8)
    limited = neural_memory(*tokens, weights, velocity, chunk_size=8, limit=1e3)
    assert torch.equal(tame[0], limited[0])


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_clip_shortens_long_gradients_in_both_forms_and_touches_no_other(layers: int, chunk: int) -> None:
    inputs = drawn(9, layers)
    tokens, weights, velocity = inputs
    surprise = continue_memory(*tokens, Carried.begin(weights, velocity), chunk_size=chunk)[2]
    forms = [partial(form, clip=1.01 * float(surprise.median())) for form in (neural_memory, recurrent_neural_memory)]
    found, wanted = (results(form, inputs, torch.float64, chunk) for form in forms)
    plain = results(neural_memory, inputs, torch.float64, chunk)
    assert max(relative_error(found[what], right) for what, right in wanted.items()) < 1e-10
    assert relative_error(found["y"], plain["y"]) > 1e-3
    large = neural_memory(*inputs[0], *inputs[1:], chunk_size=chunk, clip=10 * float(surprise.max()))[0]
    assert torch.equal(large, neural_memory(*inputs[0], *inputs[1:], chunk_size=chunk)[0])


def test_a_clip_keeps_the_gradient_of_a_token_that_surprises_nobody() -> None:
    """The length of a zero gradient has no derivative; what is not clipped must not ask for it."""
    tokens, weights, velocity = ([t.clone().requires_grad_() for t in several] for several in drawn(4, 1, filled=False))
    q, k, v, *gates = tokens
    y, _ = neural_memory(q, 0 * k, 0 * v, *gates, weights, velocity, chunk_size=4, clip=1.0)
    y.sum().backward()
    assert all(t.grad is None or t.grad.isfinite().all() for t in tokens)


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"q": 3}, TypeError, "q must be a torch tensor, but it is a int"),
        ({"q": torch.zeros(2, 5, 2, 4, dtype=torch.int64)}, TypeError, "q must hold floating-point numbers"),
        ({"q": torch.zeros(2, 5, 8)}, ValueError, r"q must have shape \[B, T, H, D\]"),
        ({"v": torch.zeros(2, 5, 2, 3)}, ValueError, r"v must have shape \[2, 5, 2, 4\]"),
        ({"forget": torch.zeros(2, 5)}, ValueError, r"forget must have shape \[2, 5, 2\]"),
        ({"weights": torch.zeros(2)}, TypeError, "weights must be a list of tensors"),
        ({"weights": []}, TypeError, "weights must be a list of tensors, one for each layer .*, but it is empty"),
        ({"weights": [torch.zeros(2, 2, 4, 3)]}, ValueError, r"weights\[0\] must have shape .* from 4 channels to 4"),
        ({"velocity": [torch.zeros(2, 2, 4, 4)]}, ValueError, "velocity must have the shapes of weights"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be a whole number from 1 to 512, but it is 0"),
        ({"chunk_size": True}, ValueError, "chunk_size must be a whole number"),
        ({"limit": 0.0}, ValueError, "limit must be a finite number above 0"),
        ({"clip": float("inf")}, ValueError, "clip must be a finite number above 0"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(change: dict[str, Any], error: type[Exception], sentence: str) -> None:
    tokens, weights, velocity = drawn(5, 2)
    named = dict(zip(("q", "k", "v", *GATES), tokens, strict=True)) | {"weights": weights, "velocity": velocity}
    with pytest.raises(error, match=sentence):
        neural_memory(**(named | change))


def test_an_open_chunk_is_not_taken_up_with_a_smaller_one() -> None:
    tokens, weights, velocity = drawn(3, 1)
    _, carried, _ = continue_memory(*tokens, Carried.begin(weights, velocity), chunk_size=8)
    with pytest.raises(ValueError, match="The open chunk holds 3 tokens, which do not fit chunk_size=2"):
        continue_memory(*tokens, carried, chunk_size=2)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_products_of_gates_and_their_gradient_are_those_of_a_running_product(size: int) -> None:
    """Also where a gate is 0, which a gradient that divides could not bear."""
    factors = torch.rand(3, 2, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    factors[0, :, size // 2] = 0.0
    factors.requires_grad_()
    found = products(factors)
    for i, j in itertools.product(range(size), repeat=2):
        wanted = factors[..., i + 1 : j + 1].prod(-1) if i <= j else torch.zeros(3, 2)
        torch.testing.assert_close(found[..., j, i], wanted.to(found.dtype))
    assert torch.autograd.gradcheck(products, factors)


@pytest.mark.parametrize(
    ("length", "position", "pieces"), [(0, 0, []), (0, 3, []), (2, 3, [1, 1]), (9, 0, [4, 4, 1]), (11, 1, [3, 4, 4])]
)
def test_tokens_are_cut_where_chunks_end(length: int, position: int, pieces: list[int]) -> None:
    assert chunked._pieces(length, position, 4) == pieces
