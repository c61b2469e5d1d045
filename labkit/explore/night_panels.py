"""Notebook 05's panel about nights: errors against nights, for facts alone and for thoughts that are slept on."""

from __future__ import annotations

import pandas as pd

from labkit.explore import style
from labkit.explore.axes import KNOBS, NOTHING, by_cell
from labkit.explore.panel import Panel, choice
from labkit.files import data_dir
from labkit.intervals import Interval, mean_of_seeds, share_of_seeds
from labkit.laws.overnight import bills, contest, wrong_at_first
from labkit.nights import CELL, WAYS
from labkit.results import read_rows

__all__ = [
    "LONG", "NIGHTS", "bought", "contests", "gain", "last_night", "misled", "nightly", "nights",
    "thinking_and_answering",
]  # fmt: skip

NIGHTS = "nights-32"
LONG = "nights-long-32"
"""The rival that only thinks: one pass, and more thought."""

ENOUGH = 0.2
"""Wrong about the first day in less than this share is what prices are told for."""


def nightly(checkpoint: str = NIGHTS, apart: bool = False) -> pd.DataFrame:
    """The rows of `labkit nights`; none, and a printed sentence, without it.

    ``wrong_at_first`` is the share wrong about the first day, which lies as many hops back as nights have passed. Only
    `apart` has also the rows whose own notes were thought out with another R than questions are answered with.
    """
    path = data_dir() / "results" / f"{checkpoint}-by-night.csv"
    if not path.is_file():
        print(NOTHING.format(f"`labkit nights {checkpoint}`"))
        return pd.DataFrame(columns=[*CELL, "wrong_at_first"])
    rows = read_rows(path, f"nights {checkpoint}", set(CELL))
    rows = rows.assign(wrong_at_first=wrong_at_first(rows))
    return rows if apart else rows[rows["written"] == rows["thought"]]


def thinking_and_answering(rows: pd.DataFrame, passes: int = 1) -> pd.DataFrame:
    """Wrong about the first day after the last night, by the R of own notes and that of answers, in words.

    Args:
        rows: of `nightly` with ``apart``.
        passes: N of every night.
    """
    own = rows[(rows["night"] == rows["night"].max()) & (rows["notes"] == "own") & (rows["passes"] == passes)]
    told = {
        (f"notes, R = {written}", f"answers, R = {thought}"): _share(part, "wrong_at_first").told("")
        for (written, thought), part in own.groupby(["written", "thought"])
        if len(part) > 1
    }
    return pd.Series(told, dtype=object).unstack() if told else pd.DataFrame()


def misled(rows: pd.DataFrame, thought: int, wrong: float = 0.3) -> pd.DataFrame:
    """After the last night, of questions whose note was made wrong: answered as it says, and right all the same.

    A column for each N; shares in words, with intervals over seeds.

    Args:
        rows: of `nightly`.
        thought: R.
        wrong: share of the notes that were made wrong, one of those in `labkit.nights.WAYS`.
    """
    last = rows[(rows["night"] == rows["night"].max()) & (rows["thought"] == thought) & (rows["notes"] == "true")]
    names = {"misled": "answered as the wrong note says", "unmoved": "right all the same"}
    told = {
        f"N = {n}": {
            name: share_of_seeds((part[key] / part["misnoted"]).tolist(), int(part["n"].min())).told("")
            for key, name in names.items()
        }
        for n, part in last[last["wrong"] == wrong].groupby("passes")
        if len(part) > 1
    }
    return pd.DataFrame(told)


def last_night(rows: pd.DataFrame, thought: int, column: str = "wrong_at_first") -> pd.DataFrame:
    """After the last night: a row for each way and a column for each N, value and interval over seeds in words."""
    part = rows[(rows["night"] == rows["night"].max()) & (rows["thought"] == thought)]
    told = {
        (way, int(n)): _share(own, column).told("")
        for (notes, wrong, n), own in part.groupby(["notes", "wrong", "passes"])
        if (way := WAYS.get((notes, wrong))) and len(own) > 1
    }
    table = pd.Series(told, dtype=object).unstack() if told else pd.DataFrame()
    return table.reindex([way for way in WAYS.values() if way in table.index]).rename(columns="N = {}".format)


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
                found = {n: _share(those, "wrong_at_first") for n, those in own.groupby("night") if len(those) > 1}
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
    names = {"think": "one pass, R to 5", "loop": "own thoughts slept on", "sleep": "facts alone, N passes"}
    # the largest first, so that none is hidden where they lie on one another
    looks = (("square", 12, style.CYCLE[2]), ("diamond", 10, style.CYCLE[1]), ("circle", 6, style.CYCLE[0]))
    dots = {
        kind: style.line(fig, name, colour=c, mode="markers", marker={"color": c, "size": size, "symbol": symbol})
        for (kind, name), (symbol, size, c) in zip(names.items(), looks, strict=True)
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
                n = int(parts[kind]["n"].min())
                means = by_cell(parts[kind], KNOBS, "wrong_at_first", ["bill"], n).reset_index()
                trace.x, trace.y = style.column(means["bill"] / 1e6), style.column(means["wrong_at_first"])
                trace.error_y = style.error_bars(means["interval"].tolist())
                trace.text = [f"N = {n}, R = {r}" for n, r in zip(means["passes"], means["thought"], strict=True)]
                known = means[means["wrong_at_first"] < ENOUGH]
                cheap = known.sort_values("bill").iloc[0] if len(known) else None
                told = "nowhere" if cheap is None else f"{cheap['bill'] / 1e6:.0f} (N = {cheap['passes']:.0f}, "
                least.append(f"{names[kind]}: {told}" + ("" if cheap is None else f"R = {cheap['thought']:.0f})"))
        several = f"{questions.value} question" + "s" * (questions.value > 1)
        return (
            f"With {several} about the last night's text, million operations of the cheapest way to be wrong in less "
            f"than {ENOUGH:.0%}: {'; '.join(least)}."
        )

    source = f"Stored: data/results/{NIGHTS}-by-night.csv and {LONG}-by-night.csv; N from 1 to 4, with "
    source += "95% intervals over seeds."
    return Panel("compound-bills", show, controls=[questions], figures=[fig], source=source)


def contests(rows: pd.DataFrame, thinkers: pd.DataFrame) -> pd.DataFrame:
    """The contest of the nights, for each number of questions: who meets whom, the lead in words, the verdict."""
    if not len(rows) or not len(thinkers):
        return pd.DataFrame()
    found = [contest(rows, questions, thinkers)._asdict() for questions in (1, 8, 64, 512)]
    table = pd.DataFrame(found).set_index("questions")
    table = table.assign(lead=[lead.told("+") if lead else "" for lead in table["lead"]])
    return table.rename(columns={"lead": "less wrong"})


def _share(rows: pd.DataFrame, column: str) -> Interval:
    """The mean of a column of shares, one row for each seed, with its interval."""
    return share_of_seeds(rows[column].tolist(), int(rows["n"].min()))
