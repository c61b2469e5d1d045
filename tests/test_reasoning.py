"""Answers with thought: what is written is the model's own, and scored step by step."""

from __future__ import annotations

import pytest
import torch

from labkit.evaluate import fall_asleep
from labkit.models import SleepConfig, SleepLM
from labkit.reasoning import reason, write_chains
from labkit.tasks import DepoForetold, DepoThinking, Rule110Thinking, Thinking

TASKS = [
    *[DepoThinking(nodes=6, hops=3, queries=4, trace=trace) for trace in ("even", "single", "filler", "loops")],
    DepoThinking(nodes=6, hops=3, window=9),
    Rule110Thinking(width=5, steps=2, queries=6, thoughts=2),
]


def model_for(task: Thinking, seed: int = 0) -> SleepLM:
    torch.manual_seed(seed)
    return SleepLM(SleepConfig(vocab=task.vocab, window=task.window, dim=16, repeat=1)).eval()


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_chains_are_those_of_one_question_after_the_other(task: Thinking) -> None:
    """The slow form: every token alone, every question from its own copy of the state."""
    model, thought = model_for(task), 2
    exam = task.announced(task.exam(3, torch.Generator().manual_seed(1)), thought)
    found = write_chains(model, task, exam, fall_asleep(model, exam.context, 2), thought)
    for n in range(3):
        for q in range(0, exam.depth.shape[1], 5):
            state = model.init_state(1)
            for window in exam.context[n : n + 1].split(task.window, dim=1):
                state = model.sleep(window, state, passes=2)
            tokens, loops = exam.questions[n : n + 1, q], 2 if task.trace == "loops" else 0
            if task.trace == "filler":
                tokens = torch.cat([tokens, torch.full((1, 2), task.filler)], dim=1)
            written: list[int] = []
            for _ in range(2 * task.piece + 1 if task.writes else 1):
                whole = torch.cat([tokens, torch.tensor([written], dtype=torch.int64)], dim=1)
                logits, _ = model.wake(whole, state, loops)
                written.append(int(logits[0, -1].argmax()))
            assert found[n, q].tolist() == written


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_what_is_scored_is_what_was_written(task: Thinking) -> None:
    model = model_for(task)
    answers = reason(model, task, 1, 2, n=7, exam=3, batch=3)
    steps = 3 if task.writes else 1
    assert answers.right.shape == answers.taught.shape == (7, len(answers.depth), steps)
    whole = reason(model, task, 1, 2, n=7, exam=3)
    assert (answers.right == whole.right).all() and (answers.taught == whole.taught).all()
    assert (answers.right[..., 0] == answers.taught[..., 0]).all()  # nothing stands before the first step
    assert sum(answers.by_depth().values()) == answers.right[..., -1].sum()


def test_right_steps_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that knows everything: logits that point at the true chain."""
    task = DepoThinking(nodes=6, hops=3, queries=4)
    model = model_for(task)
    exam = task.announced(task.exam(4, torch.Generator().manual_seed(1_100_000_000)), 3)
    chains = torch.cat([task.written(exam, 3).flatten(2), exam.answers[..., None]], dim=-1).flatten(0, 1)
    calls = iter(range(100))

    def wake(tokens: torch.Tensor, state: object, loops: int = 0) -> tuple[torch.Tensor, object]:
        logits = torch.zeros(*tokens.shape, task.vocab)
        call = next(calls)
        if call < 4:  # the chain, token by token; then once with the true steps given
            logits[range(len(tokens)), -1, chains[:, call]] = 1.0
        return logits, state

    monkeypatch.setattr(model, "wake", wake)
    monkeypatch.setattr("labkit.reasoning.chain_flops", lambda *_: 0)
    found = reason(model, task, 1, 3, n=4)
    assert found.right.all() and not found.taught.all()


def test_an_overflowed_state_answers_nothing() -> None:
    task = DepoThinking(nodes=6, hops=3, queries=4)
    model = model_for(task)
    with torch.no_grad():
        model.head.weight.fill_(float("inf"))
    assert not reason(model, task, 1, 1, n=4).right.any()


def test_without_thought_it_answers_as_evaluate_does() -> None:
    from labkit.evaluate import evaluate

    task = DepoThinking(nodes=6, hops=3, queries=4)
    model = model_for(task)
    asked = evaluate(model, task, (2,), 20, 5)
    assert (reason(model, task, 2, 0, n=20, exam=5).right[..., 0] == asked.correct[0]).all()


def test_loops_see_nothing_of_what_comes_after() -> None:
    """Changing token t changes no logit before t, however often the tokens are read."""
    task = DepoThinking(nodes=6, hops=3, trace="loops")
    model = model_for(task)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, task.vocab, (2, 9), generator=generator)
    state = model.sleep(tokens, model.init_state(2), passes=2)
    before, _ = model.wake(tokens, state, loops=3)
    for t in range(1, 9):
        other = tokens.clone()
        other[:, t] = (other[:, t] + 1) % task.vocab
        after, _ = model.wake(other, state, loops=3)
        assert torch.allclose(before[:, :t], after[:, :t], atol=1e-6)
        assert not torch.allclose(before[:, t:], after[:, t:], atol=1e-4)


def test_no_loops_is_an_ordinary_wake() -> None:
    task = DepoThinking(nodes=6, hops=3)
    model = model_for(task)
    tokens = torch.randint(0, task.vocab, (2, 9), generator=torch.Generator().manual_seed(0))
    state = model.init_state(2)
    assert torch.equal(model.wake(tokens, state)[0], model.wake(tokens, state, 0)[0])
    assert not torch.allclose(model.wake(tokens, state)[0], model.wake(tokens, state, 1)[0], atol=1e-4)
    with pytest.raises(ValueError, match="loops must be at least 0"):
        model.wake(tokens, state, -1)


def test_a_question_asked_before_sleep_has_a_sleep_of_its_own() -> None:
    task = DepoForetold(nodes=6, hops=3, thoughts=1)
    model = model_for(task)
    found = reason(model, task, 2, 1, n=4, asked="before")
    exam = task.announced(task.exam(4, torch.Generator().manual_seed(1_100_000_000)), 1)
    for q in range(exam.depth.shape[1]):
        context = torch.cat([exam.questions[:, q], exam.context[:, 3:]], dim=1)
        state = model.sleep(context, model.init_state(4), 2)
        written = write_chains(model, task, exam.pick(torch.full((4, 1), q)), state, 1)[:, 0, -1]
        assert ((written == exam.answers[:, q]).numpy() == found.right[:, q, -1]).all()
    assert found.right.shape == reason(model, task, 2, 1, n=4).right.shape


def test_only_some_tasks_can_be_asked_before_sleep() -> None:
    for asked, task in (("before", TASKS[0]), ("during", DepoForetold(nodes=6, hops=3))):
        with pytest.raises(ValueError, match="depo-foretold knows both ways"):
            reason(model_for(task), task, 1, 0, n=2, asked=asked)
