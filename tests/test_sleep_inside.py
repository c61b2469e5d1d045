"""What a sleeping model sees, and where its gradients run."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit import SleepState

from sleepers import VOCAB, WINDOW, built, close, text, with_memory

pytestmark = pytest.mark.usefixtures("no_gradients_unless_asked")


@pytest.mark.parametrize("window", [1, 2, 5])
def test_sliding_attention_sees_exactly_the_newest_window(window: int) -> None:
    model = built("sliding attention", repeat=1, window=window)
    tokens = text(13)
    for cut in (0, 4, 13):  # in one wake, and over two

        def logits(tokens: Tensor, cut: int = cut) -> Tensor:
            first, state = model.wake(tokens[:, :cut], model.init_state(3))
            return torch.cat([first, model.wake(tokens[:, cut:], state)[0]], dim=1)

        before = logits(tokens)
        for t in range(13):
            changed = tokens.clone()
            changed[:, t] = (changed[:, t] + 1) % VOCAB
            heard = (logits(changed) != before).any(dim=-1).all(dim=0).nonzero().flatten().tolist()
            assert heard == list(range(t, min(13, t + window)))


def test_sliding_attention_sees_over_a_sleep() -> None:
    model = built("sliding attention", repeat=1)
    tokens = text(WINDOW + 6)
    before = model(tokens, context=WINDOW).logits
    for t in range(WINDOW):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCAB
        after = model(changed, context=WINDOW).logits
        heard = (after != before).any(dim=-1).all(dim=0).nonzero().flatten().tolist()
        assert heard == list(range(t))  # token 0 stands L before the first one awake, out of its sight


def test_unbounded_attention_sees_everything_since_the_last_sleep() -> None:
    model = built("attention alone", repeat=1)
    tokens = text(4 * WINDOW)
    before, _ = model.wake(tokens, model.init_state(3))
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % VOCAB
    after, _ = model.wake(changed, model.init_state(3))
    assert (after != before).any(dim=-1).all()
    # but under hard eviction nothing gets over a sleep without a memory
    for passes in (0, 1, 3):
        slept = model(tokens, context=WINDOW, passes=passes).logits
        assert torch.equal(slept, model(tokens[:, WINDOW:]).logits)


def window_and_question() -> tuple[Tensor, Tensor]:
    """No id of the window (0 to 4) is among those of the question (5 to 9), so embeddings tell them apart."""
    generator = torch.Generator().manual_seed(0)
    window = torch.stack([torch.randperm(5, generator=generator) for _ in range(3)])
    return window, 5 + torch.stack([torch.randperm(5, generator=generator) for _ in range(3)])


@with_memory
def test_gradients_run_through_every_pass_and_reach_the_window_only_through_the_state(name: str) -> None:
    model = built(name)
    window, question = window_and_question()
    window = window[:, : model.config.window]
    ids = window.unique().tolist()
    with torch.enable_grad():
        steps = list(model.sleep_steps(window, model.init_state(3), 3))

        def embedding_gradient(state: SleepState) -> Tensor:
            logits, _ = model.wake(question, state)
            (gradient,) = torch.autograd.grad(logits.square().sum(), model.embed.weight, retain_graph=True)
            return gradient[ids]

        assert (embedding_gradient(steps[-1]) != 0).any(dim=-1).all()
        forgotten = dataclasses.replace(steps[-1], fast=tuple(t.detach() for t in steps[-1].fast))
        rest = embedding_gradient(forgotten)
        if model.config.eviction == "hard":
            assert not rest.any()
        elif model.config.window > 1 and "attention" in model.config.blocks:
            assert rest.any()

        logits, _ = model.wake(question, steps[-1])
        written = [t for step in steps for t in step.fast]
        through = torch.autograd.grad(logits.square().sum(), written, allow_unused=True)
    per_pass = [through[i : i + len(steps[0].fast)] for i in range(0, len(through), len(steps[0].fast))]
    assert all(g is not None and g.any() for g in per_pass[-1])
    for early in per_pass[:-1]:
        if model.config.carry == "hidden":
            assert all(g is None for g in early)  # what was written is not carried, only what was thought
        else:
            assert all(g is not None and g.any() for g in early)


def test_gradients_of_forward_equal_finite_differences() -> None:
    model = built("hybrid")
    labels = text(9, seed=3)
    weights = [model.embed.weight, model.blocks[0].mixer.key.weight, model.blocks[1].mixer.gates.weight]
    with torch.enable_grad():
        loss = model(text(9), context=6, labels=labels, passes=3).loss
        gradients = torch.autograd.grad(loss, weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        direction = torch.randn_like(weight)
        ends = []
        for sign in (1, -1):
            weight.add_(sign * 1e-6 * direction)
            ends.append(model(text(9), context=6, labels=labels, passes=3).loss)
            weight.sub_(sign * 1e-6 * direction)
        slope = ((ends[0] - ends[1]) / 2e-6).item()
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("conv", [1, 3])
def test_attention_is_softmax_attention_with_rotated_pairs(conv: int) -> None:
    """One head by hand: a turn by the position, a softmax over what is in sight, a sum of values."""
    mixer = built("attention alone", heads=1, repeat=1, attention_conv=conv).blocks[0].mixer
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    y, *_ = mixer(x, *mixer.init_state(1))
    taps = torch.ones(1, 24, dtype=torch.float64) if conv == 1 else mixer.taps

    def mixed(name: str, t: int) -> Tensor:
        weight, first = getattr(mixer, name).weight, 8 * ("query", "key", "value").index(name)
        seen = [(tap[first : first + 8], t + 1 - conv + i) for i, tap in enumerate(taps)]
        return torch.stack([tap * (weight @ x[0, s]) for tap, s in seen if s >= 0]).sum(0)

    def turned(vector: Tensor, position: int) -> Tensor:
        pairs = torch.complex(vector[:4], vector[4:])
        angles = position * 10_000.0 ** (-torch.arange(4, dtype=torch.float64) / 4)
        pairs = pairs * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([pairs.real, pairs.imag])

    for t in range(6):
        query = turned(mixed("query", t), t)
        scores = torch.stack([query @ turned(mixed("key", s), s) for s in range(t + 1)])
        weights = F.softmax(scores / math.sqrt(8), dim=0)
        by_hand = sum(w * mixed("value", s) for s, w in enumerate(weights))
        close(y[0, t], mixer.out.weight @ by_hand)
