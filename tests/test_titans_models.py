"""LMM, MAC, MAG and MAL: what Titans' architectures promise as layers and as language models."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.checks import relative_error
from labkit.memory import NeuralMemory
from labkit.models import SleepConfig, SleepLM, SleepState
from labkit.models.config import TITANS
from labkit.models.layers import rotate
from labkit.models.titans import SegmentAttention, Titans

VOCAB = 11
each_kind = pytest.mark.parametrize("kind", TITANS)


def small(kind: str, **settings: Any) -> SleepConfig:
    given = {"window": 16, "dim": 16, "heads": 2, "repeat": 2, "segment": 8, "chunk_size": 4} | settings
    return SleepConfig(vocab=VOCAB, pattern=(kind,), **given)


def model_of(kind: str, **settings: Any) -> SleepLM:
    torch.manual_seed(0)
    return SleepLM(small(kind, **settings)).double().eval().requires_grad_(False)


def tokens(batch: int = 2, length: int = 37, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def apart(a: SleepState, b: SleepState) -> float:
    """The largest relative error over everything that two states hold."""
    pairs = [*zip(a.fast, b.fast, strict=True), *zip(a.tails, b.tails, strict=True)]
    pairs += [pair for one, two in zip(a.cache, b.cache, strict=True) for pair in zip(one, two, strict=True)]
    return max(relative_error(x, y) for x, y in pairs)


# ------------------------------------------------------------------------------------------------- language models


@each_kind
@pytest.mark.parametrize("write", ["attended", "input"])
def test_no_token_changes_what_was_said_before_it(kind: str, write: str) -> None:
    model, x = model_of(kind, write=write), tokens()
    wanted, _ = model.wake(x, model.init_state(2))
    for t in (0, 3, 4, 7, 8, 9, 20, 36):
        changed = x.clone()
        changed[:, t] = (changed[:, t] + 1) % VOCAB
        logits, _ = model.wake(changed, model.init_state(2))
        assert torch.equal(logits[:, :t], wanted[:, :t])
        assert not torch.equal(logits[:, t], wanted[:, t])


@each_kind
def test_what_was_read_reaches_beyond_attention(kind: str) -> None:
    """A token changes logits many segments later: the way there leads through the memory."""
    model, x = model_of(kind), tokens()
    changed = x.clone()
    changed[:, 1] = (changed[:, 1] + 1) % VOCAB
    after = [model.wake(one, model.init_state(2))[0][:, -1] for one in (x, changed)]
    assert relative_error(*after) > 1e-9


@each_kind
@pytest.mark.parametrize("cuts", [(1,), (8, 16), (5, 5, 13, 29)], ids=str)
def test_waking_goes_on_wherever_a_text_is_cut(kind: str, cuts: tuple[int, ...]) -> None:
    model, x = model_of(kind), tokens()
    whole, at_end = model.wake(x, model.init_state(2))
    state, parts = model.init_state(2), []
    for first, last in itertools.pairwise((0, *cuts, 37)):
        logits, state = model.wake(x[:, first:last], state)
        parts.append(logits)
    assert relative_error(torch.cat(parts, dim=1), whole) < 1e-11
    assert apart(state, at_end) < 1e-11 and state.position == at_end.position == 37


@each_kind
@pytest.mark.parametrize("eviction", ["hard", "sliding"])
def test_one_pass_of_sleep_leaves_the_fast_weights_of_waking(kind: str, eviction: str) -> None:
    model, x = model_of(kind, eviction=eviction), tokens(length=16)
    slept = model.sleep(x, model.init_state(2), passes=1)
    _, awake = model.wake(x, model.init_state(2))
    assert all(torch.equal(a, b) for a, b in zip(slept.fast, awake.fast, strict=True))
    more = model.sleep(x, model.init_state(2), passes=3)
    assert not torch.equal(more.fast[0], slept.fast[0])
    none = model.sleep(x, slept, passes=0)
    assert all(torch.equal(a, b) for a, b in zip(none.fast, slept.fast, strict=True)) and none.position == 0


@each_kind
def test_forward_is_sleep_then_wake(kind: str) -> None:
    model, x = model_of(kind), tokens()
    out = model(x, context=32, passes=2)
    state = model.init_state(2)
    for window in x[:, :32].split(16, dim=1):
        state = model.sleep(window, state, passes=2)
    assert torch.equal(out.logits, model.wake(x[:, 32:], state)[0])


@each_kind
def test_sliding_sleep_over_windows_is_streaming(kind: str) -> None:
    """Windows are multiples of segments, so nothing that attention would have seen is lost."""
    model, x = model_of(kind, eviction="sliding"), tokens()
    out = model(x, context=32, passes=1)
    whole, _ = model.wake(x, model.init_state(2))
    assert relative_error(out.logits, whole[:, 32:]) < 1e-11


@each_kind
@pytest.mark.parametrize("other", ["tokens", "nan"])
def test_rows_of_a_batch_do_not_meet(kind: str, other: str) -> None:
    model = model_of(kind).float()
    x = tokens(3)
    state = model.sleep(x[:, :16], model.init_state(3), passes=2)
    wanted, _ = model.wake(x[:, 16:], state)
    if other == "nan":
        rows = torch.tensor([1.0, float("nan"), 1.0])
        state = state.map(lambda t: t * rows.view(-1, *[1] * (t.ndim - 1)))
    else:
        x = x.clone()
        x[1] = (x[1] + 3) % VOCAB
        state = model.sleep(x[:, :16], model.init_state(3), passes=2)
    found, _ = model.wake(x[:, 16:], state)
    assert torch.equal(found[::2], wanted[::2]) and not torch.equal(found[1], wanted[1])


@each_kind
def test_the_state_can_be_kept(kind: str, tmp_path: Any) -> None:
    model, x = model_of(kind), tokens()
    _, state = model.wake(x[:, :13], model.init_state(2))
    state.save(tmp_path / "state.safetensors")
    again = SleepState.load(tmp_path / "state.safetensors")
    assert torch.equal(model.wake(x[:, 13:], again)[0], model.wake(x[:, 13:], state)[0])
    assert sum(t[0].numel() for t in state.fast) == model.config.state_size


@each_kind
def test_all_weights_learn(kind: str) -> None:
    torch.manual_seed(0)
    model, x = SleepLM(small(kind)), tokens()
    labels = x.roll(-1, dims=1)
    model(x, context=16, labels=labels, passes=2).loss.backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


# --------------------------------------------------------------------------------------------- attention and its parts


def test_segment_attention_is_softmax_over_all_it_may_see() -> None:
    """Against plain loops: persistent tokens without a position, tokens and what was retrieved up to each, a cache."""
    torch.manual_seed(0)
    attention = SegmentAttention(8, 2, persistent=2, reach=None).double().requires_grad_(False)
    x, h = torch.randn(2, 1, 5, 8, dtype=torch.float64)
    first, cache = attention(x[:, :2], (attention.empty(1), attention.empty(1)), h[:, :2])
    second, _ = attention(x[:, 2:], cache, h[:, 2:])
    found = torch.cat([first, second], dim=1)[0]

    def turned(vector: Tensor, position: int) -> Tensor:
        return rotate(vector.view(1, 1, 2, 4), position)[0, 0]

    for t in range(5):
        q = attention.query(x[0, t])
        mixed = []
        for head in range(2):
            scores, values = [], []
            for stream in (x, h):
                for s in range(t + 1):
                    key = turned(attention.key(stream[0, s]), s)[head]
                    scores.append(turned(q, t)[head] @ key / 2.0)
                    values.append(attention.value(stream[0, s]).view(2, 4)[head])
            for token in attention.persistent:
                scores.append(q.view(2, 4)[head] @ attention.key(token).view(2, 4)[head] / 2.0)
                values.append(attention.value(token).view(2, 4)[head])
            mixed.append(torch.stack(scores).softmax(0) @ torch.stack(values))
        assert torch.allclose(found[t], attention.out(torch.cat(mixed)), atol=1e-12, rtol=0)


def test_a_sliding_window_reaches_so_far() -> None:
    torch.manual_seed(0)
    attention = SegmentAttention(8, 2, persistent=1, reach=3).double().requires_grad_(False)
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    wanted, _ = attention(x, (attention.empty(1),))
    changed = x.clone()
    changed[:, 1] += 1
    found, _ = attention(changed, (attention.empty(1),))
    same = [torch.equal(found[:, t], wanted[:, t]) for t in range(6)]
    assert same == [True, False, False, False, True, True]


@each_kind
def test_an_architecture_is_its_equations(kind: str) -> None:
    """Written out once more from the memory, the attention and the gate, segment by segment and token by token."""
    torch.manual_seed(0)
    mixer = Titans(kind, small(kind)).double().requires_grad_(False)
    x = torch.randn(2, 20, 16, dtype=torch.float64)
    found, _ = mixer(x, mixer.init_state(2), 0)
    memory, state, wanted = mixer.memory, mixer.memory.init_state(2), []
    if kind == "mac":  # equations 21 to 25
        for part in x.split(8, dim=1):
            h = memory.recall(part, state.weights)
            y, _ = mixer.attention(part, (mixer.attention.empty(2), mixer.attention.empty(2)), h)
            m, state = memory(y, state)
            wanted.append(torch.sigmoid(mixer.attended_norm(y)) * mixer.recalled_norm(m))
    else:
        m, _ = memory(x, state)
        seen = m if kind == "mal" else x
        for t in range(20) if kind != "lmm" else ():  # a window of 8 tokens, looked at one token at a time
            window = seen[:, max(0, t - 7) : t + 1]
            y = mixer.attention(window, (mixer.attention.empty(2),))[0][:, -1:]
            if kind == "mag":  # equations 26 to 28
                y = torch.sigmoid(mixer.attended_norm(y)) * mixer.recalled_norm(m[:, t : t + 1])
            wanted.append(y)
        wanted = wanted or [m]
    assert relative_error(found, torch.cat(wanted, dim=1)) < 1e-12


@pytest.mark.parametrize("pattern", [*((kind,) for kind in TITANS), ("delta",)], ids="-".join)
def test_an_untrained_memory_finds_what_followed_a_token_under_it(
    pattern: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of a token looks most like the query of the one before: so its value is found under that one."""
    torch.manual_seed(0)
    model = SleepLM(SleepConfig(vocab=VOCAB, window=16, dim=64, pattern=pattern, associative=True))
    normalised: list[Tensor] = []
    real = F.normalize
    monkeypatch.setattr(F, "normalize", lambda t, **kwargs: (normalised.append(real(t, **kwargs)), normalised[-1])[1])
    for block in model.blocks:
        memory = block.mixer if pattern == ("delta",) else block.mixer.memory
        memory(F.rms_norm(torch.randn(1, 12, 64), (64,)), *(memory.init_state(1) if pattern == ("delta",) else ()))
        q, k = normalised[-2:]
        alike = torch.einsum("thd,shd->ts", q[0], k[0])  # of query t and key s
        assert (alike[3:-1].argmax(dim=1) == torch.arange(4, 12)).float().mean() > 0.8


@each_kind
def test_a_later_pass_begins_where_the_last_one_ended(kind: str) -> None:
    """Also with a chunk left open before: a second pass takes its gradients at the weights that the first one left."""
    model, x = model_of(kind, eviction="sliding"), tokens()
    _, before = model.wake(x[:, :2], model.init_state(2))
    once = model.sleep(x[:, 2:7], before, passes=1)
    asked: list[Tensor] = []
    mixer = model.blocks[0].mixer
    mixer.memory.register_forward_pre_hook(lambda m, args: asked.append(args[1]))
    model.sleep(x[:, 2:7], before, passes=2)
    first, second = asked[0], asked[len(asked) // 2]
    assert first.position == second.position == 2
    assert not torch.equal(first.weights[0], first.anchor[0]), "the chunk was open"
    assert torch.equal(second.weights[0], once.fast[0]) and torch.equal(second.anchor[0], once.fast[0])


@each_kind
def test_a_model_in_bfloat16_goes_on_too(kind: str) -> None:
    torch.manual_seed(0)
    model, x = SleepLM(small(kind)).bfloat16().requires_grad_(False), tokens()
    _, state = model.wake(x[:, :13], model.init_state(2))
    logits, state = model.wake(x[:, 13:], state)
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()
    assert {t.dtype for t in state.fast} == {torch.float32}


@each_kind
def test_a_row_of_a_batch_is_what_it_is_alone(kind: str) -> None:
    torch.manual_seed(0)
    model, x = SleepLM(small(kind)).requires_grad_(False), tokens(5)
    together, _ = model.wake(x, model.init_state(5))
    for i in range(5):
        alone, _ = model.wake(x[i : i + 1], model.init_state(1))
        # products are rounded otherwise in a larger batch, and a memory passes that on
        assert relative_error(together[i : i + 1], alone) < 1e-5


def test_the_page_about_titans_names_tests_and_lines_that_exist() -> None:
    root = Path(__file__).parent
    page = (root.parent / "labkit" / "models" / "titans.md").read_text(encoding="utf-8")
    tests = "".join((root / name).read_text(encoding="utf-8") for name in ("test_titans.py", "test_titans_models.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert len(set(named)) > 8 and [name for name in named if f"def {name}(" not in tests] == []
    code = "".join(
        (root.parent / path).read_text(encoding="utf-8")
        for path in ("labkit/models/titans.py", "kernels/titans/recurrent.py", "kernels/titans/chunked.py")
    )
    lines = re.findall(r"`((?:retrieved|written|velocity|weights|_gated)[^`]*)`", page)
    assert len(lines) >= 5 and [line for line in lines if line.removesuffix("...").strip() not in code] == []


def test_a_token_does_not_see_what_was_retrieved_with_a_later_one() -> None:
    torch.manual_seed(0)
    attention = SegmentAttention(8, 2, persistent=1, reach=None).double().requires_grad_(False)
    x, h = torch.randn(2, 1, 5, 8, dtype=torch.float64)
    empty = (attention.empty(1), attention.empty(1))
    wanted, _ = attention(x, empty, h)
    changed = h.clone()
    changed[:, 3] += 1
    found, _ = attention(x, empty, changed)
    assert torch.equal(found[:, :3], wanted[:, :3]) and not torch.equal(found[:, 3], wanted[:, 3])


def test_what_mac_writes_is_what_attention_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    for write in ("attended", "input"):
        torch.manual_seed(0)
        mixer = Titans("mac", small("mac", write=write)).requires_grad_(False)
        written: list[Tensor] = []
        attended: list[Tensor] = []
        mixer.memory.register_forward_hook(lambda m, args, out, kept=written: kept.append(args[0]))
        mixer.attention.register_forward_hook(lambda m, args, out, kept=attended: kept.append(out[0]))
        x = torch.randn(1, 20, 16)
        mixer(x, mixer.init_state(1), 0)
        assert [w.shape[1] for w in written] == [8, 8, 4], "segment by segment"
        assert torch.equal(torch.cat(written, 1), torch.cat(attended, 1) if write == "attended" else x)


def test_mac_retrieves_from_the_memory_before_the_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    mixer = Titans("mac", small("mac")).requires_grad_(False)
    asked: list[tuple[Tensor, ...]] = []
    real = NeuralMemory.recall
    monkeypatch.setattr(
        NeuralMemory, "recall", lambda self, x, weights: (asked.append(weights), real(self, x, weights))[1]
    )
    x = torch.randn(1, 20, 16)
    _, after_first = mixer(x[:, :8], mixer.init_state(1), 0)
    mixer(x[:, 8:13], after_first, 8)
    assert len(asked) == 2 and all(torch.equal(a, b) for a, b in zip(asked[1], after_first.fast, strict=False))
    # in the middle of a segment too, it is the memory before the segment that is asked
    _, inside = mixer(x[:, 8:11], after_first, 8)
    mixer(x[:, 11:13], inside, 11)
    assert all(torch.equal(a, b) for a, b in zip(asked[-1], after_first.fast, strict=False))
    assert not torch.equal(asked[-1][0], inside.fast[0])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"segment": 6}, "segment=6 must be a multiple of chunk_size=4 and at most window=16"),
        ({"segment": 20}, "segment=20 must be a multiple of chunk_size=4 and at most window=16"),
        ({"write": "both"}, "write must be one of"),
        ({"persistent": -1}, "persistent must be a whole number of at least 0"),
        ({"chunk_size": 0}, "chunk_size must be a whole number of at least 1"),
        ({"momentum": 1}, "momentum must be True or False"),
        ({"max_step": -1.0}, "max_step must be a finite number above 0"),
        ({"memory_layers": 5}, "memory_layers=5 must be at most 4"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        small("mac", **wrong)


@pytest.mark.parametrize("limit", ["a", True, 0.0])
def test_a_limit_that_bounds_nothing_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match="limit must be a finite number above 0, or None for none, but it is"):
        NeuralMemory(16, limit=limit)


def test_without_persistent_tokens_a_model_reads_too() -> None:
    model = model_of("mag", persistent=0)
    assert model.wake(tokens(), model.init_state(2))[0].isfinite().all()
