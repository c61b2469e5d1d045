"""The neural memory of Titans: the recurrence against the paper, every fast form against its own definition."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from labkit.checks import relative_error
from labkit.kernels import neural_memory
from labkit.kernels.titans import Carried, continue_memory, read_memory, recurrent_neural_memory
from labkit.kernels.titans.recurrent import read

GATES = ("step", "momentum", "forget")
Inputs = tuple[list[Tensor], list[Tensor], list[Tensor]]


def drawn(
    length: int, layers: int, *, batch: int = 2, heads: int = 2, width: int = 4, filled: bool = True, seed: int = 0
) -> Inputs:
    """q, k, v, step, momentum, forget; weights; velocity, in float64. Unfilled: no past surprise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def uniform(most: float) -> Tensor:
        return most * torch.rand(batch, length, heads, generator=generator, dtype=torch.float64)

    q, k = (F.normalize(normal(batch, length, heads, width), dim=-1) for _ in range(2))
    tokens = [q, k, normal(batch, length, heads, width), uniform(0.2), uniform(1.0), uniform(0.3)]
    sides = [width, *[2 * width] * (layers - 1), width]
    shapes = [(batch, heads, *pair) for pair in itertools.pairwise(sides)]
    weights = [normal(*shape) * shape[2] ** -0.5 for shape in shapes]
    return tokens, weights, [filled * 0.1 * normal(*shape) for shape in shapes]


def by_definition(chunk: int) -> Callable[..., tuple[Tensor, tuple[list[Tensor], list[Tensor]]]]:
    """The chunk's rule, token by token: gradients by autograd at the weights before the chunk's first token."""

    def run(
        q: Tensor, k: Tensor, v: Tensor, step: Tensor, momentum: Tensor, forget: Tensor,
        weights: list[Tensor], velocity: list[Tensor],
    ) -> tuple[Tensor, tuple[list[Tensor], list[Tensor]]]:  # fmt: skip
        outputs, anchor = [v[:, 0] * 0], weights
        for t in range(q.shape[1]):
            anchor = weights if t % chunk == 0 else anchor

            def loss(at: list[Tensor], t: int = t) -> Tensor:
                return (read(at, k[:, t]) - v[:, t]).square().sum()

            slope = torch.func.grad(loss)(anchor)
            θ, η, α = (gate[:, t, :, None, None] for gate in (step, momentum, forget))
            velocity = [η * s - θ * g for s, g in zip(velocity, slope, strict=True)]
            weights = [(1 - α) * w + s for w, s in zip(weights, velocity, strict=True)]
            outputs.append(read(weights, q[:, t]))
        return torch.stack(outputs[1:], dim=1), (weights, velocity)

    return run


def everything(form: Callable[..., Any], inputs: Inputs) -> list[Tensor]:
    """What a form returns, one after another, and the gradient of a random functional of it for every input."""
    leaves = [[t.clone().requires_grad_() for t in several] for several in inputs]
    y, (weights, velocity) = form(*leaves[0], *leaves[1:])
    generator = torch.Generator().manual_seed(5)
    values = [y, *weights, *velocity]
    loss = sum((t * torch.randn(t.shape, generator=generator, dtype=t.dtype)).sum() for t in values)
    return [*values, *torch.autograd.grad(loss, [t for several in leaves for t in several])]


def worst(found: list[Tensor], wanted: list[Tensor]) -> float:
    return max(relative_error(a, b) for a, b in zip(found, wanted, strict=True))


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


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_chunks_of_one_are_the_recurrence(length: int, layers: int, filled: bool) -> None:
    inputs = drawn(length, layers, filled=filled)
    assert worst(everything(neural_memory, inputs), everything(recurrent_neural_memory, inputs)) < 1e-10


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 11])
def test_chunks_are_their_own_definition(length: int, layers: int, filled: bool) -> None:
    inputs = drawn(length, layers, filled=filled)

    def chunked(*args: Any) -> Any:
        return neural_memory(*args, chunk_size=4)

    assert worst(everything(chunked, inputs), everything(by_definition(4), inputs)) < 1e-10


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gates_at_their_ends_are_exact_and_have_gradients(gate: str, value: float) -> None:
    """Nothing remembered, everything forgotten, nothing written: no logarithm and no division stands in the way."""
    inputs = drawn(7, 2)
    inputs[0][3 + GATES.index(gate)][:, ::2] = value * (0.2 if gate == "step" else 1.0)

    def chunked(*args: Any) -> Any:
        return neural_memory(*args, chunk_size=4)

    assert worst(everything(chunked, inputs), everything(by_definition(4), inputs)) < 1e-10


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
    y, (after, pushed) = neural_memory(*wild, weights, velocity, chunk_size=8, limit=4.0)
    assert y.isfinite().all()
    for t in after + pushed:
        assert (t.norm(dim=(-2, -1)) <= 4.0 * t.shape[-1] ** 0.5 * (1 + 1e-5)).all()
    tame = neural_memory(*tokens, weights, velocity, chunk_size=8)
    limited = neural_memory(*tokens, weights, velocity, chunk_size=8, limit=1e3)
    assert torch.equal(tame[0], limited[0])


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
