"""Notebook 05's panels: corners with their interaction, and models of reach on held-out cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labkit.explore import style
from labkit.explore.axes import ARMS, NOTHING, TRAINED, arms_in, complete, stored_at, thinkers
from labkit.explore.panel import Panel, choice
from labkit.files import data_dir
from labkit.intervals import Interval
from labkit.laws.comparing import held_out_reach, predicted_reach
from labkit.laws.telling import specialists
from labkit.laws.verdict import judge

__all__ = ["corners", "held_out", "pays_from", "verdicts"]

CORNERS = ((1, 0), (TRAINED, 0), (1, 2), (TRAINED, 2))  # N and R


def verdicts() -> pd.DataFrame:
    """What `labkit verdict` stored, the columns a person reads; empty, and a printed sentence, without it."""
    path = data_dir() / "results" / "verdicts.csv"
    if not path.is_file():
        print(NOTHING.format("`labkit verdict`"))
        return pd.DataFrame()
    rows = pd.read_csv(path)
    shown = pd.DataFrame({"a step of thought": rows["trace"].map(ARMS), "seeds": rows["seeds"]})
    named = {"sleep": "sleep alone", "thought": "thought alone", "interaction": "D", "log_odds": "D in log-odds",
             "mix_1": "lead of the mix", "mix_256": "at 256 questions a sleep",
             "above_null": "share right above the snowball"}  # fmt: skip
    for column, words in named.items():
        if column in rows:
            shown[words] = [_with_ends(row, column) for row in rows.to_dict("records")]
    special = rows["specialists"].astype(object).fillna("")
    return shown.assign(elastic=rows["verdict"], specialists=special, both=rows["both"])


def corners(rows: pd.DataFrame, special: pd.DataFrame | None = None) -> Panel:
    """The four corners of an arm with intervals, and where the last would lie if the axes added or multiplied.

    Args:
        rows: of elastic models, from `labkit.explore.axes.swept`.
        special: of specialists, from ``swept("corners")``; they stand beside the elastic ones.
    """
    arms = arms_in(rows) or ["even"]
    arm = choice("a step of thought is", [(ARMS[a], a) for a in arms], arms[0])
    fig = style.figure(
        "compound-corners", "Four corners", x="sleep passes N and steps of thought R", y="reach (hops)",
        y_range=(0, 10.5), width=640,
    )  # fmt: skip
    names = [f"N = {n}, R = {r}" for n, r in CORNERS]
    fig.update_xaxes(type="category", categoryorder="array", categoryarray=names, range=(-0.5, 3.5))
    measured = style.line(fig, "measured", colour=style.ROLES["model"], mode="markers", marker_size=10)
    apart = style.line(fig, "specialists", colour=style.GREY, mode="markers", marker_symbol="diamond-open",
                       marker_size=12)  # fmt: skip
    added = style.line(fig, "if they added", colour=style.ROLES["rival"], mode="markers", marker_symbol="line-ew-open",
                       marker_size=22)  # fmt: skip
    times = style.line(fig, "if they multiplied", colour=style.ROLES["ceiling"], mode="markers",
                       marker_symbol="line-ew-open", marker_size=22)  # fmt: skip

    far = thinkers()
    elastic = {name: complete(rows, name) for name in arms}
    alone = {name: specialists(special, name) if special is not None else None for name in arms}
    # judged here and not at a move, which has less time than that takes
    told = {name: judge(part, rivals=far) for name, part in elastic.items() if len(part)}
    told_alone = {name: judge(part, rivals=far) for name, part in alone.items() if part is not None}

    def show() -> str:
        if (found := told.get(arm.value)) is None:
            return NOTHING.format("`labkit sweep arms`")
        four, theirs = [found.corners[cell] for cell in CORNERS], told_alone.get(arm.value)
        base, sleep, think = (i.value for i in four[:3])
        with fig.batch_update():
            measured.x, measured.y = names, style.column([i.value for i in four])
            measured.error_y = style.error_bars(four)
            there = [theirs.corners[cell] for cell in CORNERS] if theirs else []
            apart.x, apart.y = names[: len(there)], style.column([i.value for i in there])
            apart.error_y = style.error_bars(there)
            added.x, added.y = names[3:], style.column([sleep + think - base])
            times.x, times.y = names[3:], style.column([sleep * think / base])
        said = f"{elastic[arm.value]['seed'].nunique()} seeds. {found.sentence}"
        own = alone[arm.value]
        if own is not None and theirs is not None:
            said += f" Specialists, {own['seed'].nunique()} seeds: {theirs.sentence}"
        return said

    source = f"{stored_at(rows, 'arms')} Specialists: data/results/sweep-corners.csv. Rivals in the contest: "
    source += "data/results/sweep-long.csv."
    return Panel("compound-corners", show, controls=[arm], figures=[fig], source=source)


def held_out(rows: pd.DataFrame) -> Panel:
    """Two models of reach, fitted seed by seed without the cells of most thought after some passes, asked for those."""
    arms = arms_in(rows) or ["even"]
    arm = choice("a step of thought is", [(ARMS[a], a) for a in arms], arms[0])
    fig = style.figure(
        "compound-held-out", "Predicted against measured, held-out cells", x="measured reach (hops)",
        y="predicted reach (hops)", x_range=(0, 10.5), y_range=(0, 10.5), width=520, height=420,
    )  # fmt: skip
    style.line(fig, "equal", [0, 10], [0, 10], colour=style.GREY, dash="dot", markers=False)
    dots = {
        kind: style.line(fig, kind, colour=colour, mode="markers", marker_size=9)
        for kind, colour in (("sum", style.ROLES["rival"]), ("product", style.ROLES["ceiling"]))
    }

    parts = {name: part for name in arms if len(part := complete(rows, name))}
    said = {name: predicted_reach(part) for name, part in parts.items()}
    scores = {name: held_out_reach(part).set_index("law") for name, part in parts.items()}

    def show() -> str:
        if (far := said.get(arm.value)) is None:
            return NOTHING.format("`labkit sweep arms`")
        with fig.batch_update():
            for kind, trace in dots.items():
                trace.x, trace.y = style.column(far["reach"].to_numpy()), style.column(far[kind].to_numpy())
        scored = scores[arm.value]
        told = ", ".join(f"{kind} {Interval(*scored.loc[kind, ['rms', 'low', 'high']]).told('')}" for kind in dots)
        return f"Off by, in hops (root mean square, mean of seeds with its interval): {told}. One dot a seed and N."

    return Panel("compound-held-out", show, controls=[arm], figures=[fig], source=stored_at(rows, "arms"))


def pays_from(rows: pd.DataFrame, questions: tuple[int, ...] = (1, 4, 16, 64, 256)) -> pd.DataFrame:
    """The R from which N passes reach deeper than one pass with as much more thought as these cost, by the product.

    With strides s(N), a pass that costs P operations shared by q questions, and a step that costs W, that is where
    ``s(N) (R + 1) = s(1) (R + 1 + (N - 1) P / (q W))``. Extrapolated: no model here was asked so far.

    Returns a row for each N and a column for each q; the R are rounded up.
    """
    part = complete(rows)
    if not len(part):
        return pd.DataFrame()
    means = part.groupby(["passes", "thought"])[["reach", "flops_sleep", "flops_wake"]].mean()
    one = means.loc[(1, 0)]
    step, read = means.loc[(1, 1), "flops_wake"] - one["flops_wake"], one["flops_sleep"]
    found = {}
    for n in range(2, TRAINED + 1):
        longer = means.loc[(n, 0), "reach"] - one["reach"]
        found[f"N = {n}"] = {
            f"q = {q}": int(np.ceil(one["reach"] * (n - 1) * read / (q * step) / longer)) - 1 for q in questions
        }
    return pd.DataFrame(found).T


def _with_ends(row: dict[str, float], column: str) -> str:
    if pd.isna(row[column]):
        return ""
    return Interval(row[column], row[f"{column}_low"], row[f"{column}_high"]).told()
