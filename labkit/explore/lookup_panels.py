"""Notebook 04's panels beyond one model: what each knob buys by itself, and look-ups against sleep."""

from __future__ import annotations

import pandas as pd

from labkit.costs import answer_cost
from labkit.explore import style
from labkit.explore.axes import NOTHING, TRAINED, by_cell, stored_at
from labkit.explore.panel import Panel, choice, slider
from labkit.files import data_dir
from labkit.intervals import mean_of_seeds
from labkit.lookups import CELL
from labkit.results import read_rows

__all__ = ["ARCHIVE", "looked_up", "lookups", "shapes"]

ARCHIVE = "archive-32"
KNOBS = {"params": "weights", "passes": "passes N", "thought": "strides 1 + R"}


def shapes(rows: pd.DataFrame) -> Panel:
    """Error against each of three knobs by itself, as a factor on its least value, the others held at one end."""
    ends = choice("the other two knobs are", [("at their least", "low"), ("at their most", "high")], "low")
    fig = style.figure(
        "axes-shapes", "Three knobs, one shape?", x="factor on the knob", y="wrong answers, hops 1 to 10 (share)",
        x_range=(-0.03, 1.0), y_range=(-1.2, 0.03), width=640,
    )  # fmt: skip
    style.log_axis(fig.layout.xaxis, (1, 2, 3, 4, 6, 10))
    style.log_axis(fig.layout.yaxis, (0.1, 0.2, 0.3, 0.5, 1))
    lines = {k: style.line(fig, name, colour=c) for (k, name), c in zip(KNOBS.items(), style.CYCLE, strict=False)}
    known = rows[rows["passes"].between(1, TRAINED)]
    if len(known) and known.groupby("checkpoint")["seed"].nunique().min() < 2:
        known = known.iloc[:0]  # one seed has no interval

    def show() -> str:
        if not len(known):
            return NOTHING.format("`labkit sweep sizes`")
        edge = known[[*KNOBS]].agg("min" if ends.value == "low" else "max")
        told = []
        with fig.batch_update():
            for knob, line in lines.items():
                others = [name for name in KNOBS if name != knob]
                part = known[(known[others] == edge[others]).all(axis=1)]
                found = {level: mean_of_seeds(own.tolist()) for level, own in part.groupby(knob)["error"]}
                shift = 1 if knob == "thought" else 0
                factors = [(level + shift) / (min(found) + shift) for level in found]
                line.x, line.y = style.column(factors), style.column([i.value for i in found.values()])
                line.error_y = style.error_bars(list(found.values()))
                told.append(f"{KNOBS[knob]} {found[min(found)].value:.2f} to {found[max(found)].value:.2f}")
        return f"Wrong answers from the least to the most of each: {', '.join(told)}."

    return Panel("axes-shapes", show, controls=[ends], figures=[fig], source=stored_at(rows, "sizes"))


def looked_up() -> pd.DataFrame:
    """The rows of `labkit lookups`; none, and a printed sentence, without it."""
    path = data_dir() / "results" / f"{ARCHIVE}-lookups.csv"
    if not path.is_file():
        print(NOTHING.format(f"`labkit lookups {ARCHIVE}`"))
        return pd.DataFrame(columns=[*CELL, "n", "flops_sleep", "flops_wake"])
    return read_rows(path, f"lookups {ARCHIVE}", set(CELL))


def lookups(rows: pd.DataFrame) -> Panel:
    """Right answers against operations: N passes of sleep, and B windows opened again by a chooser that may err."""
    hops = slider("hops of the question", 2, 1, 10)
    thought = choice("steps before the answer R", [0, 2], 0)
    error = choice("the chooser errs", [("never", 0.0), ("3 times in 10", 0.3), ("always", 1.0)], 0.0)
    questions = choice("questions that share a sleep", [1, 4, 16, 64], 1)
    fig = style.figure(
        "axes-lookups", "Sleep longer, or look it up?", x="operations of an answer (millions)",
        y="right answers (share)", x_range=(-1.2, 1.7), y_range=(-0.03, 1.05), width=640,
    )  # fmt: skip
    style.log_axis(fig.layout.xaxis, (0.1, 0.3, 1, 3, 10, 30))
    levels = sorted(int(n) for n in rows["passes"].unique()) or [0]
    lines = {n: style.line(fig, f"N = {n}, B = 0 to 4", colour=c) for n, c in zip(levels, style.CYCLE, strict=False)}

    def show() -> str:
        if rows["seed"].nunique() < 2:  # one seed has no interval
            return NOTHING.format(f"`labkit lookups {ARCHIVE}`")
        # without look-ups no one chooses, so that row stands for every chooser
        chosen = (rows["chooser_error"] == error.value) | (rows["lookups"] == 0)
        part = rows[chosen & (rows["thought"] == thought.value)]
        part = part.assign(share=part[f"right_{hops.value}"] / part["n"], cost=answer_cost(part, questions.value) / 1e6)
        table = by_cell(part, ["passes", "lookups"], "share", ["cost"], int(part["n"].min()))
        with fig.batch_update():
            for n, line in lines.items():
                own = table.loc[n]
                line.x, line.y = style.column(own["cost"]), style.column(own["share"])
                line.error_y = style.error_bars(own["interval"].tolist())
        most = int(rows["lookups"].max())
        told = [f"N = {n}: {table.loc[(n, 0), 'share']:.2f} to {table.loc[(n, most), 'share']:.2f}" for n in levels]
        return f"Right from B = 0 to B = {most}, all windows: {'; '.join(told)}."

    source = f"Stored: data/results/{ARCHIVE}-lookups.csv, from `labkit lookups {ARCHIVE}`; 95% intervals over seeds."
    return Panel("axes-lookups", show, controls=[hops, thought, error, questions], figures=[fig], source=source)
