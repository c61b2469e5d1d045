"""Evaluation against the plainest way to do it, its budget, and the tables it is stored in."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from labkit import budget, results, tasks
from labkit import evaluate as evaluation
from labkit.budget import question_flops, sleep_flops, training_flops
from labkit.evaluate import EXAM_SEEDS, Evaluation, evaluate
from labkit.intervals import paired_difference, share_right
from labkit.models import SleepConfig, SleepLM
from labkit.tasks import Task

KINDS: dict[str, dict[str, Any]] = {
    "one window": {"kind": "depo", "nodes": 6, "hops": 3},
    "several windows": {"kind": "depo", "nodes": 6, "hops": 3, "window": 4},
    "automaton": {"kind": "rule110", "width": 6, "steps": 2},
    "two strings": {"kind": "rule110", "width": 5, "steps": 2, "strings": 2},
    "pairs": {"kind": "mqar", "pairs": 4, "keys": 5, "values": 4, "queries": 4},
}


def pair_of(kind: str, seed: int = 0, **changes: Any) -> tuple[SleepLM, Task]:
    """A small untrained model that answers only with tokens that can be answers, so some of it is right."""
    task = tasks.make(**KINDS[kind])
    torch.manual_seed(seed)
    model = SleepLM(SleepConfig(vocab=task.vocab, window=task.window, dim=16, repeat=1, **changes))
    possible = torch.zeros(task.vocab, dtype=torch.bool)
    possible[task.exam(50, torch.Generator().manual_seed(1)).answers.unique()] = True
    with torch.no_grad():
        # one direction says "an answer", and every hidden state is turned into it
        model.norm.weight[0] = 0.0
        model.head.weight[~possible] = 0.0
    return model.eval(), task


def plainly(model: SleepLM, task: Task, passes: int, n: int, seed: int) -> np.ndarray:
    """Every question of every instance by itself: sleep on its context, wake with it, look."""
    exam = task.exam(n, torch.Generator().manual_seed(EXAM_SEEDS + seed))
    right = np.zeros(exam.answers.shape, dtype=np.uint8)
    with torch.no_grad():
        for i in range(n):
            for j in range(exam.answers.shape[1]):
                state = model.init_state(1)
                for window in exam.context[i : i + 1].split(exam.window, dim=1):
                    state = model.sleep(window, state, passes)
                logits, _ = model.wake(exam.questions[i, j][None], state)
                right[i, j] = logits[0, -1].argmax() == exam.answers[i, j]
    return right


@pytest.mark.parametrize("eviction", ["hard", "sliding", "keep"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_asking_one_by_one_gives(kind: str, eviction: str) -> None:
    model, task = pair_of(kind, eviction=eviction)
    found = evaluate(model, task, (0, 1, 3), n=3, seed=2, batch=2)
    assert found.passes == (0, 1, 3) and found.correct.dtype == np.uint8
    for i, passes in enumerate(found.passes):
        assert np.array_equal(found.correct[i], plainly(model, task, passes, 3, 2)), passes
    assert found.correct.any(), "nothing was answered right, so nothing was compared"


@pytest.mark.parametrize("kind", ["one window", "several windows"])
def test_nothing_depends_on_how_it_is_cut(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, task = pair_of(kind)
    whole = evaluate(model, task, (0, 2), n=30, batch=30)
    cut = evaluate(model, task, (2, 0, 2), n=30, batch=7)
    monkeypatch.setattr(evaluation, "ROOM", {"cpu": 1})  # room for one row at a time
    narrow = evaluate(model, task, (0, 2), n=30)
    assert np.array_equal(whole.correct, cut.correct) and np.array_equal(whole.correct, narrow.correct)
    assert cut.passes == (0, 2)


def test_exams_are_the_same_for_every_model_and_none_of_the_training_seeds() -> None:
    drawn: list[torch.Tensor] = []

    class Watched(tasks.Depo):
        def exam(self, n: int, generator: torch.Generator, depths: Any = None) -> tasks.Exam:
            drawn.append(torch.tensor(generator.initial_seed()))
            return super().exam(n, generator, depths)

    for model_seed in (0, 1):
        model, _ = pair_of("one window", model_seed)
        evaluate(model, Watched(nodes=6, hops=3), (1,), n=2, seed=7, model_seed=model_seed)
    assert [int(s) for s in drawn] == [EXAM_SEEDS + 7] * 2
    assert EXAM_SEEDS > 1_000_000  # a recipe's seeds stay below


def test_the_model_is_left_as_it_was() -> None:
    model, task = pair_of("one window")
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    evaluate(model, task, (0, 1), n=4)
    assert torch.equal(torch.rand(1), expected) and model.training  # no global random number was drawn
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_state_that_overflows_answers_nothing() -> None:
    model, task = pair_of("one window")
    with torch.no_grad():
        model.embed.weight.fill_(torch.inf)
    assert not evaluate(model, task, (1,), n=5).correct.any()


def test_bad_requests_are_told() -> None:
    model, task = pair_of("one window")
    for passes in ((-1,), ()):
        with pytest.raises(ValueError, match="passes"):
            evaluate(model, task, passes)
    for bad in (1.0, True, "1"):
        with pytest.raises(TypeError, match="passes must be a whole number"):
            evaluate(model, task, (bad,))  # type: ignore[arg-type]
    for name in ("n", "batch"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1"):
            evaluate(model, task, (1,), **{name: 0})
    with pytest.raises(ValueError, match="give it its own task"):
        evaluate(model, tasks.make("depo", nodes=8, hops=3), (1,))
    with pytest.raises(ValueError, match="give it its own task"):
        evaluate(model, tasks.make("depo", nodes=6, hops=3, window=6), (1,))  # windows of another size


# ---------------------------------------------------------------- what it costs


def test_sleep_costs_by_the_pass_and_wake_does_not() -> None:
    for kind in ("one window", "several windows"):
        model, task = pair_of(kind)
        context = torch.zeros(task.context, dtype=torch.int64)
        once = sleep_flops(model, context, 1)
        assert once > 0 and [sleep_flops(model, context, n) for n in (0, 2, 5)] == [0, 2 * once, 5 * once]
        found = evaluate(model, task, (0, 1, 4), n=4)
        assert found.flops_sleep == (0, once, 4 * once)
        assert len(set(found.flops_wake)) == 1 and found.flops_wake[0] > 0
        assert found.seconds_sleep[2] > found.seconds_sleep[0] >= 0 and min(found.seconds_wake) > 0


@pytest.mark.parametrize("eviction", ["hard", "sliding", "keep"])
@pytest.mark.parametrize("pattern", [("attention", "delta"), ("lmm",), ("mac",), ("mag",), ("mal",)], ids="-".join)
def test_flops_of_many_windows_are_those_of_one_reading(pattern: tuple[str, ...], eviction: str) -> None:
    """Windows that cost alike are counted once; the ragged one at the end and open segments by themselves."""
    sizes = {"window": 12, "segment": 8, "chunk_size": 4, "dim": 8, "repeat": 1}
    config = SleepConfig(vocab=9, pattern=pattern, eviction=eviction, **sizes)  # type: ignore[arg-type]
    model, context = SleepLM(config), torch.zeros(12 * 7 + 5, dtype=torch.int64)
    with FlopCounterMode(display=False, custom_mapping=budget.CPU_KERNELS) as counter, torch.inference_mode():
        state = model.eval().init_state(1)
        for window in context[None].split(12, dim=1):
            state = model.sleep(window, state, 2)
    assert sleep_flops(model, context, 2) == counter.get_total_flops()
    batch = tasks.Needle(24, 2, window=12).batch(3, torch.Generator().manual_seed(0))
    whole = SleepLM(dataclasses.replace(config, vocab=tasks.Needle().vocab))
    assert training_flops(whole, batch, 1) > 2 * 3 * sleep_flops(whole, batch.tokens[0, :24], 1)


def test_flops_of_a_transformer_are_those_of_the_formula() -> None:
    task = tasks.make("depo", nodes=6, hops=3)
    model = SleepLM(SleepConfig(vocab=task.vocab, window=12, dim=16, pattern=("attention",), repeat=2))
    length, dim, hidden = 12, 16, 32
    layer = 2 * length * (4 * dim * dim + 3 * dim * hidden) + 4 * length * length * dim
    assert sleep_flops(model, torch.zeros(12, dtype=torch.int64), 1) == 2 * layer
    question = torch.zeros(1, 1, dtype=torch.int64)
    alone = 2 * (2 * (4 * dim * dim + 3 * dim * hidden) + 4 * dim) + 2 * dim * task.vocab
    assert question_flops(model, question, model.init_state(1)) == alone
    kept = SleepLM(dataclasses.replace(model.config, eviction="keep"))
    state = kept.sleep(torch.zeros(1, 12, dtype=torch.int64), kept.init_state(1), 1)
    assert question_flops(kept, question, state) == alone + 2 * 4 * 12 * dim  # the cache makes it dearer


def test_training_costs_about_three_times_the_forward_pass() -> None:
    model, task = pair_of("one window")
    batch = task.batch(8, torch.Generator().manual_seed(0))
    model.head.weight.grad = torch.ones_like(model.head.weight)
    counts = [training_flops(model, batch, n) for n in (1, 2, 3)]
    asked = batch.tokens.shape[1] - batch.context
    forward = sleep_flops(model, batch.tokens[0, : batch.context], 1) + question_flops(
        model, batch.tokens[:1, -asked:], model.init_state(1)
    )
    assert 2 * 8 * forward < counts[0] < 3.2 * 8 * forward
    assert training_flops(model, batch, (1, 3)) == sum(counts) // 3
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    assert all(p.grad is None for p in model.blocks.parameters())


# ---------------------------------------------------------------- tables


def made(seed: int, correct: np.ndarray, **changes: Any) -> Evaluation:
    """An evaluation with answers [P=3, n, Q=4] of our own: two depths, two questions each."""
    fields: dict[str, Any] = {
        "checkpoint": "tiny",
        "seed": seed,
        "weights": "0123456789ab" + "f" * 52,
        "exam": seed,
        "passes": (0, 1, 4),
        "depth": np.array([1, 1, 2, 2]),
        "group": np.array([0, 0, 1, 1]),
        "correct": correct.astype(np.uint8),
        "floors": {1: 0.25, 2: 0.5},
        "flops_sleep": (0, 100, 400),
        "flops_wake": (7, 7, 7),
        "seconds_sleep": (0.0, 0.001, 0.004),
        "seconds_wake": (0.001, 0.001, 0.001),
    }
    return Evaluation(**(fields | changes))


@pytest.fixture
def three() -> list[Evaluation]:
    """Three seeds that grow better with N."""
    draw = np.random.default_rng(0)
    level = np.array([0.2, 0.5, 0.9])[:, None, None]
    return [made(seed, draw.random((3, 200, 4)) < level) for seed in range(3)]


def test_rows_are_counted_from_the_answers(three: list[Evaluation]) -> None:
    rows = results.table(three)
    assert len(rows) == (3 + 1) * 3 * 2
    row = rows[(rows["seed"] == "1") & (rows["passes"] == 4) & (rows["depth"] == 2)].iloc[0]
    answers = three[1].correct[2][:, 2:]
    assert (row["n"], row["asked"], row["correct"]) == (200, 400, answers.sum())
    assert tuple(row[["accuracy", "low", "high"]]) == share_right(answers)
    assert row["whole"] == answers.all(axis=1).mean() < row["accuracy"]
    assert row["previous"] == 1 and row["floor"] == 0.5 and row["flops_sleep"] == 400
    against = paired_difference(three[1].correct[1][:, 2:], answers)
    assert tuple(row[["gain", "gain_low", "gain_high"]]) == against
    assert tuple(row[["vs_one", "vs_one_low", "vs_one_high"]]) == against
    assert against.low > 0.2
    first = rows[(rows["seed"] == "1") & (rows["passes"] == 0) & (rows["depth"] == 2)].iloc[0]
    assert np.isnan(first["gain"]) and first["vs_one"] < 0


def test_the_pooled_row_is_the_mean_over_seeds(three: list[Evaluation]) -> None:
    rows = results.table(three)
    pooled = rows[rows["seed"] == "all"].set_index(["passes", "depth"])
    single = rows[rows["seed"] != "all"].groupby(["passes", "depth"])
    assert np.allclose(pooled["accuracy"], single["accuracy"].mean())
    assert np.allclose(pooled["gain"].dropna(), single["gain"].mean().dropna())
    assert (pooled["n"] == 600).all() and (pooled["correct"] == single["correct"].sum()).all()
    assert (pooled["low"] < pooled["accuracy"]).all() and (pooled["accuracy"] < pooled["high"]).all()
    assert (pooled.loc[4]["gain_low"] > 0.2).all() and (
        pooled.loc[4]["whole"] < pooled.loc[4]["accuracy"]
    ).all()


def test_what_is_stored_comes_back(three: list[Evaluation], tmp_path: Path) -> None:
    path = tmp_path / "results" / "tiny.csv"
    rows = results.store(three, path)
    back = results.read(path)
    assert sorted(p.name for p in path.parent.iterdir()) == ["tiny.csv", "tiny.npz"]
    assert list(back.columns) == list(rows.columns) and list(back["seed"].unique()) == ["0", "1", "2", "all"]
    assert np.allclose(back["accuracy"], rows["accuracy"], atol=1e-5)
    assert "At depth 2, N=4 against N=1" in results.report(back)
    kept = results.load_answers(path)
    assert np.array_equal(kept["correct"], np.stack([one.correct for one in three]))
    again = paired_difference(kept["correct"][0, 1][:, :2], kept["correct"][0, 2][:, :2])
    row = back[(back["seed"] == "0") & (back["passes"] == 4) & (back["depth"] == 1)].iloc[0]
    assert np.allclose(tuple(again), tuple(row[["gain", "gain_low", "gain_high"]]), atol=1e-5)
    assert kept["seeds"].tolist() == [0, 1, 2] and str(kept["checkpoint"]) == "tiny"


def test_a_kill_while_storing_leaves_the_old_table(
    three: list[Evaluation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.store(three[:1], tmp_path / "tiny.csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        results.store(three, tmp_path / "tiny.csv")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_report_shows_what_was_counted(three: list[Evaluation]) -> None:
    text = results.report(results.table(three))
    rows = results.table(three).set_index(["seed", "passes", "depth"])
    assert f"{rows.loc[('all', 4, 2), 'accuracy']:.3f}" in text and "seed 0, 1, 2" in text
    assert "floor" in text and "whole" in text and "At depth 2, N=4 against N=1: +0." in text
    one = results.report(results.table(three[:1]))
    assert f"{rows.loc[('0', 4, 2), 'accuracy']:.3f}" in one
    plain = made(0, three[0].correct, group=np.arange(4), passes=(0, 2, 3))
    assert "whole" not in results.table([plain]) and "N=1" not in results.report(results.table([plain]))


def test_rule_110_rows_are_right_only_when_every_cell_is() -> None:
    model, task = pair_of("two strings")
    found = evaluate(model, task, (1,), n=40)
    assert found.has_wholes and found.answers(1, 2).shape == (40, 10)
    cells = found.answers(1, 2).reshape(40, 2, 5)  # string by string, cell by cell
    assert np.array_equal(found.wholes(1, 2), cells.all(axis=2))
    assert found.wholes(1, 1).any() or found.wholes(1, 2).any()


def test_what_makes_no_table_is_refused(three: list[Evaluation], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no evaluation"):
        results.table([])
    with pytest.raises(ValueError, match="make no common table"):
        results.table([three[0], made(1, three[0].correct, passes=(0, 1, 5))])
    with pytest.raises(ValueError, match="A seed comes twice"):
        results.table([three[0], three[0]])
    with pytest.raises(ValueError, match=r"ends in \.csv"):
        results.store(three, tmp_path / "tiny.txt")
    for call in (results.read, results.load_answers):
        with pytest.raises(FileNotFoundError, match="`labkit evaluate` makes them"):
            call(tmp_path / "nowhere.csv")
