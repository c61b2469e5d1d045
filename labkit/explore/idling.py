"""Notebook 06's panels: one day of windows and questions, live, and many days from stored rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labkit.explore import style
from labkit.explore.panel import Panel, choice, slider
from labkit.files import data_dir
from labkit.idle import Costs, simulate
from labkit.intervals import mean_of_seeds
from labkit.results import read_rows

__all__ = ["free_loads", "free_until", "many_days", "one_day", "stored"]

FILE = "idle.csv"
NOTHING = "There are no rows for this yet; `labkit idle` makes them."
PASSES = (1, 2, 3, 4)


def stored() -> pd.DataFrame:
    """The rows of `labkit idle`; none, and a printed sentence, where it was not run."""
    path = data_dir() / "results" / FILE
    if not path.is_file():
        print(NOTHING)
        return pd.DataFrame(columns=["load", "questions", "passes", "seed", "right", "late", "sleep_pass", "answer"])
    return read_rows(path, "idle", {"load", "questions", "passes", "right", "late", "sleep_pass", "answer"})


def one_day(rows: pd.DataFrame) -> Panel:
    """A day of 150 windows, simulated at every move: how many passes a question's window had had."""
    load, questions = slider("load (%)", 20, 5, 95, 5), slider("questions a window", 4, 1, 16)
    passes = slider("passes N that sleep aims at", 4, 1, 8)
    fig = style.figure(
        "idle-day", "Passes that a question finds", x="passes its window had had", y="questions (share)",
        x_range=(0.4, 8.6), y_range=(0, 1.05), width=560,
    )  # fmt: skip
    fig.add_bar(x=list(range(1, 9)), y=[0.0] * 8, marker_color=style.ROLES["model"], name="questions")
    bars = fig.data[-1]
    time = style.figure(
        "idle-time", "Where the time goes", x="share of the time", y="spent on", x_range=(0, 1), width=420,
        margin_l=90,
    )  # fmt: skip
    time.add_bar(x=[0.0] * 3, y=["idle", "asleep", "answers"], orientation="h", marker_color=style.PALETTE["sky"],
                 name="time")  # fmt: skip
    spent = time.data[-1]
    costs = _costs(rows)

    def show() -> str:
        if costs is None:
            return NOTHING
        day = simulate(
            costs, load=load.value / 100, questions=questions.value, passes=passes.value, windows=150, seed=0
        )
        counts = np.bincount(np.clip(day.passes, 0, 8), minlength=9)[1:] / max(1, len(day.passes))
        with fig.batch_update():
            bars.y = style.column(counts)
        with time.batch_update():
            spent.x = style.column([day.idle, day.asleep, 1 - day.idle - day.asleep])
        late = 1e3 * np.percentile(day.waited, 95) if len(day.waited) else 0.0
        full = float((day.passes >= passes.value).mean()) if len(day.passes) else 0.0
        return (
            f"{len(day.waited)} questions; {full:.0%} found all {passes.value} passes done; 95 of 100 were answered "
            f"within {late:.1f} ms; {day.idle:.0%} of the time nothing was to be done."
        )

    return Panel(
        "idle-day", show, controls=[load, questions, passes], figures=[[fig, time]], source=_source(rows, "Live: ")
    )


def many_days(rows: pd.DataFrame) -> Panel:
    """Right answers and waiting against load, a line for each N, with 95% intervals over simulated days."""
    questions = choice("questions about a window", sorted({int(q) for q in rows["questions"]}) or [4], 4)
    figures = {
        "right": style.figure(
            "idle-right", "Right answers", x="load (share of the time)", y="right answers (share)", x_range=(0, 1),
            y_range=(0, 1), width=470,
        ),
        "late": style.figure(
            "idle-late", "Waiting for an answer", x="load (share of the time)", y="95th percentile (ms)",
            x_range=(0, 1), y_range=(0, 3), width=470,
        ),
    }  # fmt: skip
    style.log_axis(figures["late"].layout.yaxis, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))
    lines = {
        (what, n): style.line(fig, f"N = {n}", colour=colour)
        for what, fig in figures.items()
        for n, colour in zip(PASSES, style.CYCLE, strict=False)
    }

    def show() -> str:
        part = rows[rows["questions"] == questions.value]
        if not len(part):
            return NOTHING
        days = part.assign(late=1e3 * part["late"]).groupby(["passes", "load"])[["right", "late"]].agg(list)
        for what, fig in figures.items():
            with fig.batch_update():
                for n in PASSES:
                    found = [mean_of_seeds(values) for values in days.loc[n, what]]
                    lines[what, n].x = style.column(days.loc[n].index)
                    lines[what, n].y = style.column([i.value for i in found])
                    lines[what, n].error_y = style.error_bars(found)
        until = {n: free_until(rows, questions.value, n) for n in PASSES[1:]}
        told = "; ".join(f"N = {n} to {load:.0%}" for n, load in until.items() if load)
        return f"With {questions.value} questions a window sleep keeps nine tenths of its worth: {told or 'never'}."

    return Panel(
        "idle-loads", show, controls=[questions], figures=[[*figures.values()]], source=_source(rows, "Stored: ")
    )


def free_until(rows: pd.DataFrame, questions: int, passes: int) -> float | None:
    """The load up to which N passes win nine tenths of what they win at the least load; None if they win nothing."""
    part = rows[rows["questions"] == questions].groupby(["passes", "load"])["right"].mean()
    gain = part.loc[passes] - part.loc[1]
    if not gain.iloc[0] > 0:
        return None
    held = (gain >= 0.9 * gain.iloc[0]).cummin()
    return float(gain.index[held].max())


def free_loads(rows: pd.DataFrame, questions: Sequence[int] = (1, 4, 16)) -> pd.DataFrame:
    """`free_until` for readers: questions a window down, N across."""
    if not len(rows):
        return pd.DataFrame()
    told = {
        f"N = {n}": [
            "wins nothing" if (load := free_until(rows, several, n)) is None else f"free to a load of {load:.0%}"
            for several in questions
        ]
        for n in sorted(rows.loc[rows["passes"] > 1, "passes"].unique())
    }
    return pd.DataFrame(told, index=pd.Index(questions, name="questions a window"))


def _costs(rows: pd.DataFrame) -> Costs | None:
    if not len(rows):
        return None
    return Costs(float(rows["sleep_pass"].iloc[0]), float(rows["answer"].iloc[0]))


def _source(rows: pd.DataFrame, how: str) -> str:
    if not len(rows):
        return f"data/results/{FILE}, from `labkit idle`; not there yet."
    first = rows.iloc[0]
    return (
        f"{how}costs of {first['checkpoint']} (a pass {1e3 * first['sleep_pass']:.2f} ms, an answer with R = "
        f"{first['thought']} {1e3 * first['answer']:.2f} ms) from data/results/{FILE}, `labkit idle`."
    )

