"""Sleep by hand, the reach, exchanged memories, ablations: what notebook 02 measures, against slower ways to it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from untrained import RECIPE, furnish

from labkit import results
from labkit.evaluate import evaluate
from labkit.explore import ablation, byhand, learning, reaching, steps, transplant
from labkit.explore.mind import Sleeper, reach
from labkit.tasks import Depo


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return furnish(tmp_path, monkeypatch)


def test_sleep_by_hand_doubles_or_adds() -> None:
    task = Depo(16, 8)
    edges = task.exam(1, torch.Generator().manual_seed(5)).context[0].view(-1, 2)
    after = dict(edges.tolist())
    for rule, wanted in zip(byhand.RULES, ([0, 1, 2, 4, 8], [0, 1, 2, 3, 4]), strict=True):
        for passes, hops in enumerate(wanted):
            memory = byhand.asleep(edges, passes, rule)
            assert byhand.distance(edges, memory) == hops
            for node in after if hops else ():
                place = node
                for _ in range(hops):
                    place = after[place]
                assert memory[node].nonzero().flatten().tolist() == [place]
    with pytest.raises(ValueError, match="rule must be one of"):
        byhand.one_pass(edges, None, "jump")


def test_the_figure_by_hand_shows_the_memory() -> None:
    edges = torch.tensor([[2, 0], [0, 1], [1, 2]])
    panel = byhand.by_hand(edges)
    for passes in (0, 2, 3):
        panel.controls["passes by hand"].value = passes
        memory = byhand.asleep(edges, passes)
        assert list(panel.figures["by-hand"].data[0].z) == memory.flatten().tolist()
    assert "1 of 3 edges" in panel.sentence  # four on a cycle of three


@pytest.fixture
def sleeper(data: Path) -> Sleeper:
    return Sleeper.load("depo-elastic")


def test_the_reach_is_that_of_the_evaluation(sleeper: Sleeper, data: Path) -> None:
    found = reaching.measure(sleeper, (0, 1, 3), 30)
    by_depth = {n: [found.answers(n, d).mean() for d in (1, 2, 3)] for n in (0, 1, 3)}
    assert reaching.reaches(found) == {n: reach(share) for n, share in by_depth.items()}
    results.store([found], data / "results" / "depo-elastic.csv")
    panel = reaching.reach_by_passes(sleeper, found)
    drawn = {trace.name: trace for trace in panel.figures["reach"].data}
    (stored,) = (trace for name, trace in drawn.items() if name.startswith("stored"))
    assert panel.sentence == "Choose first; the measured dots come then."
    assert not len(drawn["measured now"].y) and not len(stored.y), "nothing is drawn before the guess"
    panel.controls["my guess"].value = "neither"
    assert panel.sentence.endswith("Your guess: neither.") and "0 after 0" in panel.sentence and len(stored.y)
    assert list(drawn["measured now"].y) == list(reaching.reaches(found).values())
    panel.controls["my guess"].value = "doubling"
    assert "Your guess: doubling" in panel.sentence
    assert drawn["doubling: 2<sup>N−1</sup>"].line.width > drawn["adding: N"].line.width
    panel.controls["my guess"].value = reaching.NOT_YET
    assert not len(drawn["measured now"].y) and "after" not in panel.sentence


def test_oversleeping_is_a_paired_difference(sleeper: Sleeper) -> None:
    found = reaching.measure(sleeper, (1, 3, 8), 30)
    for depth, change in reaching.oversleeping(found, since=3).items():
        assert math.isclose(
            change.value, float(found.answers(8, depth).mean()) - float(found.answers(3, depth).mean()), abs_tol=1e-9
        )
        assert change.low <= change.value <= change.high
    told = reaching.beyond(sleeper, found).sentence
    assert "N = 8 against N = 3, the most it was trained with" in told


def test_exchanged_memories_exchange_the_answers(sleeper: Sleeper) -> None:
    pair = transplant.two_contexts(sleeper)
    panel = transplant.transplant(sleeper, pair, passes=2)
    layers = len(sleeper.model.init_state(1).fast)

    def bars() -> list[list[float]]:
        return [list(trace.y) for trace in panel.figures["transplant"].data if trace.type == "bar"]

    panel.controls["my guess: % as the graph it did not read"].value = 70
    guesses = [trace for trace in panel.figures["transplant"].data if trace.name == "your guess"]
    assert len(guesses) == 2 and all(np.allclose(trace.y, 0.7) for trace in guesses)
    panel.controls["exchange"].value = ()
    kept = bars()
    one, two = (sleeper.model.sleep(c[None], sleeper.model.init_state(1), 2) for c in pair)
    assert np.allclose(kept[:2], transplant.agreement(sleeper, one, pair), atol=1e-6)
    assert np.allclose(kept[2:], transplant.agreement(sleeper, two, pair), atol=1e-6)
    panel.controls["exchange"].value = tuple(range(layers))
    assert np.allclose(bars(), kept[2:] + kept[:2], atol=1e-6)  # sleeper 1 answers as sleeper 2 did
    mixed, _ = transplant.exchange(one, two, (1,))
    assert torch.equal(mixed.fast[0], one.fast[0]) and torch.equal(mixed.fast[1], two.fast[1])


def test_graphs_of_different_nodes_cannot_be_compared(sleeper: Sleeper) -> None:
    task = sleeper.task
    contexts = torch.stack([task.encode("0>1,1>2,2>0"), task.encode("3>4,4>5,5>3")])
    with pytest.raises(ValueError, match="same nodes"):
        transplant.agreement(sleeper, sleeper.model.init_state(1), contexts)


def test_ablations_are_alike_at_one_pass_and_the_model_s_own_afterwards(sleeper: Sleeper) -> None:
    found = ablation.ablate(sleeper, (1, 3), 25)
    whole, *others = found.values()
    assert all(np.array_equal(whole.correct[0], other.correct[0]) for other in others)
    alone = evaluate(sleeper.model.with_config(carry="hidden"), sleeper.task, (1, 3), 25, reaching.EXAM)
    assert np.array_equal(found["only the hidden states h"].correct, alone.correct)
    table = ablation.table(found)
    assert table.loc["only the hidden states h", 3] == round(float(alone.correct[1].mean()), 3)
    panel = ablation.ablations(sleeper, found)
    assert np.allclose(panel.figures["ablations"].data[0].y, whole.correct.mean(axis=(1, 2)))


def test_models_trained_without_are_drawn_when_they_have_rows(sleeper: Sleeper, data: Path) -> None:
    assert ablation.trained_so(sleeper) == []
    (data / "recipes" / "depo-state.toml").write_text(RECIPE.format(passes="3") + '[model]\ncarry = "state"\n')
    (data / "recipes" / "depo-elastic.toml").write_text(RECIPE.format(passes="3"))
    assert ablation.trained_so(sleeper) == []  # no rows yet
    found = evaluate(sleeper.model, sleeper.task, (1, 3), 20, name="depo-state")
    results.store([found], data / "results" / "depo-state.csv")
    assert [one.name for one in ablation.trained_so(sleeper)] == ["depo-state"]
    panel = ablation.ablations(sleeper, ablation.ablate(sleeper, (1, 3), 10))
    assert any(t.name == "depo-state: trained so, N = 3, stored" for t in panel.figures["ablations"].data)


def test_what_is_kept_and_how_far_a_pass_moves_it(sleeper: Sleeper) -> None:
    window = sleeper.task.encode("0>1,1>2,2>3,3>0")[None]
    table = steps.kept(sleeper.model, window, 2)
    assert table["after sleep"].tolist() == [0, 0, 0, sleeper.model.config.state_size]
    assert table.loc["keys and values of attention", "during a pass"] == 2 * 2 * 8 * 16
    moved = steps.changes(sleeper.model, window, 3)
    a, b = (sleeper.model.sleep(window, sleeper.model.init_state(1), n).fast for n in (2, 3))
    step = torch.cat([(x - y).flatten() for x, y in zip(b, a, strict=True)]).norm()
    assert moved[0] == 1 and math.isclose(moved[2], step / torch.cat([x.flatten() for x in b]).norm(), rel_tol=1e-5)


def test_learning_is_drawn_from_when_all_seeds_are_asked(data: Path) -> None:
    rows = pd.DataFrame(
        [("m", s, n, step, 10e6 * step, 1e12 * n * step, d, 0.5 + 0.1 * step + 0.02 * s)
         for s in (0, 1) for n in (1, 4) for step in (1, 2, 3) for d in (1, 2) if d == 1 or step >= 2 + s],
        columns=["checkpoint", "seed", "passes", "step", "tokens", "flops", "depth", "accuracy"],
    )  # fmt: skip
    panel = learning.learning(rows)
    lines = {trace.name: trace for trace in panel.figures["learning"].data}
    panel.controls["step t of the automaton"].value = 2
    assert list(lines["N = 4, seed 0"].x) == [20, 30] and list(lines["N = 4, seed 1"].x) == [30]
    assert list(lines["N = 4"].x) == [30] and lines["N = 4"].y[0] == pytest.approx(0.81)
    panel.controls["against"].value = "flops"
    assert list(lines["N = 4"].x) == [12] and list(lines["N = 1"].x) == [3]
    # told is what all had spent: three trillion, at which four passes had not come to step 2
    assert "after 3 trillion operations" in panel.sentence and "N = 1: 0.81 [" in panel.sentence
    assert "N = 4: not asked in all seeds" in panel.sentence
    assert "`labkit train rule110-paper-n1" in learning.learning(learning.learned()).sentence  # nothing is stored
