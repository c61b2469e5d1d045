"""Panels of learning: the same lessons read once or several times, and where the lessons of each arm stood still."""

from __future__ import annotations

import itertools

import pandas as pd

from labkit import results
from labkit.explore import style
from labkit.explore.axes import ARMS, NOTHING
from labkit.explore.panel import Panel, choice, slider
from labkit.files import data_dir
from labkit.intervals import mean_of_seeds
from labkit.laws.teaching import opened
from labkit.results import read_rows

__all__ = ["COMMAND", "learned", "learning", "plateaus", "unseen"]

TABLE = "rule110-paper-curves.csv"
COMMAND = "`labkit train rule110-paper-n1 --device cuda`, and so on to n4, then `labkit curves`"
COLUMNS = {"checkpoint", "seed", "passes", "step", "tokens", "flops", "depth", "accuracy"}
UNITS = {
    "tokens": ("tokens of lessons (millions)", 1e6, "million tokens of lessons"),
    "flops": ("operations of training (10^12)", 1e12, "trillion operations of training"),
}


def learned() -> pd.DataFrame:
    """The curves that trainings left; none where the table is not there."""
    path = data_dir() / "results" / TABLE
    return read_rows(path, "curves", COLUMNS) if path.is_file() else pd.DataFrame(columns=sorted(COLUMNS))


def unseen(passes: int) -> pd.DataFrame:
    """Share of cells right on unseen rows of the models taught with `passes`, asked with as many: seeds by steps."""
    rows = results.read(data_dir() / "results" / f"rule110-paper-n{passes}.csv")
    own = rows[(rows["passes"] == passes) & (rows["seed"] != results.POOLED)]
    return own.pivot_table(index="seed", columns="depth", values="accuracy")


def learning(rows: pd.DataFrame) -> Panel:
    """Right cells in lessons against tokens or operations of training, one line for each number of passes."""
    deepest = int(rows["depth"].max()) if len(rows) else 1
    depth = slider("step t of the automaton", deepest - 1 or 1, 1, deepest)
    against = choice("against", [("tokens", "tokens"), ("operations", "flops")], "tokens")
    fig = style.figure(
        "learning", "The same lessons, read N times", x=UNITS["tokens"][0], y="cells right in lessons (share)",
        x_range=(0, 1), y_range=(0.45, 1.02), width=640,
    )  # fmt: skip
    levels = sorted(int(n) for n in rows["passes"].unique())
    colours = dict(zip(levels, style.CYCLE, strict=False))
    means = {n: style.line(fig, f"N = {n}", colour=colour, markers=False) for n, colour in colours.items()}
    each = {}
    seeds = sorted(rows["seed"].unique())
    for n, seed in itertools.product(levels, seeds):
        thin = {"color": style.tint(colours[n], 0.4), "width": 1}
        name = f"N = {n}, seed {seed}"
        each[n, seed] = style.line(fig, name, colour=colours[n], markers=False, line=thin, showlegend=False)

    def show() -> str:
        if not len(rows):
            return f"Nothing is stored; {COMMAND} writes it, on a GPU."
        title, size, words = UNITS[against.value]
        part = rows[rows["depth"] == depth.value]
        # what even the cheapest trainings spent: up to there all can be compared
        shared = float(rows.groupby("passes")[against.value].max().min())
        told = []
        with fig.batch_update():
            fig.layout.xaxis.title.text = title
            fig.layout.xaxis.range = (0, 1.02 * float(rows[against.value].max()) / size)
            for (n, seed), line in each.items():
                own = part[(part["passes"] == n) & (part["seed"] == seed)]
                line.x, line.y = style.column(own[against.value] / size), style.column(own["accuracy"])
            for n, line in means.items():
                own = part[part["passes"] == n].pivot_table(index="step", columns="seed", values="accuracy")
                own = own.reindex(columns=seeds).dropna()  # from where all seeds are asked
                cost = rows[rows["passes"] == n].drop_duplicates("step").set_index("step")[against.value]
                line.x = style.column(cost.loc[own.index].to_numpy() / size)
                line.y = style.column(own.mean(axis=1).to_numpy())
                own = own[cost.loc[own.index] <= shared]
                if len(own):
                    last = mean_of_seeds(own.iloc[-1].tolist())
                    told.append(f"N = {n}: {last.value:.2f} [{last.low:.2f}, {last.high:.2f}]")
                else:
                    told.append(f"N = {n}: not asked in all seeds")
        return f"Right at step {depth.value} after {shared / size:.0f} {words}, mean of the seeds: {', '.join(told)}."

    source = f"Stored: data/results/{TABLE}, from {COMMAND}. Thin: each seed; thick: their mean, where all are asked."
    return Panel("learning", show, controls=[depth, against], figures=[fig], source=source)


def plateaus() -> Panel:
    """How deep the lessons of each arm had come, against tokens: one curriculum, which waits until a hop is known."""
    found = {arm: opened(f"think-{arm}-32") for arm in ARMS}
    seeds = sorted(set().union(*(table["seed"] for table in found.values())))
    seed = slider("training seed", 0, 0, max([2, *map(int, seeds)]))
    most = max([table["tokens"].max() / 1e6 for table in found.values() if len(table)], default=1.0)
    fig = style.figure(
        "compound-plateaus", "One curriculum, four kinds of thought", x="tokens of lessons (millions)",
        y="deepest hop asked in lessons", x_range=(0, 1.02 * most), y_range=(0.5, 7.5), width=640,
    )  # fmt: skip
    stairs = {
        arm: style.line(fig, ARMS[arm], colour=c, markers=False, line={"color": c, "width": 3 - 0.6 * i, "shape": "hv"})
        for i, (arm, c) in enumerate(zip(ARMS, style.CYCLE, strict=False))
    }

    def show() -> str:
        if not seeds:
            return NOTHING.format("`labkit sweep arms`")
        told = []
        with fig.batch_update():
            for arm, line in stairs.items():
                own = found[arm][found[arm]["seed"] == seed.value]
                line.x, line.y = style.column(own["tokens"] / 1e6), style.column(own["depth"])
                if len(own):
                    lasted = own["tokens"].diff().to_numpy()[1:] / 1e6
                    longest = int(lasted.argmax())
                    until = ", where training ended" if longest == len(lasted) - 1 else ""
                    told.append(
                        f"{ARMS[arm]} came to hop {own['depth'].max()} and stood longest at hop "
                        f"{own['depth'].iloc[longest]}{until} ({lasted[longest]:.1f} million)"
                    )
                else:
                    told.append(f"{ARMS[arm]}: no such seed")
        return f"Seed {seed.value}: {'; '.join(told)}."

    source = "Stored: the cards of data/checkpoints/think-*-32, from `labkit sweep arms`."
    return Panel("compound-plateaus", show, controls=[seed], figures=[fig], source=source)
