"""A state is a value: never changed, deaf to other rows of its batch, kept on disk, transplanted."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from labkit import SleepState

from sleepers import VOCAB, WINDOW, built, close, every_config, lived, same, tensors, text

pytestmark = pytest.mark.usefixtures("no_gradients_unless_asked")


@every_config
def test_no_state_is_ever_changed(name: str) -> None:
    model = built(name)
    weights = {key: t.clone() for key, t in model.state_dict().items()}
    for state in (model.init_state(3), lived(model)):
        copy = state.clone()
        model.sleep(text(model.config.window), state, 3)
        model.wake(text(4), state)
        list(model.sleep_steps(text(1), state, 2))
        model(text(9), context=5, passes=2)
        same(state, copy, bits=True)
        with pytest.raises(dataclasses.FrozenInstanceError):
            state.position = 7  # type: ignore[misc]
    assert all(torch.equal(t, weights[key]) for key, t in model.state_dict().items())  # and no weight moves


def poisoned(state: SleepState, poison: float) -> SleepState:
    """The same first row; `poison` everywhere else."""

    def spoil(t: Tensor) -> Tensor:
        t = t.clone()
        t[1:] = poison
        return t

    return state.map(spoil)


@every_config
@pytest.mark.parametrize("poison", [3.0, math.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rows_of_a_batch_do_not_hear_each_other(name: str, poison: float, dtype: torch.dtype) -> None:
    model = built(name, dtype)
    window, question, state = text(model.config.window), text(4, seed=1), lived(model)
    others = [window.clone(), question.clone()]
    for t in others:
        t[1:] = text(t.shape[1], 2, seed=8)
    for n in (0, 1, 3):
        slept = model.sleep(window, state, n)
        logits, awake = model.wake(question, slept)
        assert logits.isfinite().all()
        other_slept = model.sleep(others[0], poisoned(state, poison), n)
        other_logits, other_awake = model.wake(others[1], other_slept)
        assert torch.equal(logits[0], other_logits[0])
        only = torch.tensor([0])
        same(slept.select(only), other_slept.select(only), bits=True)
        same(awake.select(only), other_awake.select(only), bits=True)
        if poison != 3.0 and ("delta" in model.config.blocks or (n and model.config.eviction != "hard")):
            assert not other_logits[1].isfinite().all()  # the poison was read, in its own row


@every_config
def test_saving_and_loading_changes_no_bit(name: str, tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.float64):
        model = built(name, dtype)
        one = model.wake(text(1, 1), model.init_state(1))[1]
        for state in (model.init_state(3), lived(model), model.sleep(text(1), lived(model), 2), one):
            state.save(tmp_path / "state")
            again = SleepState.load(str(tmp_path / "state"))
            same(again, state, bits=True)
            question = text(3, state.batch_size)
            assert torch.equal(model.wake(question, again)[0], model.wake(question, state)[0])
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_state_knows_its_size_and_travels() -> None:
    model = built("sliding")
    state = lived(model)
    assert state.nbytes == sum(t.numel() * 8 for t in tensors(state))
    assert model.config.state_size == sum(t[0].numel() for t in state.fast)
    narrow = state.to(torch.float32)
    assert {t.dtype for t in tensors(narrow)} == {torch.float32} and narrow.position == state.position
    copy = state.clone()
    copy.fast[0].zero_()
    assert state.fast[0].any()
    with torch.enable_grad():
        _, live = model.wake(text(2), state)
    assert all(t.requires_grad for t in live.fast)
    assert not any(t.requires_grad for t in tensors(live.detach()))
    same(live.detach(), live, bits=True)


@every_config
def test_answers_depend_on_the_state_alone(name: str) -> None:
    """Transplant: swap sleepers' states, and the answers are swapped. One state takes many questions."""
    model = built(name)
    question = text(3, 1).expand(3, -1)
    state = lived(model)
    logits, _ = model.wake(question, state)
    swap = torch.tensor([2, 0, 1])
    swapped, after = model.wake(question, state.select(swap))
    close(swapped, logits[swap])
    same(after, model.wake(question, state)[1].select(swap))
    many = state.select(torch.tensor([1, 1, 1, 0, 1]))
    assert many.batch_size == 5
    answers, _ = model.wake(question[:1].expand(5, -1), many)
    close(answers, logits[[1, 1, 1, 0, 1]])
    if any(t.numel() for t in tensors(state)):
        assert not torch.equal(logits[0], logits[1])


@every_config
def test_a_sequence_alone_equals_itself_in_a_batch(name: str) -> None:
    model = built(name)
    together = model(text(12), context=8, passes=2)
    for row in range(3):
        alone = model(text(12)[row : row + 1], context=8, passes=2)
        close(alone.logits[0], together.logits[row])
        same(alone.state, together.state.select(torch.tensor([row])))


@every_config
def test_empty_batches_and_empty_texts(name: str) -> None:
    model = built(name)
    nobody = text(4, 0)
    slept = model.sleep(nobody[:, : model.config.window], model.init_state(0), 2)
    assert model.wake(nobody, slept)[0].shape == (0, 4, VOCAB)
    state = lived(model)
    logits, after = model.wake(text(0), state)
    assert logits.shape == (3, 0, VOCAB)
    same(after, state, bits=True)
    assert all(torch.equal(a, b) for a, b in zip(model.sleep(text(0), state, 2).fast, state.fast, strict=True))
    assert model(text(5), context=5).logits.shape == (3, 0, VOCAB)


def test_the_same_weights_under_another_habit() -> None:
    model = built("hybrid twice")
    other = model.with_config(carry="state", reinject=False)
    assert other.config.carry == "state" and model.config.carry == "both" and model.config.reinject
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    state = model.init_state(3)
    same(other.sleep(text(WINDOW), state, 1), model.sleep(text(WINDOW), state, 1), bits=True)
    assert not torch.equal(other.sleep(text(WINDOW), state, 2).fast[1], model.sleep(text(WINDOW), state, 2).fast[1])
    with pytest.raises(ValueError, match="eviction cannot be changed on trained weights"):
        model.with_config(eviction="keep")
