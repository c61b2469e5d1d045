"""The contract of language models, sentence by sentence: wake, passes, eviction, forward, causality."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from labkit import SleepLM, SleepState
from labkit.memory import GatedDelta
from labkit.models.sleep_lm import Memories

from sleepers import VOCAB, WINDOW, built, close, every_config, lived, same, tensors, text, with_memory

pytestmark = pytest.mark.usefixtures("no_gradients_unless_asked")


# ------------------------------------------------------------------------------------------------- wake


@every_config
def test_waking_with_a_then_b_equals_waking_with_ab(name: str) -> None:
    model = built(name)
    ab = text(9)
    for start in (model.init_state(3), lived(model)):
        whole, after = model.wake(ab, start)
        assert whole.shape == (3, 9, VOCAB)
        for cut in range(10):
            first, between = model.wake(ab[:, :cut], start)
            second, end = model.wake(ab[:, cut:], between)
            close(torch.cat([first, second], dim=1), whole)
            same(end, after)


@every_config
def test_token_by_token_in_float32(name: str) -> None:
    model = built(name, torch.float32)
    tokens, state, parts = text(12), model.init_state(3), []
    whole, after = model.wake(tokens, state)
    for t in range(12):
        logits, state = model.wake(tokens[:, t : t + 1], state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)
    for a, b in zip(tensors(state), tensors(after), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@with_memory
def test_waking_writes_the_fast_weights(name: str) -> None:
    model = built(name)
    state = lived(model)
    _, after = model.wake(text(1), state)
    assert all(not torch.equal(a, b) for a, b in zip(after.fast, state.fast, strict=True))
    assert after.position == state.position + 1


# ------------------------------------------------------------------------------------------------ passes


@every_config
def test_one_pass_leaves_the_fast_weights_that_waking_leaves(name: str) -> None:
    model = built(name)
    for start in (model.init_state(3), lived(model)):
        for length in range(model.config.window + 1):
            slept = model.sleep(text(length), start, passes=1)
            _, awake = model.wake(text(length), start)
            assert len(slept.fast) == model.config.blocks.count("delta")
            assert all(torch.equal(a, b) for a, b in zip(slept.fast, awake.fast, strict=True))


@every_config
def test_no_pass_keeps_the_fast_weights_and_clears_the_rest(name: str) -> None:
    model = built(name)
    state = lived(model)
    slept = model.sleep(text(model.config.window), state, passes=0)
    empty = model.init_state(3)
    same(slept, dataclasses.replace(empty, fast=state.fast), bits=True)
    same(slept, model.sleep(text(model.config.window, seed=9), state, passes=0), bits=True)  # it was not read


@every_config
def test_the_steps_of_a_sleep_are_the_sleeps_of_fewer_passes(name: str) -> None:
    model = built(name)
    tokens = text(model.config.window)
    for start in (model.init_state(3), lived(model)):
        steps = list(model.sleep_steps(tokens, start, 4))
        assert len(steps) == 4
        for n, step in enumerate(steps, start=1):
            same(step, model.sleep(tokens, start, n), bits=True)
        assert list(model.sleep_steps(tokens, start, 0)) == []


@with_memory
def test_every_pass_counts(name: str) -> None:
    model = built(name)
    steps = list(model.sleep_steps(text(model.config.window), lived(model), 3))
    for before, after in itertools.pairwise(steps):
        assert all(not torch.equal(a, b) for a, b in zip(before.fast, after.fast, strict=True))


def published(model: SleepLM, window: Tensor, state: SleepState, passes: int) -> Memories:
    """Algorithm 1 of 2605.26099 and its ablations, written out on the blocks; what the last pass leaves."""
    config = model.config
    h = embedded = model.embed(window)
    memories = Memories(state.fast, state.cache, state.tails)
    for n in range(passes):
        if n and config.reinject:
            h = model.between(h) + embedded
        if config.carry == "state":
            h = embedded
        fast = state.fast if config.carry == "hidden" else memories.fast
        caches, tails, writes = iter(state.cache), iter(state.tails), iter(fast)  # rebuilt in every pass
        left = Memories((), (), ())
        for block in model.blocks:
            if block.kind == "attention":
                own = tuple(itertools.islice(tails, int(config.attention_conv > 1)))
                y, pair, own = block.mixer(block.norm(h), next(caches), own)
                left = left._replace(cache=(*left.cache, pair), tails=(*left.tails, *own))
            else:
                y, written, tail = block.mixer(block.norm(h), next(writes), next(tails))
                left = left._replace(fast=(*left.fast, written), tails=(*left.tails, tail))
            h = h + y
            h = h + block.mlp(block.mlp_norm(h))
        memories = left
    return memories


@every_config
@pytest.mark.parametrize("passes", [1, 2, 5])
def test_sleep_is_the_published_algorithm(name: str, passes: int) -> None:
    """And then eviction: hard leaves the fast weights, sliding the newest L - 1 positions, keep all."""
    model = built(name)
    L, empty = model.config.window, model.init_state(3)
    for start in (empty, lived(model)):
        for length in sorted({1, 2, L} & set(range(L + 1))):
            left = published(model, text(length), start, passes)
            if model.config.eviction == "hard":
                left, position = Memories(left.fast, empty.cache, empty.tails), 0
            else:
                position = start.position + length
            if model.config.eviction == "sliding":
                newest = tuple(
                    (k.flip(1)[:, : L - 1].flip(1), v.flip(1)[:, : L - 1].flip(1)) for k, v in left.cache
                )
                left = left._replace(cache=newest)
            same(model.sleep(text(length), start, passes), SleepState(*left, position, 3), bits=True)


@every_config
def test_what_eviction_leaves(name: str) -> None:
    model = built(name)
    L, eviction = model.config.window, model.config.eviction
    state = lived(model)
    long = model.sleep(text(L), state, 3)
    short = model.sleep(text(1), state, 3)
    lengths = [k.shape[1] for k, _ in long.cache], [k.shape[1] for k, _ in short.cache]
    layers = model.config.blocks.count("attention")
    if eviction == "hard":
        assert lengths == ([0] * layers, [0] * layers)
        assert all(not t.any() for s in (long, short) for t in s.tails)
        assert long.position == short.position == 0
        assert all(t.any() for t in long.fast)
    elif eviction == "sliding":
        # state has L - 1 positions: those of the sleep before, pushed out by 3 tokens awake
        assert lengths == ([L - 1] * layers, [L - 1] * layers)
        for (k, v), (old_k, old_v) in zip(short.cache, state.cache, strict=True):
            if L > 1:
                assert torch.equal(k[:, :-1], old_k[:, 1:]) and torch.equal(v[:, :-1], old_v[:, 1:])
                assert not torch.equal(k[:, -1], old_k[:, -1])
        assert long.position == L + 3 + L
    else:
        assert lengths == ([L + 3 + L] * layers, [L + 3 + 1] * layers)
        for (k, v), (old_k, old_v) in zip(long.cache, state.cache, strict=True):
            assert torch.equal(k[:, : L + 3], old_k) and torch.equal(v[:, : L + 3], old_v)


def test_under_hard_eviction_a_reader_of_the_state_alone_repeats_the_sleep() -> None:
    """With carry="state", N passes are N sleeps of one pass: nothing but the fast weights goes over."""
    for name in ("carries the state", "memory alone"):
        model = built(name, carry="state")
        state = model.init_state(3)
        whole = model.sleep(text(WINDOW), state, 3)
        for _ in range(3):
            state = model.sleep(text(WINDOW), state, 1)
        same(whole, state)


# ----------------------------------------------------------------------------------------------- forward


@every_config
@pytest.mark.parametrize("passes", [0, 1, 3])
def test_forward_is_sleep_over_the_windows_and_then_a_wake(name: str, passes: int) -> None:
    model = built(name)
    L = model.config.window
    for context in (0, 1, L - 1, L, L + 1, 2 * L, 2 * L + 2):
        tokens = text(context + 4)
        out = model(tokens, context=context, passes=passes)
        state = model.init_state(3)
        for window in tokens[:, :context].split(L, dim=1) if context else ():
            state = model.sleep(window, state, passes)
        logits, state = model.wake(tokens[:, context:], state)
        assert out.loss is None and out.logits.shape == (3, 4, VOCAB)
        assert torch.equal(out.logits, logits)
        same(out.state, state, bits=True)


@every_config
def test_labels_are_not_shifted_and_minus_100_asks_nothing(name: str) -> None:
    model = built(name)
    tokens, labels = text(13), text(13, seed=4)
    asked = torch.zeros(3, 13, dtype=torch.bool)
    asked[0, 9] = asked[2, 8] = asked[2, 12] = True
    labels[:, 8:][~asked[:, 8:]] = -100
    out = model(tokens, context=8, labels=labels, passes=2)
    chances = out.logits.log_softmax(-1)
    by_hand = [-chances[b, t - 8, labels[b, t]] for b, t in asked.nonzero().tolist()]
    assert len(by_hand) == 3
    close(out.loss, torch.stack(by_hand).mean())
    # labels of the context are not looked at, whatever they are
    labels[:, :8] = 10**6
    assert torch.equal(model(tokens, context=8, labels=labels, passes=2).loss, out.loss)


@every_config
@pytest.mark.parametrize("context", [0, 7])
def test_changing_a_token_changes_no_logit_before_it(name: str, context: int) -> None:
    model = built(name)
    tokens = text(context + 8)
    before = model(tokens, context=context, passes=2).logits
    reached = 0
    for t in range(context + 8):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCAB
        after = model(changed, context=context, passes=2).logits
        first = max(0, t - context)
        assert torch.equal(after[:, :first], before[:, :first])
        reached += not torch.equal(after[:, first:], before[:, first:])
        if t >= context:
            assert (after[:, first] != before[:, first]).any(dim=-1).all()  # the token itself is always heard
    blind = name in ("attention alone", "sliding attention", "sliding window of 1")
    assert reached == context + 8 or blind


@every_config
def test_changing_a_token_of_the_wake_changes_no_logit_before_it(name: str) -> None:
    model = built(name)
    tokens, state = text(7), lived(model)
    before, _ = model.wake(tokens, state)
    for t in range(7):
        changed = tokens.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCAB
        after, _ = model.wake(changed, state)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t] != before[:, t]).any(dim=-1).all()


def test_gates_see_the_tokens_of_the_convolution_where_they_shall() -> None:
    """With keys, queries and values of the token alone, what came before reaches an empty memory by its gates only."""
    for conv_gates in (False, True):
        torch.manual_seed(0)
        layer = GatedDelta(8, 2, 4, 4, conv=3, conv_gates=conv_gates)
        with torch.no_grad():
            layer.taps[:-1, : 2 * (4 + 4 + 4)] = 0
            x = torch.randn(1, 2, 8)
            empty, nothing = layer.init_state(1)
            _, _, tail = layer(x[:, :1], empty, nothing)
            alone, after = (layer(x[:, 1:], empty, before)[0] for before in (nothing, tail))
        assert torch.equal(alone, after) is not conv_gates
