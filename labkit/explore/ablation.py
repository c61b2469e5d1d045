"""What has to cross from pass to pass? Trained weights made to sleep in ways they were not trained for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from labkit.evaluate import Evaluation, evaluate
from labkit.explore import style
from labkit.explore.mind import Sleeper
from labkit.explore.panel import Panel
from labkit.explore.panes import axes, panes
from labkit.explore.reaching import EXAM
from labkit.explore.stored import Stored, rivals
from labkit.recipes import list_recipes

__all__ = ["PASSES", "WAYS", "ablate", "ablations", "table", "trained_so"]

PASSES = (1, 2, 3, 4, 6)

#: What is changed in the configuration; with one pass all are the same, since nothing crosses yet.
WAYS: dict[str, dict[str, object]] = {
    "both cross (as trained)": {},
    "only the fast weights S": {"carry": "state"},
    "only the hidden states h": {"carry": "hidden"},
    "both, window not re-injected": {"reinject": False},
}


def ablate(sleeper: Sleeper, passes: Sequence[int], n: int) -> dict[str, Evaluation]:
    """One evaluation for each of `WAYS`: the same weights, the same n unseen contexts, the same questions."""
    return {
        way: evaluate(
            sleeper.model.with_config(**changes), sleeper.task, passes, n, EXAM, name=way, model_seed=sleeper.seed
        )
        for way, changes in WAYS.items()
    }


def table(found: dict[str, Evaluation]) -> pd.DataFrame:
    """Share of right answers over all depths, one row for each way and one column for each N."""
    rows = {way: {p: float(one.correct[i].mean()) for i, p in enumerate(one.passes)} for way, one in found.items()}
    return pd.DataFrame(rows).T.rename_axis(columns="N").round(3)


def trained_so(sleeper: Sleeper) -> list[Stored]:
    """Stored rows of models that were also trained in one of these ways, on the sleeper's task."""
    found = []
    for rows in rivals(tuple(list_recipes())):
        recipe = rows.recipe
        assert recipe is not None  # its name was among the recipes
        changed = recipe.model.get("carry", "both") != "both" or not recipe.model.get("reinject", True)
        if changed and recipe.make_task().params == sleeper.task.params:
            found.append(rows)
    return found


def ablations(sleeper: Sleeper, found: dict[str, Evaluation]) -> Panel:
    """Right answers against N, and by depth at the largest N, for each way of sleeping."""
    first = next(iter(found.values()))
    n, depths, last = np.array(first.passes), first.depths, first.passes[-1]
    fig = panes("ablations", ["All questions together", f"By depth, N = {last}"], height=430, margin_b=130)
    axes(
        fig, (1, 1), x="sleep passes N", y="right answers (share)", x_range=(n[0] - 0.3, n[-1] + 0.3),
        y_range=(-0.03, 1.03),
    )  # fmt: skip
    axes(
        fig, (1, 2), x=sleeper.deeper, y="right answers (share)", x_range=(0.7, depths[-1] + 0.3), y_range=(-0.03, 1.03)
    )
    fig.update_xaxes(dtick=1)
    symbols, dashes = ("circle", "square", "diamond", "x"), ("solid", "dash", "dot", "dashdot")
    for (way, one), colour, symbol, dash in zip(found.items(), style.CYCLE, symbols, dashes, strict=False):
        look: dict[str, Any] = {"colour": colour, "dash": dash, "marker_symbol": symbol}
        style.line(fig, way, n, one.correct.mean(axis=(1, 2)), xaxis="x", yaxis="y", **look)
        by_depth = [one.answers(last, depth).mean() for depth in depths]
        style.line(fig, way, depths, by_depth, xaxis="x2", yaxis="y2", showlegend=False, **look)
    others = trained_so(sleeper)
    for rival, symbol in zip(others, ("star", "hexagon", "pentagon", "cross"), strict=False):
        curve = rival.at(last)
        style.line(
            fig, f"{rival.name}: trained so, N = {curve.passes}, stored", curve.depth, curve.share,
            colour=style.GREY, dash="longdash", marker_symbol=symbol, xaxis="x2", yaxis="y2",
        )  # fmt: skip
    told = "; ".join(f"{way}: {one.correct[-1].mean():.2f}" for way, one in found.items())
    files = f" Stored: {', '.join(one.file for one in others)}." if others else ""
    return Panel(
        "ablations", lambda: f"Right answers at N = {last}, all {sleeper.deeper} together: {told}.",
        controls=[], figures=[fig],
        source=f"Measured now: {sleeper.name}, seed {sleeper.seed}, trained with both crossing and asked to do "
        f"without; {first.correct.shape[1]} unseen {sleeper.noun}s.{files}",
    )  # fmt: skip
