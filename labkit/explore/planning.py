"""Notebook 05's planner: a budget, a rate of questions, and the split between size, sleep, thought and search."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labkit.costs import answer_cost
from labkit.explore import style
from labkit.explore.axes import MODEL, NOTHING, TRAINED, by_cell, searched, thinkers
from labkit.explore.law_panels import said
from labkit.explore.panel import Panel, choice, slider
from labkit.laws.forms import LAWS, axes_of
from labkit.laws.reach import accuracy
from labkit.laws.summary import WITH_ALL

__all__ = ["best_law", "cells", "planner"]

CELL = ["params", "passes", "thought", "branches"]


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Every measured way to spend, with its share right over all hops and its cost, means of the seeds.

    Models of several widths with N up to 4 and R up to 2; of the smallest, also those that only think, R up to 9, and
    the majority of B chains. `predicted` is the share that the best law says (`best_law`), which knows no search
    and no more thought than the models of several widths.
    """
    known = rows[rows["passes"].between(1, TRAINED)]
    if not len(known):
        return pd.DataFrame()
    parts = [known.assign(branches=1)]
    if (far := thinkers()) is not None:
        parts.append(far[far["thought"] > known["thought"].max()].assign(branches=1, params=known["params"].min()))
    if len(chains := searched()):
        many = chains[(chains["kind"] == "majority") & (chains["branches"] > 1)]
        parts.append(many.assign(params=known["params"].min()))
    table = pd.concat(parts)
    table = table[table["seed"].isin(known["seed"])]  # else one would compare some seeds with others
    table = by_cell(table.assign(share=accuracy(table)), CELL, "share", n=int(table["n"].min())).reset_index()
    law, numbers = best_law()
    predicted = np.full(len(table), np.nan)
    if numbers:
        predicted = 1 - LAWS[law].predict(numbers, axes_of(LAWS[law], table))
    inside = (table["branches"] == 1) & (table["thought"] <= known["thought"].max())  # what the law was fitted to
    return table.assign(predicted=np.where(inside, predicted, np.nan))


def best_law() -> tuple[str, dict[str, float]]:
    """The law with all axes that is off least on held-out cells, with its numbers, if `labkit laws` was run."""
    off = said("held out")
    off = off[off["law"].isin(WITH_ALL)]
    if not len(off):
        return WITH_ALL[0], {}
    law = str(off.loc[off["value"].idxmin(), "law"])
    numbers = said("number")
    return law, dict(numbers.loc[numbers["law"] == law, ["name", "value"]].itertuples(index=False, name=None))


def planner(rows: pd.DataFrame) -> Panel:
    """Split a budget between size, sleep, thought and search; measured beside predicted, and the best way to spend."""
    table = cells(rows)
    budget = choice("budget (million operations)", [0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100], 10)
    questions = choice("questions a sleep serves", [1, 4, 16, 64, 256], 1)
    price = slider("price of waking", 1, 1, 20)
    sizes = sorted(int(p) for p in table["params"].unique()) if len(table) else [0]
    width = choice("size (weights)", [(f"{p:,}", p) for p in sizes], sizes[0])
    passes, thought = choice("sleep passes N", [1, 2, 3, 4], 1), slider("steps of thought R", 0, 0, 9)
    branches = choice("search, majority of B", [1, 4, 16], 1)
    fig = style.figure(
        "compound-planner", "What a budget buys", x="operations of an answer (millions)",
        y="right answers, hops 1 to 10 (share)", x_range=(-1, 2.1), y_range=(-0.03, 1.05), width=640,
    )  # fmt: skip
    style.log_axis(fig.layout.xaxis, (0.1, 0.3, 1, 3, 10, 30, 100))
    dear = style.line(fig, "too dear", colour=style.tint(style.GREY, 0.5), mode="markers", marker_size=7)
    paid = style.line(fig, "within the budget", colour=style.PALETTE["sky"], mode="markers", marker_size=7)
    best = style.line(fig, "best within it", colour=style.ROLES["ceiling"], mode="markers",
                      marker_symbol="star", marker_size=15)  # fmt: skip
    mine = style.line(fig, "my split", colour=style.ROLES["guess"], mode="markers",
                      marker_symbol="diamond-open", marker_size=15)  # fmt: skip
    law = best_law()[0]

    def show() -> str:
        if not len(table):
            return NOTHING.format("`labkit sweep sizes`")
        cost = answer_cost(table, questions.value, price.value) / 1e6
        within = cost <= budget.value
        wanted = dict(zip(CELL, (width.value, passes.value, thought.value, branches.value), strict=True))
        chosen = (table[CELL] == pd.Series(wanted)).all(axis=1)
        top = table.index == (table.loc[within, "share"].idxmax() if within.any() else -1)
        with fig.batch_update():
            for trace, here in ((dear, ~within), (paid, within & ~top), (best, top), (mine, chosen)):
                trace.x, trace.y = (style.column(v[here].to_numpy()) for v in (cost, table["share"]))
        told = "My split was not measured: R above 2 needs N = 1, and search the smallest model and N = 1, 2 or 4."
        if chosen.any():
            one, paying = table[chosen].iloc[0], float(cost[chosen].iloc[0])
            guess = f"; the {law} law says {one['predicted']:.2f}" if one["predicted"] == one["predicted"] else ""
            state = "within" if paying <= budget.value else "over"
            told = f"My split costs {paying:.2f} million, {state} the budget: {one['interval'].told('')} right{guess}."
        if not within.any():
            return f"{told} Nothing can be had for {budget.value} million; the cheapest costs {cost.min():.2f}."
        first = table[top].iloc[0]
        return (
            f"{told} Best within it: {first['params']:,.0f} weights, N = {first['passes']:.0f}, "
            f"R = {first['thought']:.0f}, B = {first['branches']:.0f}, {first['interval'].told('')} right."
        )

    source = (
        "Stored: data/results/sweep-sizes.csv, sweep-long.csv (one pass, R above 2) and "
        f"{MODEL}-search.csv (B above 1), means of the seeds with 95% intervals; laws of data/results/laws-sizes.csv."
    )
    controls = [budget, questions, price, width, passes, thought, branches]
    return Panel("compound-planner", show, controls=controls, figures=[fig], source=source)
