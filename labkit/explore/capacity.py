"""Notebook 01's panels: a guess, two live knobs, the two-way table, and what the numbers say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from labkit import contrasts, results
from labkit.explore import style
from labkit.explore.grid import INSTANCES, Fresh, Grid, share_by_depth, share_by_place
from labkit.explore.panel import Panel, choice, slider
from labkit.files import data_dir
from labkit.intervals import Interval

__all__ = [
    "agreement",
    "by_seed",
    "EFFECTS",
    "effects",
    "guess",
    "guesses",
    "measured",
    "passes_at_each_size",
    "table",
    "two_knobs",
]

TITLES = {"mqar": "MQAR", "depo": "Depo"}
#: (task, knob) and how the lab words them, from top to bottom of the figure.
EFFECTS = {
    ("mqar", "K"): "state size, on MQAR",
    ("mqar", "N"): "passes, on MQAR",
    ("depo", "K"): "state size, on Depo",
    ("depo", "N"): "passes, on Depo",
}
NOTHING = "The grid has not been evaluated here, so there is nothing to show yet."
MOST = 8  # passes on the slider; the models were trained with 1 to 4


def guess() -> Panel:
    """Four sliders for how much each knob wins on each task, in percentage points, drawn as they move."""
    controls = [slider(f"{words} (points)", 25, -20, 100) for words in EFFECTS.values()]
    fig = _rows("guess", "Your guess")
    dots = _guess_dots(fig)

    def show() -> str:
        values = [control.value / 100 for control in controls]
        dots.x = style.column(values)
        (k, n), (k_depo, n_depo) = values[:2], values[2:]
        return (
            f"Your guess says: K wins {100 * (k - k_depo):.0f} points more on MQAR than on Depo, "
            f"and N {100 * (n_depo - n):.0f} points more on Depo than on MQAR."
        )

    return Panel("guess", show, controls=controls, figures=[fig], source="Your own numbers.")


def guesses(panel: Panel) -> list[float]:
    """What the sliders of a `guess` stand at, as shares, in the order of `EFFECTS`."""
    return [control.value / 100 for control in panel.controls.values()]


def two_knobs(grid: Grid | None = None, *, fast: bool = False) -> Panel:
    """State size K and passes N: the real models answer fresh instances of both tasks at every move.

    Args:
        grid: which models; by default those of seed 0.
        fast: draw fewer instances, for a quick run through the notebook.
    """
    grid = grid or Grid(instances=INSTANCES // 4 if fast else INSTANCES)
    sizes, missing = grid.sizes, grid.missing()
    known = sorted({size for found in sizes.values() for size in found})
    state = choice("state size K", known or [0], known[0] if known else 0)
    passes = slider("passes N", 1, 1, MOST)
    figures = {
        "mqar": _shares("mqar", "place of the pair in the context, first to last"),
        "depo": _shares("depo", "hops asked for"),
    }
    drawn: dict[str, Fresh | None] = dict.fromkeys(figures)
    curves = {task: _curves(fig) for task, fig in figures.items()}

    def show() -> str:
        told = [f"K = {state.value}: 4K² = {4 * state.value**2:,} numbers of memory; N = {passes.value}."]
        for task, fig in figures.items():
            found = None
            if state.value in sizes[task]:
                found = grid.fresh(task, state.value, passes.value)
                told.append(f"{TITLES[task]}: {found.share:.2f} right, {len(found.correct)} fresh instances.")
            _draw(fig, curves[task], task, found, drawn[task])
            drawn[task] = found
        return " ".join([*told, missing]) if known else f"N = {passes.value}. {missing}"

    return Panel(
        "two-knobs",
        show,
        controls=[state, passes],
        figures=[[*figures.values()]],
        source=f"Live: data/checkpoints/grid-mqar-K-s{grid.seed} and grid-depo-K-s{grid.seed}, on instances "
        "drawn anew at each move. Pale: the move before. Dashed: a guess that has not seen the context.",
    )


def measured(folder: str | Path | None = None) -> dict[str, Any]:
    """What `labkit contrast` stored in `folder` (data/results); nothing, and a printed sentence, if it has
    not.
    """
    try:
        return contrasts.read(folder)
    except FileNotFoundError as missing:
        print(missing)
        return {}


def table(found: dict[str, Any]) -> pd.DataFrame:
    """The two-way table over all seeds: a row for each task and K, a column for each N, "share [low, high]".

    Args:
        found: what `measured` returned.
    """
    rows = [
        {"task": TITLES[e["task"]], "K": e["K"], f"N = {e['N']}": contrasts.with_ends(e, "")}
        for e in found.get("cells", [])
    ]
    return pd.DataFrame(rows).groupby(["task", "K"], sort=False).first() if rows else pd.DataFrame()


def by_seed(passes: Sequence[int], folder: str | Path | None = None) -> pd.DataFrame:
    """What the averages hide: the share right of every seed, a column for each of these N and each depth.

    Args:
        folder: of the stored rows; data/results by default. Without rows the table is empty.
    """
    parts = []
    for task, files in contrasts.grid_files(folder).items():
        for size, path in files.items():
            rows = results.read(path)
            rows = rows[(rows["seed"] != results.POOLED) & rows["passes"].isin(passes)]
            parts.append(rows.assign(task=TITLES[task], K=size).rename(columns={"passes": "N"}))
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts).pivot_table(index=["task", "K", "seed"], columns=["N", "depth"], values="accuracy")
    return table.map(lambda share: "" if pd.isna(share) else f"{share:.2f}")


def agreement(found: dict[str, Any], grid: Grid | None = None) -> pd.DataFrame:
    """Do the sliders and the table tell the same? Live answers of seed 0 beside the stored ones of that seed.

    Args:
        found: what `measured` returned.
        grid: which models, and how many fresh instances; by default 100.

    Returns a row for each task, K and N: the share right `live`, on fresh instances, and `stored`. Empty, and
    a printed sentence, where there is nothing to compare."""
    grid = grid or Grid(instances=100)
    rows = []
    for task, sizes in grid.sizes.items() if found else ():
        for size in sizes:
            path = data_dir() / "results" / f"grid-{task}-{size}.csv"
            for passes in found["levels"]["N"] if path.is_file() else ():
                told = results.read(path)
                told = told[(told["seed"] == str(grid.seed)) & (told["passes"] == passes)]
                live, stored = grid.fresh(task, size, passes).share, told["correct"].sum() / told["asked"].sum()
                rows.append({"task": TITLES[task], "K": size, "N": passes, "live": live, "stored": stored})
    if not rows:
        print(NOTHING)
    return pd.DataFrame(rows, columns=["task", "K", "N", "live", "stored"])


def effects(found: dict[str, Any], guessed: Panel | None = None) -> Panel:
    """What each knob won on each task, over all seeds, with intervals, and what was guessed before.

    Args:
        found: what `measured` returned.
        guessed: the panel that `guess` made.
    """
    fig = _rows("effects", "What each knob won")
    if guessed is not None:
        _guess_dots(fig).x = style.column(guesses(guessed))
    if not found:
        return Panel("effects", lambda: NOTHING, controls=[], figures=[fig], source=_stored(found))
    told = [found["effects"][task][knob] for task, knob in EFFECTS]
    style.line(
        fig,
        "measured, with its 95% interval",
        [e["value"] for e in told],
        colour=style.ROLES["truth"],
        mode="markers",
        marker_size=9,
        error_x=_bars(told),
    ).y = list(EFFECTS.values())
    ks, ns = found["levels"]["K"], found["levels"]["N"]
    return Panel(
        "effects",
        lambda: contrasts.verdict(found),
        controls=[],
        figures=[fig],
        source=f"{_stored(found)} State size: from K = {ks[0]} to {ks[-1]}, mean over N = {_listed(ns)}. "
        f"Passes: from N = {ns[0]} to {ns[-1]}, mean over K = {_listed(ks)}.",
    )


def passes_at_each_size(found: dict[str, Any]) -> Panel:
    """What more passes won at each state size, on both tasks, over all seeds, with intervals.

    Args:
        found: what `measured` returned.
    """
    name = "passes-at-each-size"
    fig = style.figure(
        name,
        "What more passes won at each state size",
        x="K (a head's state is K × K)",
        y="right answers won (difference)",
        y_range=(-0.25, 1.05),
        width=760,
    )
    if not found:
        return Panel(name, lambda: NOTHING, controls=[], figures=[fig], source=_stored(found))
    ks, ns = found["levels"]["K"], found["levels"]["N"]
    fig.update_xaxes(type="category", range=(-0.5, len(ks) - 0.5))
    for (task, title), colour in zip(TITLES.items(), style.CYCLE, strict=False):
        told = found["effects"][task]["N"]["at"]
        trace = style.line(fig, title, y=[e["value"] for e in told], colour=colour, error_y=_bars(told))
        trace.x = [str(k) for k in ks]
    most = max(found["effects"]["mqar"]["N"]["at"], key=lambda e: e["value"])
    sentence = f"On MQAR, going from N = {ns[0]} to {ns[-1]} won most at K = {most['K']}: {contrasts.with_ends(most)}."
    return Panel(name, lambda: sentence, controls=[], figures=[fig], source=_stored(found))


def _bars(told: list[dict[str, float]]) -> dict[str, Any]:
    return style.error_bars([Interval(e["value"], e["low"], e["high"]) for e in told])


def _stored(found: dict[str, Any]) -> str:
    origin = f"Stored: data/results/{contrasts.FILE}, written by `{contrasts.COMMAND}`"
    if not found:
        return f"{origin}; not there yet."
    return (
        f"{origin}; {len(found['seeds'])} seeds, {found['n']:,} unseen instances each; "
        "95% intervals over seeds."
    )


def _listed(levels: list[int]) -> str:
    return ", ".join(map(str, levels))


def _rows(name: str, title: str) -> go.FigureWidget:
    fig = style.figure(
        name,
        title,
        x="right answers won (difference of shares)",
        y="knob and task",
        x_range=(-0.4, 1.05),
        width=760,
        height=320,
        margin_l=200,
    )
    order = list(EFFECTS.values())[::-1]
    fig.update_yaxes(type="category", categoryorder="array", categoryarray=order, range=(-0.6, 3.6))
    fig.add_vline(0, line_color=style.GREY, line_width=1)
    return fig


def _guess_dots(fig: go.FigureWidget) -> Any:
    dots = style.line(
        fig,
        "your guess",
        colour=style.ROLES["guess"],
        mode="markers",
        marker_symbol="diamond-open",
        marker_size=13,
        marker_line_width=2,
    )
    dots.y = list(EFFECTS.values())
    return dots


def _shares(task: str, asked: str) -> go.FigureWidget:
    return style.figure(
        task,
        TITLES[task],
        x=asked,
        y="right answers (share)",
        y_range=(-0.03, 1.03),
        width=540,
        height=340,
    )


def _curves(fig: go.FigureWidget) -> dict[str, Any]:
    """The three lines of a figure: the move before, the floor, and now."""
    pale = style.tint(style.ROLES["model"], 0.3)
    return {
        "before": style.line(fig, "the move before", colour=pale),
        "floor": style.line(fig, "floor", colour=style.ROLES["floor"], dash="dash", markers=False),
        "now": style.line(fig, "now", colour=style.ROLES["model"]),
    }


def _draw(fig: go.FigureWidget, curves: dict[str, Any], task: str, now: Fresh | None, before: Fresh | None) -> None:
    """Show the answers of this move and of the one before; where there is no model, nothing but a title."""
    by = share_by_place if task == "mqar" else share_by_depth
    with fig.batch_update():
        for name, fresh in (("before", before), ("now", now)):
            x, y = by(fresh) if fresh is not None else ([], [])
            curves[name].x, curves[name].y = style.column(x), style.column(y)
        told = "no model of this size"
        if now is not None:
            x, floor = by(now)[0], now.task.floor(1)
            curves["floor"].x, curves["floor"].y = style.column([x[0], x[-1]]), style.column([floor, floor])
            fig.layout.xaxis.range = (x[0] - 0.5, x[-1] + 0.5)
            told = f"{now.share:.2f} right"
        fig.layout.title.text = f"{TITLES[task]}: {told}"
