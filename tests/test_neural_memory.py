"""The neural memory as a layer: it goes on, it learns, it neither diverges nor dies."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from labkit.checks import relative_error
from labkit.kernels.titans import neural_memory, read_memory, recurrent_neural_memory
from labkit.memory import NeuralMemory
from labkit.train import harden


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_a_memory_goes_on_wherever_a_text_is_cut(layers: int, chunk: int) -> None:
    torch.manual_seed(1)
    memory = NeuralMemory(12, heads=2, layers=layers, chunk_size=chunk).double()
    x = torch.randn(3, 11, 12, dtype=torch.float64)
    whole, at_end, surprise = memory(x, return_surprise=True)
    assert whole.shape == x.shape and surprise.shape == (3, 11, 2) and (surprise > 0).all()
    state, parts = None, []
    for first, last in itertools.pairwise((0, 1, 1, 6, 11)):
        y, state = memory(x[:, first:last], state)
        parts.append(y)
    assert relative_error(torch.cat(parts, dim=1), whole) < 1e-12
    assert state is not None and state.position == at_end.position == 11 % chunk
    for a, b in zip(state.weights + state.velocity, at_end.weights + at_end.velocity, strict=True):
        assert relative_error(a, b) < 1e-12


def test_a_memory_answers_better_for_what_it_was_told_again() -> None:
    """It learns at test time: the same tokens surprise it less, and other tokens do not."""
    torch.manual_seed(0)
    memory = NeuralMemory(32, heads=1, chunk_size=1, conv=1, max_step=0.5).requires_grad_(False)
    told, other = torch.randn(2, 1, 8, 32)
    _, state, first = memory(told, return_surprise=True)
    for _ in range(20):
        _, state, again = memory(told, state, return_surprise=True)
    _, _, strange = memory(other, state, return_surprise=True)
    assert again.mean() < 0.5 * first.mean() < strange.mean()


@pytest.mark.parametrize("without", ["momentum", "forgetting"])
def test_an_ablated_gate_is_zero(without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    from labkit.memory import titans

    def spy(q: Tensor, k: Tensor, v: Tensor, *rest: Any, **named: Any) -> Any:
        seen.extend(rest[:3])
        return real(q, k, v, *rest, **named)

    real = titans.continue_memory
    monkeypatch.setattr(titans, "continue_memory", spy)
    NeuralMemory(8, **{without: False})(torch.randn(1, 3, 8))
    gates = dict(zip(("step", "momentum", "forgetting"), seen, strict=True))
    assert all(bool((gate == 0).all()) == (name == without) for name, gate in gates.items())


def test_a_token_can_be_left_unwritten_altogether() -> None:
    torch.manual_seed(2)
    memory = NeuralMemory(16, heads=2, forgetting=False)
    before, x = memory.init_state(1), torch.randn(1, 30, 16)
    assert memory.rates(x)[0].min() > 0  # untrained, it writes all
    with torch.no_grad():
        memory.gates.bias[:2] = -10.0
    assert (memory.rates(x)[0] == 0).all()
    _, after = memory(x, before)
    assert all(torch.equal(a, b) for a, b in zip(before.weights, after.weights, strict=True))


def test_training_begins_with_steps_that_are_never_zero() -> None:
    memory = NeuralMemory(8, conv=1)
    x = torch.randn(1, 50, 8)
    after, seen = memory.rates(x), []
    for progress in (0.0, 0.5, 0.625, 0.75, 0.99):
        harden(memory, progress)
        seen.append(memory.rates(x)[0])
    plain = torch.sigmoid(memory.gates(x)[..., :1]) * memory.max_step * (1 - after[1])
    assert torch.allclose(seen[0], plain) and torch.equal(seen[0], seen[1])
    assert torch.equal(seen[3], after[0]) and torch.equal(seen[4], after[0])
    assert (seen[2] < seen[1]).any() and not torch.equal(seen[2], seen[3])
    assert torch.equal(NeuralMemory(8, conv=1).stretch, memory.stretch) and "stretch" not in memory.state_dict()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"layers": 5}, "layers must be 1 to 4, but it is 5"),
        ({"layers": 0}, "layers must be a whole number of at least 1"),
        ({"heads": 3}, "dim=8 must be a multiple of heads=3"),
        ({"max_step": 0.0}, "max_step must be a finite number above 0"),
        ({"max_step": True}, "max_step must be a finite number above 0"),
        ({"limit": -1.0}, "limit must be a finite number above 0"),
        ({"clip": 0.0}, "clip must be a finite number above 0"),
        ({"chunk_size": 0}, "chunk_size must be a whole number of at least 1"),
        ({"chunk_size": 513}, "chunk_size must be 1 to 512"),
    ],
)
def test_a_memory_says_what_is_wrong(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        NeuralMemory(8, **wrong)


def tokens(width: int = 3, length: int = 6, layers: int = 1) -> dict[str, Any]:
    drawn = {name: torch.randn(1, length, 1, width, dtype=torch.float64) for name in "qkv"}
    drawn |= {name: 0.9 * torch.rand(1, length, 1, dtype=torch.float64) for name in ("step", "momentum", "forget")}
    drawn["step"] *= 0.2
    several = [torch.randn(1, 1, width, width, dtype=torch.float64) for _ in range(2 * layers)]
    return drawn | {"weights": several[:layers], "velocity": several[layers:]}


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("gates", [None, 0.0, 1.0])
def test_second_derivatives_are_right(gates: float | None, chunk: int) -> None:
    """Also past the incoming gradient, as of a penalty on the gradient of the gates; and of gates at their ends."""
    inputs = tokens()
    if gates is not None:
        inputs["momentum"][:, 2:4] = inputs["forget"][:, 3:5] = gates
    found = []
    for form in (neural_memory, recurrent_neural_memory):
        own = {n: t if isinstance(t, list) else t.clone().requires_grad_() for n, t in inputs.items()}
        y, _ = form(**own, chunk_size=chunk)
        slopes = torch.autograd.grad(y.sum(), [own["momentum"], own["forget"]], create_graph=True)
        penalty = sum(slope.square().sum() for slope in slopes)
        wanted = [own[name] for name in ("k", "v", "step", "momentum", "forget")]
        found.append(torch.cat([t.flatten() for t in torch.autograd.grad(penalty, wanted, materialize_grads=True)]))
    assert relative_error(*found) < 1e-12


@pytest.mark.parametrize("name", ["limit", "clip"])
@pytest.mark.parametrize("wrong", ["a", 0.0, -1, True, float("nan"), float("inf"), [1.0], 1j])
@pytest.mark.parametrize("backend", ["auto", "chunked", "triton"])
def test_a_bound_that_is_none_is_refused_in_a_sentence(name: str, wrong: Any, backend: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a finite number above 0, or None for none, but it is"):
        neural_memory(**tokens(), **{name: wrong}, backend=backend)


def test_numbers_of_other_kinds_are_numbers() -> None:
    inputs = tokens()
    wanted, _ = neural_memory(**inputs, chunk_size=4, limit=0.5, clip=2.0)
    found, _ = neural_memory(**inputs, chunk_size=np.int64(4), limit=np.float32(0.5), clip=np.int32(2))
    assert torch.equal(found, wanted)
    for wrong in (True, 4.0, np.float64(4), "4", 0):
        with pytest.raises(ValueError, match="chunk_size must be a whole number from 1 to 512"):
            neural_memory(**inputs, chunk_size=wrong)


def test_a_memory_cannot_be_asked_in_another_width() -> None:
    inputs = tokens(width=4, layers=2)
    q, weights = inputs["q"], inputs["weights"]
    assert read_memory(weights, q).shape == q.shape
    for spoilt, sentence in (
        ((weights, q[..., :3]), r"weights\[0\] must have shape \[B, H, in, out\], here \[1, 1, 3, 4\]"),
        ((weights, q[0]), r"q must have shape \[B, T, H, D\] with D at least 1, but its shape is \[6, 1, 4\]"),
        ((weights[0], q), "weights must be a list of tensors, one for each layer of the memory, but it is a Tensor"),
        (([], q), "weights must be a list of tensors.* it is empty"),
        ((weights, q.long()), r"q must hold floating-point numbers.*int64"),
        ((weights, q.expand(3, -1, -1, -1)), r"weights\[0\] must have shape .* here \[3, 1, 4, 4\]"),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence) as caught:
            read_memory(*spoilt)
        assert str(caught.value).endswith(".")


def test_a_token_that_is_no_number_spoils_its_chunk_and_what_follows() -> None:
    inputs = tokens(length=12)
    inputs["v"][:, 6] = torch.nan
    for chunk, first in ((1, 6), (4, 4)):
        y, _ = neural_memory(**inputs, chunk_size=chunk)
        assert y[:, :first].isfinite().all() and y[:, 6:].isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1.0, 0.1], ids=["unlike tokens", "tokens much alike"])
@pytest.mark.parametrize(("layers", "chunk"), [(1, 16), (2, 16), (4, 16), (4, 64), (4, 1)])
def test_an_untrained_memory_neither_diverges_nor_dies_over_8192_tokens(
    layers: int, chunk: int, spread: float
) -> None:
    """float32, no NaN, and at the end the memory still misses the last tokens by less than an empty one would."""
    torch.manual_seed(0)
    memory = NeuralMemory(32, heads=2, layers=layers, chunk_size=chunk).requires_grad_(False)
    x = torch.randn(1, 1, 32) + spread * torch.randn(1, 8192, 32)
    state, missed = None, []
    for part in x.split(1024, dim=1):
        _, k, v, *_ = memory._project(part, (state or memory.init_state(1)).tail)
        y, state, s = memory(part, state, return_surprise=True)
        assert y.isfinite().all() and s.isfinite().all()
        loss = (read_memory(state.weights, k) - v).square().sum(-1)  # of what was just written, read back
        missed.append(float(loss.mean() / v.square().sum(-1).mean()))
    assert max(missed[2:]) < 0.85, missed
