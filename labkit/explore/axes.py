"""Notebook 04's panels: a guess, one model with two knobs, reach by sleep and thought, equal operations, search."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from labkit import sweep
from labkit.checkpoints import load, task_of
from labkit.costs import answer_cost, sleep_cost, thought_cost
from labkit.evaluate import EXAM_SEEDS, fall_asleep
from labkit.explore import style
from labkit.explore.panel import Panel, choice, slider
from labkit.files import data_dir
from labkit.intervals import Interval, mean_of_seeds, share_of_seeds
from labkit.laws.reach import depths_of, reach_table
from labkit.laws.verdict import snowball, whole_seeds
from labkit.reasoning import write_chains
from labkit.results import read_rows
from labkit.search import tree_lead
from labkit.tasks import Thinking

__all__ = [
    "ARMS", "corner_guess", "equal_operations", "leads", "live", "reaches", "rivals", "searched", "searching",
    "stored_at", "TRAINED", "swept", "thinkers",
]  # fmt: skip

ARMS = {"even": "even waypoints", "single": "one hop a step", "filler": "fillers", "loops": "loops of the wake pass"}
MODEL = "think-even-32"
INSTANCES = 16  # slept on at a move
TRAINED, MOST = 4, 2  # passes, and steps of thought; beyond these nothing was taught
KNOBS, SPENT = ["passes", "thought"], ("flops_sleep", "flops_wake")
NOTHING = "There are no rows for this yet; {} makes them."


def swept(grid: str = "arms") -> pd.DataFrame:
    """The rows of a sweep with their reach, of seeds that have all cells; none, and a printed sentence, without it."""
    try:
        return whole_seeds(reach_table(sweep.read(grid)))
    except FileNotFoundError as missing:
        print(missing)
        return pd.DataFrame(columns=["checkpoint", "trace", "params", "asked", "seed", *KNOBS, "reach", "error"])


def complete(rows: pd.DataFrame, arm: str = "even") -> pd.DataFrame:
    """An arm's rows with N that were taught, of whole seeds; none with fewer than two, or where all lack a corner."""
    part = whole_seeds(rows[(rows["checkpoint"] == f"think-{arm}-32") & rows["passes"].between(1, TRAINED)])
    ends = {(n, r) for n in (1, TRAINED) for r in (0, MOST)}
    there = set(part[KNOBS].itertuples(index=False, name=None))
    return part if ends <= there and part["seed"].nunique() > 1 else part.iloc[:0]


def arms_in(rows: pd.DataFrame) -> list[str]:
    """The arms of which two seeds or more have all cells."""
    return [arm for arm in ARMS if len(complete(rows, arm))]


def cells(rows: pd.DataFrame, arm: str) -> dict[tuple[int, int], Interval]:
    """Mean reach over seeds with its interval, by N and R, of one arm's elastic models."""
    part = rows[rows["checkpoint"] == f"think-{arm}-32"]
    groups = part.groupby(["passes", "thought"])["reach"]
    return {(int(n), int(r)): mean_of_seeds(values.tolist()) for (n, r), values in groups if len(values) > 1}


def corner_guess(rows: pd.DataFrame) -> Panel:
    """Three corners of the grid as measured, and a slider for the fourth."""
    found = cells(rows, "even")
    mine = slider("my guess for N = 4, R = 2 (tenths of a hop)", 40, 0, 100)
    fig = style.figure(
        "axes-guess", "How many hops are answered right 9 times in 10?", x="sleep passes N and steps of thought R",
        y="reach (hops)", y_range=(0, 10.5), width=620,
    )  # fmt: skip
    names = ["N = 1, R = 0", "N = 4, R = 0", "N = 1, R = 2", "N = 4, R = 2"]
    fig.update_xaxes(type="category", categoryorder="array", categoryarray=names, range=(-0.5, 3.5))
    known = [found.get(cell) for cell in ((1, 0), (4, 0), (1, 2))]
    measured = style.line(
        fig, "measured", y=[i.value for i in known if i], colour=style.ROLES["model"], mode="markers", marker_size=12
    )
    measured.x = names[: len([i for i in known if i])]
    dot = style.line(
        fig, "my guess", colour=style.ROLES["guess"], mode="markers", marker_symbol="diamond-open", marker_size=14
    )
    dot.x = names[3:]

    def show() -> str:
        dot.y = style.column([mine.value / 10])
        if not all(known):
            return NOTHING.format("`labkit sweep arms`")
        base, sleep, think = (i.value for i in known if i)
        return (
            f"If what sleep adds and what thought adds were added, it would be {sleep + think - base:.1f}; if they "
            f"multiplied, {sleep * think / base:.1f}. You say {mine.value / 10:.1f}."
        )

    return Panel("axes-guess", show, controls=[mine], figures=[fig], source=stored_at(rows, "arms", intervals=False))


def live(checkpoint: str = MODEL, seed: int = 0, *, fast: bool = False) -> Panel:
    """One model, its weights fixed: sleep passes and written waypoints, answers by hops on fresh graphs.

    `fast` draws a quarter as many graphs at a move.
    """
    model, card = load(checkpoint, seed)
    task = task_of(card)
    assert isinstance(task, Thinking)
    passes, thought = slider("sleep passes N", 1, 0, 8), slider("steps of thought R", 0, 0, task.thoughts)
    fig = style.figure(
        "axes-live", "Right answers by hops", x="hops asked for", y="right answers (share)", y_range=(-0.03, 1.05),
        x_range=(0.5, task.max_depth + 0.5), width=640,
    )  # fmt: skip
    before = style.line(fig, "the move before", colour=style.tint(style.ROLES["model"], 0.3))
    alone = style.line(fig, "snowball: the product of its leaps", colour=style.GREY, dash="dot", markers=False)
    now = style.line(fig, "now", colour=style.ROLES["model"])
    draws, count = itertools.count(), INSTANCES // 4 if fast else INSTANCES
    depths = list(range(1, task.max_depth + 1))

    def show() -> str:
        # beyond the seeds of training and of all stored exams
        generator = torch.Generator().manual_seed(2 * EXAM_SEEDS + next(draws))
        exam = task.exam(count, generator)
        with torch.inference_mode():
            state = fall_asleep(model, exam.context, passes.value)
            share = {}
            for r in {0, thought.value}:
                answers = write_chains(model, task, task.announced(exam, r), state, r)[..., -1]
                share[r] = (answers == exam.answers).float().mean(dim=0).tolist()
        rows = pd.DataFrame([{"seed": seed, "passes": passes.value, "thought": r, "n": 1,
                              **{f"right_{d}": s for d, s in zip(depths, shares, strict=True)}}
                             for r, shares in share.items()])  # fmt: skip
        null = snowball(rows, task.trace)
        with fig.batch_update():
            before.x, before.y = now.x, now.y
            now.x, now.y = style.column(depths), style.column(share[thought.value])
            drawn = null["null"].tolist() if len(null) else share[0]
            alone.x, alone.y = style.column(depths), style.column(drawn)
        sleep = sleep_cost(model.config, task.context, passes.value).flops / 1e6
        wake = thought_cost(model.config, task.trace, 3, thought.value).flops / 1e6
        return (
            f"N = {passes.value}, R = {thought.value}: {np.mean(share[thought.value]):.2f} right, on {count} fresh "
            f"graphs. Sleep costs {sleep:.1f} million operations a graph, an answer {wake:.2f}."
        )

    source = f"Live: data/checkpoints/{checkpoint}-s{seed}, on graphs drawn anew at each move. Pale: the move before."
    return Panel("axes-live", show, controls=[passes, thought], figures=[fig], source=source)


def reaches(rows: pd.DataFrame) -> Panel:
    """Reach by steps of thought, a line for each N, for one kind of thought at a time."""
    arms = arms_in(rows) or ["even"]
    arm = choice("a step of thought is", [(ARMS[a], a) for a in arms], arms[0])
    levels = sorted(int(n) for n in rows["passes"].unique() if n > 0) or [1]
    fig = style.figure(
        "axes-reach", "Reach by sleep and thought", x="steps of thought R", y="reach (hops)", y_range=(0, 10.5),
        x_range=(-0.2, 2.2), width=640,
    )  # fmt: skip
    fig.update_xaxes(tickvals=[0, 1, 2])
    bands = {n: style.band(fig, f"N = {n}", colour=c) for n, c in zip(levels, style.CYCLE, strict=False)}
    lines = {n: style.line(fig, f"N = {n}", colour=c) for n, c in zip(levels, style.CYCLE, strict=False)}

    def show() -> str:
        found = cells(rows, arm.value)
        with fig.batch_update():
            for n in levels:
                own = {r: i for (m, r), i in sorted(found.items()) if m == n}
                lines[n].x, lines[n].y = style.column([*own]), style.column([i.value for i in own.values()])
                low, high = ([getattr(i, end) for i in own.values()] for end in ("low", "high"))
                bands[n].update(style.band_outline([*own], low, high))
        part = complete(rows, arm.value)
        if not len(part):
            return NOTHING.format("`labkit sweep arms`")
        return (
            f"With {ARMS[arm.value]}: {part['seed'].nunique()} seeds; s(1) = {found[1, 0].value:.2f}, s(4) = "
            f"{found[4, 0].value:.2f}, with R = 2 {found[1, 2].value:.2f} and {found[4, 2].value:.2f}. Shade: 95% "
            "interval over seeds. N = 8 is beyond what was trained."
        )

    return Panel("axes-reach", show, controls=[arm], figures=[fig], source=stored_at(rows, "arms"))


def equal_operations(rows: pd.DataFrame) -> Panel:
    """Reach against the operations of an answer, when a sleep serves some questions: sleep, thought, and both."""
    questions, price = slider("questions a sleep serves", 1, 1, 64), slider("price of waking", 1, 1, 20)
    fig = style.figure(
        "axes-operations", "Reach at equal operations", x="operations of an answer (millions)", y="reach (hops)",
        y_range=(0, 10.5), x_range=(-0.75, 1.75), width=640,
    )  # fmt: skip
    style.log_axis(fig.layout.xaxis, (0.2, 0.5, 1, 2, 5, 10, 20, 50))
    kinds = {"neither": "black", "sleep alone": "blue", "thought alone": "orange", "both": "green"}
    dots = {
        kind: style.line(fig, kind, colour=style.PALETTE[colour], mode="markers", marker_size=10)
        for kind, colour in kinds.items()
    }
    far = style.line(
        fig, "thought alone, R to 9", colour=style.PALETTE["vermillion"], mode="markers", marker_symbol="x",
        marker_size=9,
    )  # fmt: skip
    long = rivals()
    table = by_cell(complete(rows), ["passes", "thought"])

    def show() -> str:
        if not len(table):
            return NOTHING.format("`labkit sweep arms`")
        best: dict[str, tuple[float, float]] = {}

        def millions(cells: pd.DataFrame) -> pd.Series:
            return answer_cost(cells, questions.value, price.value) / 1e6

        with fig.batch_update():
            for kind, trace in dots.items():
                own = table.loc[[cell for cell in table.index if _kind(*cell) == kind]]
                trace.x, trace.y = style.column(millions(own).to_numpy()), style.column(own["reach"].to_numpy())
                trace.error_y = style.error_bars(own["interval"].tolist())
                top = own["reach"].idxmax()
                best[kind] = own.loc[top, "reach"], millions(own).loc[top]
            far.x, far.y = style.column(millions(long).to_numpy()), style.column(long["reach"].to_numpy())
            far.error_y = style.error_bars(long["interval"].tolist())
        told = "; ".join(f"{kind} {deep:.1f} hops for {cost:.2f}" for kind, (deep, cost) in best.items())
        return f"Deepest, and million operations an answer: {told}."

    source = f"{stored_at(rows, 'arms')} Crosses: data/results/sweep-long.csv."
    return Panel("axes-operations", show, controls=[questions, price], figures=[fig], source=source)


def thinkers() -> pd.DataFrame | None:
    """The rows, with their reach, of the models that only think; None where they were not swept."""
    return whole_seeds(reach_table(sweep.read("long"))) if sweep.path_of("long").is_file() else None


def rivals() -> pd.DataFrame:
    """Mean reach and cost by R of the models that only think; none where they were not swept."""
    far = thinkers()
    return by_cell(pd.DataFrame(columns=["thought", "reach", *SPENT]) if far is None else far, ["thought"])


def by_cell(
    rows: pd.DataFrame, knobs: list[str], value: str = "reach", costs: Sequence[str] = SPENT, n: int | None = None
) -> pd.DataFrame:
    """Means over seeds, for each setting of the knobs that two seeds or more have: a value, its interval, and costs.

    Args:
        rows: a row for each seed and setting.
        value: the column with an ``interval`` beside it.
        costs: further columns.
        n: instances behind each value, if it is a share.
    """
    groups = [(cell, own) for cell, own in rows.groupby(knobs) if own["seed"].nunique() > 1]
    found = []
    for _, own in groups:
        values = own[value].tolist()
        told = mean_of_seeds(values) if n is None else share_of_seeds(values, n)
        found.append({value: told.value, "interval": told, **own[[*costs]].mean()})
    settings = [*zip(*(cell for cell, _ in groups), strict=True)] or [()] * len(knobs)
    index = pd.MultiIndex.from_arrays(settings, names=knobs)
    return pd.DataFrame(found, columns=[value, "interval", *costs], index=index)


def searched() -> pd.DataFrame:
    """The rows of `labkit search` for the model of notebook 04; none where it was not run."""
    path = data_dir() / "results" / f"{MODEL}-search.csv"
    needed = {"kind", "branches", "judge_error"}
    return read_rows(path, f"search {MODEL}", needed) if path.is_file() else pd.DataFrame()


def leads(rows: pd.DataFrame, branches: int = 16) -> pd.DataFrame:
    """`tree_lead` of trees of B for readers: N and R down, the judge's error across, and how often a judge is asked."""
    table = tree_lead(rows) if len(rows) else pd.DataFrame()
    if not len(table):
        return table
    table = table[table["branches"] == branches]
    told = [Interval(row.lead, row.low, row.high).told() for row in table.itertuples()]
    errors = table["judge_error"].map(lambda error: f"judge errs {error:.0%}")
    cell = ["passes", "thought", "kept"]
    square = table.assign(told=told, errors=errors).pivot(index=cell, columns="errors", values="told")
    asked = table.groupby(cell)[["judged", "judged_chains"]].first()
    names = {"judged": "the tree asks its judge", "judged_chains": "whole chains ask"}
    return square[errors.unique()].join(asked).rename(columns=names).rename_axis(index=["N", "R", "chains kept"])


def searching() -> Panel:
    """Right answers against operations for samples, a tree, the majority and blind guesses, by the judge's error."""
    rows = searched()
    error = choice("the judge errs", [("never", 0.0), ("1 time in 10", 0.1), ("3 times in 10", 0.3)], 0.0)
    passes = choice("passes before the search", [1, 2, 4], 1)
    hops = slider("hops asked for", 6, 1, 10)
    fig = style.figure(
        "axes-search", "Searching at wake time", x="operations of an answer, waking (millions)",
        y="right answers (share)", y_range=(-0.03, 1.05), x_range=(-0.75, 0.5), width=640,
    )  # fmt: skip
    style.log_axis(fig.layout.xaxis, (0.2, 0.3, 0.5, 1, 2, 3))
    names = {"samples": "best of B chains", "tree": "tree", "majority": "majority of B chains", "one": "one chain"}
    dots = {
        kind: style.line(fig, name, colour=c, mode="markers", marker_size=9)
        for (kind, name), c in zip(names.items(), style.CYCLE, strict=False)
    }

    def show() -> str:
        if not len(rows):
            return NOTHING.format(f"`labkit search {MODEL}`")
        part = rows[(rows["passes"] == passes.value) & (rows["thought"] > 0)]
        share = part[f"right_{hops.value}"] / part["n"]
        part = part.assign(share=share, millions=part["flops_wake"] / 1e6)
        judged = part[(part["judge_error"] == error.value) | part["kind"].isin(["one", "majority"])]
        knobs, n = ["kind", "thought", "branches"], int(rows["n"].min())
        table = by_cell(judged, knobs, "share", ["millions"], n).reset_index()
        with fig.batch_update():
            for kind, trace in dots.items():
                own = table[table["kind"] == kind]
                trace.x, trace.y = style.column(own["millions"]), style.column(own["share"])
                trace.error_y = style.error_bars(own["interval"].tolist())
        blind = table[table["kind"] == "guess"].groupby("branches")["share"].mean()
        told = " and ".join(f"{s:.2f} with {b} guesses" for b, s in blind.items())
        return f"Among blind guesses, which cost nothing, the same judge takes a right one in a share of {told}."

    source = f"Stored: data/results/{MODEL}-search.csv, from `labkit search {MODEL}`, with 95% intervals over seeds."
    return Panel("axes-search", show, controls=[error, passes, hops], figures=[fig], source=source)


def _kind(passes: int, thought: int) -> str:
    return {(False, False): "neither", (True, False): "sleep alone", (False, True): "thought alone"}.get(
        (passes > 1, thought > 0), "both"
    )


def stored_at(rows: pd.DataFrame, grid: str, *, intervals: bool = True) -> str:
    """Where the rows of a sweep lie and what stands behind them, in words."""
    origin = f"Stored: data/results/sweep-{grid}.csv, from `labkit sweep {grid}`"
    if not len(rows):
        return f"{origin}; not there yet."
    asked = len(depths_of(rows))
    ends = ", 95% intervals over seeds" if intervals else ""
    return f"{origin}; {int(rows['n'].iloc[0]):,} unseen graphs a seed, hops 1 to {asked}{ends}."
