"""Notebook 05's panel about nights: errors against nights, for facts alone and for thoughts that are slept on."""

from __future__ import annotations

import pandas as pd

from labkit.explore import style
from labkit.explore.axes import NOTHING
from labkit.explore.panel import Panel, choice
from labkit.files import data_dir
from labkit.intervals import Interval, mean_of_seeds
from labkit.laws.overnight import bills, contest, wrong_at_first
from labkit.nights import CELL, WAYS
from labkit.results import read_rows

__all__ = ["LONG", "NIGHTS", "bought", "contests", "gain", "last_night", "nightly", "nights", "share"]

NIGHTS = "nights-32"
LONG = "nights-long-32"
"""The rival that only thinks: one pass, and more thought."""

ENOUGH = 0.2
"""Wrong about the first day in less than this share is what prices are told for."""


def nightly(checkpoint: str = NIGHTS) -> pd.DataFrame:
    """The rows of `labkit nights`; none, and a printed sentence, without it.

    ``wrong_at_first`` is the share wrong about the first day, which lies as many hops back as nights have passed.
    """
    path = data_dir() / "results" / f"{checkpoint}-by-night.csv"
    if not path.is_file():
        print(NOTHING.format(f"`labkit nights {checkpoint}`"))
        return pd.DataFrame(columns=[*CELL, "wrong_at_first"])
    rows = read_rows(path, f"nights {checkpoint}", set(CELL))
    return rows.assign(wrong_at_first=wrong_at_first(rows))


def last_night(rows: pd.DataFrame, thought: int, column: str = "wrong_at_first") -> pd.DataFrame:
    """After the last night: a row for each way and a column for each N, value and interval over seeds in words."""
    part = rows[(rows["night"] == rows["night"].max()) & (rows["thought"] == thought)]
    told = {
        (way, int(n)): share(own[column].tolist()).told("")
        for (notes, wrong, n), own in part.groupby(["notes", "wrong", "passes"])
        if (way := WAYS.get((notes, wrong))) and len(own) > 1
    }
    table = pd.Series(told, dtype=object).unstack() if told else pd.DataFrame()
    return table.reindex([way for way in WAYS.values() if way in table.index]).rename(columns="N = {}".format)


def share(values: list[float]) -> Interval:
    """Mean over seeds with its interval, which ends at 0 and 1."""
    mean = mean_of_seeds(values)
    return Interval(mean.value, max(0.0, mean.low), min(1.0, mean.high))


def gain(rows: pd.DataFrame, thought: int, before: tuple[str, int], after: tuple[str, int]) -> Interval:
    """By how much less is wrong after the last night, from (notes, N) to (notes, N), seed by seed.

    Notes as they were thought, without wrong ones added.
    """
    last = rows[(rows["night"] == rows["night"].max()) & (rows["thought"] == thought) & (rows["wrong"] == 0)]
    table = last.pivot_table(index="seed", columns=["notes", "passes"], values="wrong_at_first")
    return mean_of_seeds((table[before] - table[after]).tolist())


def nights(rows: pd.DataFrame) -> Panel:
    """Error about the first day against nights, a line for each thing that is slept on."""
    passes = choice("passes a night N", [0, 1, 2, 4, 8], 1)
    thought = choice("steps before an answer R", [0, 1, 2], 1)
    fig = style.figure(
        "compound-nights", "What is still known of the first day", x="nights", y="wrong answers about the first day",
        x_range=(0.8, 6.2), y_range=(-0.03, 1.05), width=640,
    )  # fmt: skip
    bands = {w: style.band(fig, n, colour=c) for (w, n), c in zip(WAYS.items(), style.CYCLE, strict=False)}
    lines = {w: style.line(fig, n, colour=c) for (w, n), c in zip(WAYS.items(), style.CYCLE, strict=False)}

    def show() -> str:
        part = rows[(rows["passes"] == passes.value) & (rows["thought"] == thought.value)]
        last: dict[str, Interval] = {}
        with fig.batch_update():
            for way, line in lines.items():
                own = part[(part["notes"] == way[0]) & (part["wrong"] == way[1])]
                seeds = own.groupby("night")["wrong_at_first"].agg(list)
                found = {n: share(values) for n, values in seeds.items() if len(values) > 1}
                line.x, line.y = style.column([*found]), style.column([i.value for i in found.values()])
                ends = ([i.low for i in found.values()], [i.high for i in found.values()])
                bands[way].update(style.band_outline([*found], *ends))
                if found:
                    last[WAYS[way]] = found[max(found)]
        if not last:
            return NOTHING.format(f"`labkit nights {NIGHTS}`")
        return "Wrong after the last night: " + ", ".join(f"{n} {i.told('')}" for n, i in last.items()) + "."

    texts = f"{int(rows['n'].iloc[0]):,} unseen texts a seed, 95% intervals over seeds" if len(rows) else "none yet"
    source = f"Stored: data/results/{NIGHTS}-by-night.csv, from `labkit nights {NIGHTS}`; {texts}."
    return Panel("compound-nights", show, controls=[passes, thought], figures=[fig], source=source)


def bought(rows: pd.DataFrame, thinkers: pd.DataFrame) -> Panel:
    """Error about the first day against the whole bill of the nights: more sleep, thoughts slept on, only thought."""
    questions = choice("questions after the last night", [1, 8, 64, 512], 8)
    fig = style.figure(
        "compound-bills", "What the first day costs", x="operations of a text, all included (millions)",
        y="wrong answers about the first day", x_range=(0.8, 2.7), y_range=(-0.03, 1.05), width=640,
    )  # fmt: skip
    style.log_axis(fig.layout.xaxis, (10, 20, 50, 100, 200, 500))
    names = {"sleep": "facts alone, N passes", "loop": "own thoughts slept on", "think": "one pass, R to 5"}
    dots = {
        kind: style.line(fig, name, colour=c, mode="markers", marker={"color": c, "size": 9, "symbol": symbol})
        for (kind, name), c, symbol in zip(names.items(), style.CYCLE, ("circle", "diamond", "square"), strict=False)
    }

    def show() -> str:
        if not len(rows) or not len(thinkers):
            return NOTHING.format(f"`labkit nights {NIGHTS}` and `labkit nights {LONG} --passes 1`")
        table = bills(rows, questions.value)
        parts = {"sleep": table[table["notes"] == "none"], "loop": table[table["notes"] == "own"]}
        only = bills(thinkers, questions.value)
        parts["think"] = only[only["notes"] == "none"]
        least = []
        with fig.batch_update():
            for kind, trace in dots.items():
                means = parts[kind].groupby(["passes", "thought"])[["bill", "wrong_at_first"]].mean().reset_index()
                trace.x, trace.y = style.column(means["bill"] / 1e6), style.column(means["wrong_at_first"])
                trace.text = [f"N = {n}, R = {r}" for n, r in zip(means["passes"], means["thought"], strict=True)]
                known = means[means["wrong_at_first"] < ENOUGH]
                cheap = known.sort_values("bill").iloc[0] if len(known) else None
                told = "nowhere" if cheap is None else f"{cheap['bill'] / 1e6:.0f} (N = {cheap['passes']:.0f}, "
                least.append(f"{names[kind]}: {told}" + ("" if cheap is None else f"R = {cheap['thought']:.0f})"))
        return f"Cheapest to be wrong in less than {ENOUGH:.0%}, in millions: {'; '.join(least)}."

    source = f"Stored: data/results/{NIGHTS}-by-night.csv and {LONG}-by-night.csv; means of the seeds, N from 1 to 4."
    return Panel("compound-bills", show, controls=[questions], figures=[fig], source=source)


def contests(rows: pd.DataFrame, thinkers: pd.DataFrame) -> pd.DataFrame:
    """The contest of the nights, for each number of questions: who meets whom, the lead in words, the verdict."""
    if not len(rows) or not len(thinkers):
        return pd.DataFrame()
    found = [contest(rows, questions, thinkers)._asdict() for questions in (1, 8, 64, 512)]
    table = pd.DataFrame(found).set_index("questions")
    table = table.assign(lead=[lead.told("+") if lead else "" for lead in table["lead"]])
    return table.rename(columns={"lead": "less wrong"})
