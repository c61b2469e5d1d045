"""Notebook 05's panels about laws and lessons: errors with bands, the contest by questions, training with traces."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labkit.explore import style
from labkit.explore.axes import ARMS, NOTHING, TRAINED, arms_in, complete, stored_at, thinkers
from labkit.explore.panel import Panel, choice
from labkit.files import data_dir
from labkit.intervals import mean_of_seeds
from labkit.laws.summary import WITH_ALL
from labkit.laws.teaching import KNOWN, times_less, tokens_until
from labkit.laws.verdict import contest

__all__ = ["QUESTIONS", "contests", "fitted", "in_words", "lessons", "said", "scores", "times_in_words"]

QUESTIONS = tuple(2**power for power in range(11))
"""How many questions a sleep serves, in the contest."""


def said(what: str) -> pd.DataFrame:
    """One kind of rows of `labkit laws sizes` (`labkit.laws.summary`), by law and name; none where it was not run."""
    path = data_dir() / "results" / "laws-sizes.csv"
    if not path.is_file():
        print(NOTHING.format("`labkit laws sizes`"))
        return pd.DataFrame(columns=["law", "name", "value", "low", "high"])
    rows = pd.read_csv(path)
    return rows[rows["what"] == what].drop(columns="what").reset_index(drop=True)


def in_words(what: str, digits: int = 1, sign: str = "") -> pd.DataFrame:
    """`said` as a square for readers: a row for each law, a column for each name, values with their intervals.

    "never" is an infinite value; a value without an interval says so. `sign` is "+" for differences.
    """
    rows, form = said(what), f"{sign},.{digits}f"
    texts = [
        "never" if np.isinf(row.value)
        else f"{row.value:{form}}, no interval" if np.isnan(row.low)
        else f"{row.value:{form}} [{row.low:{form}}, {row.high:{form}}]"
        for row in rows.itertuples()
    ]  # fmt: skip
    square = rows.assign(text=texts).pivot(index="law", columns="name", values="text")
    return square.loc[rows["law"].unique()].rename_axis(index=None, columns=None)


def scores() -> pd.DataFrame:
    """How far off each law is on the dear part of the grid, and how much less that is than with the dearest cells."""
    parts = {"off by": in_words("held out", 2), "less than dearest": in_words("gain", 2, "+")}
    return pd.DataFrame({name: part.squeeze(axis=1) for name, part in parts.items() if len(part)})


def fitted(rows: pd.DataFrame) -> Panel:
    """Errors by N and R at one width as measured, and a law fitted to the whole grid with its band."""
    path = data_dir() / "results" / "laws-sizes-curves.csv"
    curves = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    sizes = sorted(int(p) for p in rows["params"].unique()) or [0]
    width = choice("weights of the model", [(f"{p:,}", p) for p in sizes], sizes[0])
    law = choice("law", list(WITH_ALL), WITH_ALL[0])
    fig = style.figure(
        "compound-laws", "Error by sleep and thought", x="sleep passes N", y="wrong answers, hops 1 to 10 (share)",
        y_range=(0, 1.02), x_range=(0.7, 8.4), width=640,
    )  # fmt: skip
    fig.update_xaxes(tickvals=[1, 2, 3, 4, 8])
    fig.add_vline(x=TRAINED + 0.5, line={"color": style.GREY, "dash": "dot", "width": 1})
    colours = dict(zip((0, 1, 2), style.CYCLE, strict=False))
    bands = {r: style.band(fig, f"law, R = {r}", colour=c) for r, c in colours.items()}
    lines = {r: style.line(fig, f"law, R = {r}", colour=c, markers=False) for r, c in colours.items()}
    dots = {r: style.line(fig, f"measured, R = {r}", colour=c, mode="markers") for r, c in colours.items()}

    scored = said("held out").set_index("law")

    def show() -> str:
        if not len(curves) or not len(rows):
            return NOTHING.format("`labkit laws sizes`")
        own, drawn = (t[t["params"] == width.value] for t in (rows[rows["passes"] >= 1], curves))
        with fig.batch_update():
            for r in colours:
                curve = drawn[(drawn["law"] == law.value) & (drawn["thought"] == r)]
                lines[r].x, lines[r].y = (style.column(curve[c].to_numpy()) for c in ("passes", "predicted"))
                bands[r].update(style.band_outline(*(curve[c].to_numpy() for c in ("passes", "low", "high"))))
                seen = own[own["thought"] == r].groupby("passes")["error"].agg(list)
                found = [mean_of_seeds(values) for values in seen]
                dots[r].x, dots[r].y = style.column(list(seen.index)), style.column([i.value for i in found])
                dots[r].error_y = style.error_bars(found)
        off, null = scored.loc[law.value], scored.loc["dearest"]
        return (
            f"{law.value}: fitted to the cheap six tenths of all cells it is off by {off['value']:.2f} "
            f"[{off['low']:.2f}, {off['high']:.2f}] on the dear rest (root mean square); not to extrapolate at all is "
            f"off by {null['value']:.2f}. Right of the dotted line nothing was taught and nothing fitted."
        )

    return Panel("compound-laws", show, controls=[width, law], figures=[fig],
                 source=f"{stored_at(rows, 'sizes')} Bands: data/results/laws-sizes-curves.csv, `labkit laws sizes`, a "
                 "jackknife over seeds.")  # fmt: skip


def contests(rows: pd.DataFrame) -> Panel:
    """The lead of the best mix over the best pure axis at equal operations, by how many questions a sleep serves."""
    arms = arms_in(rows) or ["even"]
    arm = choice("a step of thought is", [(ARMS[a], a) for a in arms], arms[0])
    fig = style.figure(
        "compound-contest", "The contest, by questions a sleep", x="questions that one sleep serves",
        y="lead of the best mix (hops)", y_range=(-8, 5), x_range=(-0.1, 3.1), width=640,
    )  # fmt: skip
    style.log_axis(fig.layout.xaxis, (1, 4, 16, 64, 256, 1000))
    style.line(fig, "level", [1, 1000], [0, 0], colour=style.GREY, dash="dot", markers=False)
    band = style.band(fig, "lead", colour=style.ROLES["model"])
    line = style.line(fig, "lead of the best mix", colour=style.ROLES["model"])
    far, leads = thinkers(), {}
    for name in arms:
        part = complete(rows, name)
        by_questions = {q: contest(part, q, far) for q in QUESTIONS} if len(part) else {}
        leads[name] = {q: lead for q, lead in by_questions.items() if lead is not None}

    def show() -> str:
        found = leads[arm.value]
        if not found:
            return NOTHING.format("`labkit sweep arms`")
        with fig.batch_update():
            line.x, line.y = style.column([*found]), style.column([i.value for i in found.values()])
            ends = ([i.low for i in found.values()], [i.high for i in found.values()])
            band.update(style.band_outline([*found], *ends))
        ahead = [q for q, lead in found.items() if lead.low > 0]
        behind = [q for q, lead in found.items() if lead.high < 0]
        told = f"behind up to {max(behind)} questions a sleep" if behind else "nowhere surely behind"
        return f"The mix is {told}, and " + (f"ahead from {min(ahead)} on." if ahead else "nowhere surely ahead.")

    source = f"{stored_at(rows, 'arms')} Rivals that only think: data/results/sweep-long.csv."
    return Panel("compound-contest", show, controls=[arm], figures=[fig], source=source)


def lessons() -> Panel:
    """Tokens of training until each hop is known, with written waypoints and without, seed by seed."""
    passes = choice("passes in training", [1, 4], 4)
    fig = style.figure(
        "compound-lessons", "How much training a hop takes", x="hops", y="tokens of lessons (millions)",
        x_range=(0.5, 10.5), width=640,
    )  # fmt: skip
    style.log_axis(fig.layout.yaxis, (1, 2, 5, 10, 20))
    fig.update_yaxes(range=[-0.1, 1.4])
    kinds = {"": ("without thought", style.ROLES["rival"]), "even-": ("two waypoints", style.ROLES["model"])}
    dots = {k: style.line(fig, name, colour=c, mode="markers", marker_size=9) for k, (name, c) in kinds.items()}

    def show() -> str:
        with fig.batch_update():
            for kind, trace in dots.items():
                table = tokens_until(f"corner-{kind}n{passes.value}") / 1e6
                points = table.stack() if len(table) else pd.Series(dtype=float)
                trace.x = style.column([hop for _, hop in points.index])
                trace.y = style.column(points.to_numpy(dtype=np.float64))
        found = times_less(f"corner-n{passes.value}", f"corner-even-n{passes.value}")
        if not len(found):
            return NOTHING.format("`labkit sweep corners`")
        everyone = found[found["seeds"] == found["seeds"].max()]
        top = everyone.loc[everyone["times"].idxmax()]  # beyond it the end of training cuts the factor off
        least = "at least " if top["known"] < top["seeds"] else ""
        return (
            f"Hop {top['hop']:.0f} is known to {top['seeds']:.0f} seeds with waypoints and to {top['known']:.0f} of "
            f"these without, by the end of training; it takes {least}{top['times']:.1f} times more tokens without."
        )

    source = (
        "Stored: the cards of data/checkpoints/corner-n*, corner-even-n*, from `labkit sweep corners`. A dot a seed; a "
        f"hop is known when {KNOWN} of the lessons are right down to it."
    )
    return Panel("compound-lessons", show, controls=[passes], figures=[fig], source=source)


def times_in_words(passes: int) -> pd.DataFrame:
    """How many times more tokens a hop takes without written steps, by hop; a least value says that it is one."""
    found = times_less(f"corner-n{passes}", f"corner-even-n{passes}")
    if not len(found):
        return found
    texts = [
        f"at least {row.times:.1f}" if row.known < row.seeds
        else f"{row.times:.1f} [{row.low:.1f}, {row.high:.1f}]"
        for row in found.itertuples()
    ]  # fmt: skip
    columns = {"seeds with waypoints": found["seeds"], "of these without": found["known"], "times more tokens": texts}
    return pd.DataFrame(columns).set_axis(pd.Index(found["hop"].astype(int), name="hop"))
