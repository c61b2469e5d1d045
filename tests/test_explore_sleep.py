"""The explorer of notebook 02 without a browser: what it draws is what the model says, there and then."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from torch import Tensor
from untrained import GRAPHS, RECIPE, ROWS, furnish, save

from labkit import SleepConfig, SleepLM, budget, checkpoints, results
from labkit.evaluate import evaluate
from labkit.explore.mind import Mind, Sleeper, reach, read_mind
from labkit.explore.sleeper import Explorer, explore
from labkit.explore.stored import stored
from labkit.tasks import Depo, Rule110, Task

TEXTS = {"graph": "0>3, 3>1, 1>5, 5>2, 2>4, 4>0", "row": "010011"}
OTHERS = {"graph": "a>b; b>c; c>d; d>e; e>a", "row": "111000"}
NAMES = {"graph": "depo-elastic", "row": "rule110-elastic"}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return furnish(tmp_path, monkeypatch)


def made(noun: str) -> Explorer:
    explorer = explore(NAMES[noun])
    assert isinstance(explorer, Explorer)
    explorer.typed.value = TEXTS[noun]
    return explorer


def one_by_one(sleeper: Sleeper, text: str, passes: int) -> Tensor:
    """``[Q, vocab]`` probabilities with nothing shared: a sleep of its own before every single question."""
    task, model, rows = sleeper.task, sleeper.model, []
    context = task.encode(text)
    nodes = sorted(set(context.tolist()))
    for depth in range(1, task.max_depth + 1):
        for column in nodes if isinstance(task, Depo) else range(6):
            state = model.sleep(context[None], model.init_state(1), passes)
            question = task.encode_question(depth, column)  # type: ignore[attr-defined]
            rows.append(model.wake(question[None], state)[0][0, -1].softmax(dim=-1))
    return torch.stack(rows)


def truth(task: Task, text: str) -> Tensor:
    if isinstance(task, Depo):
        return task.truth(task.encode(text)).answers.T.flatten()
    assert isinstance(task, Rule110)
    return task.picture(text)[1:].flatten()


def traces(explorer: Explorer, figure: str) -> dict[str, Any]:
    names = ("truth", "mind") if figure == "mind" else (figure,)
    figures = [explorer.figures[f"{name}-{explorer.sleeper.noun}"] for name in names]
    return {trace.name: trace for figure in figures for trace in figure.data}


@pytest.mark.parametrize("noun", ["graph", "row"])
@pytest.mark.parametrize("passes", [0, 1, 3, 16])
def test_the_grid_is_what_the_model_says(data: Path, noun: str, passes: int) -> None:
    explorer = made(noun)
    explorer.passes.value = passes
    said = one_by_one(explorer.sleeper, TEXTS[noun], passes)
    right = said.argmax(dim=-1) == truth(explorer.sleeper.task, TEXTS[noun])
    sure = said.max(dim=-1).values
    wanted = said[:, 1] if noun == "row" else torch.where(right, sure, -sure)
    drawn = traces(explorer, "mind")
    assert np.allclose(drawn["answer"].z, wanted, atol=1e-5)
    width, depths = 6, 3
    assert list(drawn["answer"].x) == list(range(width)) * depths
    assert list(drawn["answer"].y) == [d for d in range(1, depths + 1) for _ in range(width)]
    crossed = set(zip(drawn["wrong (larger: surer)"].x, drawn["wrong (larger: surer)"].y, strict=True))
    assert crossed == {(i % width, i // width + 1) for i in range(width * depths) if not right[i]}
    assert f"N = {passes}: {int(right.sum())} of 18 questions" in explorer.sentence


def test_the_truth_is_drawn_beside_it(data: Path) -> None:
    graph, row = made("graph"), made("row")
    assert list(traces(graph, "mind")["truth"].z) == truth(graph.sleeper.task, TEXTS["graph"]).tolist()
    assert isinstance(row.sleeper.task, Rule110)
    assert list(traces(row, "mind")["truth"].z) == row.sleeper.task.picture(TEXTS["row"]).flatten().tolist()


@pytest.mark.parametrize("noun", ["graph", "row"])
def test_the_measures_are_those_of_the_same_sleep(data: Path, noun: str) -> None:
    explorer = made(noun)
    explorer.passes.value, explorer.depth.value, explorer.column.value = 2, 2, 4
    said = one_by_one(explorer.sleeper, TEXTS[noun], 2)
    correct = (said.argmax(dim=-1) == truth(explorer.sleeper.task, TEXTS[noun])).view(3, 6)
    drawn = traces(explorer, "measures")
    live = next(trace for name, trace in drawn.items() if name.startswith("live"))
    assert np.allclose(live.y, correct.double().mean(dim=1))
    assert np.allclose(drawn["probability"].y, said[6 + 4, explorer.sleeper.answers], atol=1e-5)
    answer = int(truth(explorer.sleeper.task, TEXTS[noun])[6 + 4])
    assert list(drawn["truth"].x) == [answer]
    for name in ("truth", "mind"):
        (asked,) = (t for t in explorer.figures[f"{name}-{noun}"].data if t.name == "the question")
        assert list(asked.x) + list(asked.y) == [4, 2]


@pytest.mark.parametrize("noun", ["graph", "row"])
def test_another_text_and_other_weights_are_other_numbers(data: Path, noun: str) -> None:
    explorer = made(noun)
    explorer.passes.value = 3
    first = np.array(traces(explorer, "mind")["answer"].z)
    explorer.typed.value = OTHERS[noun]
    second = np.array(traces(explorer, "mind")["answer"].z)
    said = one_by_one(explorer.sleeper, OTHERS[noun], 3)
    assert np.allclose(np.abs(second), said[:, 1] if noun == "row" else said.max(dim=-1).values, atol=1e-5)
    assert len(first) != len(second) or not np.allclose(first, second, atol=1e-3)
    save(data, NAMES[noun], GRAPHS if noun == "graph" else ROWS, seed=1)
    other = made(noun)
    other.passes.value = 3
    assert not np.allclose(first, traces(other, "mind")["answer"].z, atol=1e-3)


def test_every_move_runs_the_model(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = made("graph")
    slept: list[int] = []
    asked: list[int] = []
    sleep, wake = SleepLM.sleep, SleepLM.wake
    monkeypatch.setattr(SleepLM, "sleep", lambda self, t, s, n: slept.append(n) or sleep(self, t, s, n))
    monkeypatch.setattr(SleepLM, "wake", lambda self, t, s: asked.append(len(t)) or wake(self, t, s))
    for n in (1, 2, 1, 2, 0):  # back and forth: a second visit is no look-up
        explorer.passes.value = n
    assert slept == [1, 2, 1, 2, 0]
    assert asked == [1, 1, 18] * 5  # one question alone, twice, for the clock; then everything


@pytest.mark.parametrize(
    ("noun", "text", "said"),
    [
        ("graph", "0>1, 1>2", "Node 2 has no outgoing edge"),
        ("graph", "0>1\n1>x7", "&#x27;1&gt;x7&#x27; is not an edge"),
        ("graph", "", "Nothing is typed"),
        ("row", "0100", "has 4 cells; it should have 6"),
        ("row", "01001x", "is no cell"),
    ],
)
def test_bad_typing_is_told_in_place_and_loses_nothing(data: Path, noun: str, text: str, said: str) -> None:
    explorer = made(noun)
    explorer.passes.value = 2
    before = [explorer.figures[f"{name}-{noun}"].to_json() for name in ("truth", "mind")]
    explorer.typed.value = text
    assert said in explorer._complaint.value and "still show the last" in explorer._complaint.value
    assert [explorer.figures[f"{name}-{noun}"].to_json() for name in ("truth", "mind")] == before
    explorer.passes.value = 3  # the slider goes on turning the last good one
    wanted = one_by_one(explorer.sleeper, TEXTS[noun], 3)[12, explorer.sleeper.answers]
    assert np.allclose(traces(explorer, "measures")["probability"].y, wanted, atol=1e-5)
    explorer.typed.value = TEXTS[noun]
    assert explorer._complaint.value == ""


def test_letters_and_small_graphs_are_named_as_typed(data: Path) -> None:
    explorer = made("graph")
    explorer.typed.value = "b>d, d>c, c>b"
    drawn = traces(explorer, "mind")
    assert list(explorer.figures["mind-graph"].layout.xaxis.ticktext) == ["b", "c", "d"]
    assert list(drawn["truth in words"].text)[:3] == ["d", "b", "c"]
    assert "Node a is not in your graph" in explorer.sentence and "3 hops on from b" in explorer.sentence
    nodes = explorer.sleeper.task.params["nodes"]
    assert f"Training saw graphs of {nodes} nodes; yours has 3." in explorer.sentence


def test_every_answer_is_written_into_its_cell(data: Path) -> None:
    explorer = made("graph")
    pictures = []
    for n in (0, 3):
        explorer.passes.value = n
        (picture,) = explorer.figures["mind-graph"].layout.images
        assert (picture.sizex, picture.sizey) == (6, 3)
        svg = unquote(picture.source.removeprefix("data:image/svg+xml,"))
        cells = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" font-size="([\d.]+)">([^<]*)</text>', svg)
        given, sure = explorer.mind.given.tolist(), explorer.mind.confidence.tolist()
        task = explorer.sleeper.task
        assert [c[3] for c in cells] == [str(t) if t < task.nodes else task.token_name(t) for t in given]
        assert np.allclose([float(c[2]) for c in cells], [8 + 6 * p for p in sure], atol=0.06)
        places = np.array([[float(c[0]), float(c[1])] for c in cells]).reshape(3, 6, 2)
        assert (np.diff(places[..., 0], axis=1) > 10).all() and (np.diff(places[..., 1], axis=0) > 10).all()
        pictures.append(svg)
    assert pictures[0] != pictures[1]


def test_the_guess_is_drawn_beside_the_truth(data: Path) -> None:
    explorer = made("graph")
    explorer.guess.value = 2
    assert list(traces(explorer, "mind")["your guess"].y) == [2.5, 2.5]
    assert list(traces(explorer, "measures")["your guess"].x) == [2.5, 2.5]
    assert "you guessed 2" in explorer.sentence


def test_the_example_is_typed_in(data: Path) -> None:
    explorer = made("graph")
    explorer.example.value = "a ring, told in order"
    assert explorer.typed.value.split() == ["0>1", "1>2", "2>3", "3>4", "4>5", "5>0"]
    assert explorer.context.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 0]


def test_an_exception_in_a_callback_comes_through(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = made("graph")

    def broken(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(SleepLM, "wake", broken)
    with pytest.raises(RuntimeError, match="planted"):
        explorer.passes.value = 1


def test_a_missing_checkpoint_is_a_sentence(data: Path) -> None:
    for file in (data / "checkpoints").glob("rule110*"):
        file.unlink()
    missing = explore("rule110-elastic")
    assert not isinstance(missing, Explorer)
    assert "There is no checkpoint" in missing.value and "labkit train" not in missing.value  # there is no recipe
    (data / "recipes" / "rule110-elastic.toml").write_text(RECIPE.format(passes="1"))
    assert "labkit train rule110-elastic --seed 0." in explore("rule110-elastic").value
    assert isinstance(explore("depo-elastic"), Explorer)


def test_stored_rows_are_drawn_as_they_lie_in_their_file(data: Path) -> None:
    for name, passes in (("depo-elastic", "[1, 3]"), ("depo-n1", "1")):
        (data / "recipes" / f"{name}.toml").write_text(RECIPE.format(passes=passes))
    save(data, "depo-n1", GRAPHS, seed=2, passes=1)
    for name in ("depo-elastic", "depo-n1"):
        model, card = checkpoints.load(name)
        found = evaluate(model, checkpoints.task_of(card), (0, 1, 3), 20, name=name)
        results.store([found], data / "results" / f"{name}.csv")
    explorer = explore("depo-elastic", rivals=("depo-n1", "depo-n4"))
    assert isinstance(explorer, Explorer)
    explorer.passes.value = 2
    drawn = traces(explorer, "measures")
    # one that follows the slider stands at the largest N stored up to 2, the other at the N it was trained at
    for name, label, n in (("depo-elastic", "≤ the slider’s", 1), ("depo-n1", "= 1", 1)):
        rows = results.read(data / "results" / f"{name}.csv")
        wanted = rows[rows["passes"] == n].sort_values("depth")["accuracy"]
        assert np.allclose(drawn[f"{name}, N {label}, stored"].y, wanted, atol=1e-6)
    assert drawn["depo-elastic, N ≤ the slider’s, stored"].text[0] == "N = 1"
    assert "data/results/depo-elastic.csv (1 seed), data/results/depo-n1.csv (1 seed)" in explorer.source
    assert not any("depo-n4" in name for name in drawn) and stored("depo-n4") is None


def test_costs_are_counted_and_timed(data: Path) -> None:
    explorer = made("graph")
    sleeper = explorer.sleeper
    one = sleeper.pass_flops(explorer.context)
    for n in (1, 4):
        assert n * one == budget.sleep_flops(sleeper.model, explorer.context, n) > 0
    explorer.passes.value = 16
    assert f"{16 * one / 1e6:.1f} Mflop" in explorer.sentence
    asleep, awake = (traces(explorer, "measures")[name] for name in ("the sleep", "one question awake"))
    assert list(asleep.x) == list(awake.x) == [0, 16]
    assert asleep.text[1].startswith("N = 16: ") and asleep.text[1].endswith(f"ms, {16 * one / 1e6:.1f} Mflop")
    assert asleep.y[1] > awake.y[1] > 0  # sixteen passes over twelve tokens against one over two
    assert "Training never slept more than 3 passes" in explorer.sentence


def test_nan_is_wrong_and_does_not_break_the_figure(data: Path) -> None:
    explorer = made("graph")
    explorer.sleeper.model.head.weight[0, 0] = math.nan
    explorer.passes.value = 1
    assert isinstance(explorer.mind, Mind) and explorer.mind.right.sum() == 0
    assert len(traces(explorer, "mind")["wrong (larger: surer)"].x) == 18


def test_reach_counts_from_the_shallowest_depth() -> None:
    assert [reach(x) for x in ([0.9, 1.0, 0.89, 1.0], [1.0, 1.0], [0.5, 1.0])] == [2, 2, 0]


def test_minds_are_read_of_single_rows_only(data: Path) -> None:
    task = Rule110(6, 2, strings=2)
    model = SleepLM(SleepConfig(vocab=task.vocab, window=task.window, dim=16))
    with pytest.raises(ValueError, match="about one graph"):
        read_mind(model, task, task.encode("010101\n111000"), 1)
