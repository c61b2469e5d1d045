"""The order in memory as context: write what attention made of a segment, as the paper does, or the segment itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from labkit.explore import style
from labkit.explore.haystacks import pooled, settings, stored_lengths
from labkit.explore.panel import Panel, choice
from labkit.explore.results import SYMBOLS
from labkit.intervals import seeds_differ
from labkit.tasks.needle import HAYS

__all__ = ["ORDERS", "gained", "order"]

ORDERS = {"ablation-mac": "writes what attention gave (the paper)", "ablation-mac-input": "writes its input"}


def gained(rows: pd.DataFrame, variant: str) -> pd.DataFrame:
    """What the paper's order finds more than the other, seed against seed: value, low, high for each setting."""
    own, kinds = settings(rows[(rows["variant"] == variant) & (rows["seed"] != "all")])
    paper, other = (
        own[own["checkpoint"] == name].pivot(index="seed", columns="setting", values="accuracy")[kinds]
        for name in ORDERS
    )
    both = paper.index.intersection(other.index)
    before, after = (part.loc[both].to_numpy(np.float64) for part in (other, paper))
    ends = seeds_differ(before, after, int(own["n"].min()))
    return pd.DataFrame(dict(zip(("value", "low", "high"), ends, strict=True)), index=kinds)


def order(rows: pd.DataFrame | None = None) -> Panel:
    """Recall of both orders by facts and tokens: the mean of the seeds with its interval, and every seed."""
    rows, cells = settings(stored_lengths(ORDERS) if rows is None else rows)
    shown, place = pooled(rows), {setting: i for i, setting in enumerate(cells)}
    kinds = [variant for variant in HAYS if variant in set(rows["variant"])]
    variant = choice("needle", kinds, kinds[0])
    fig = style.figure(
        "write-order", "Two orders of memory as context", x="facts in tokens", y="right answers (share)",
        x_range=(-0.5, len(cells) - 0.5), y_range=(-0.03, 1.05), width=860, height=430, margin_b=110,
    )  # fmt: skip
    fig.update_xaxes(tickvals=list(place.values()), ticktext=cells)
    traces = {}
    for i, (name, told) in enumerate(ORDERS.items()):
        look: dict[str, Any] = {"colour": style.CYCLE[i], "marker_symbol": SYMBOLS[i], "mode": "markers"}
        mean = style.line(fig, told, marker_size=11, error_y={"type": "data", "symmetric": False}, **look)
        traces[name] = (i - 0.5) / 5, mean, style.line(fig, f"{told}, seeds", opacity=0.4, **look)

    def show() -> str:
        part = rows[rows["variant"] == variant.value]
        with fig.batch_update():
            for name, (aside, mean, seeds) in traces.items():
                own = shown[(shown["variant"] == variant.value) & (shown["checkpoint"] == name)]
                each = part[(part["checkpoint"] == name) & (part["seed"] != "all")]
                mean.x, mean.y = style.column([place[at] + aside for at in own["setting"]]), own["accuracy"].to_numpy()
                mean.error_y = {"array": own["high"] - own["accuracy"], "arrayminus": own["accuracy"] - own["low"]}
                seeds.x = style.column([place[at] + aside + 0.04 for at in each["setting"]])
                seeds.y = style.column(each["accuracy"])
        more = gained(rows, variant.value)
        told = "; ".join(f"{at} {e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]" for at, e in more.iterrows())
        return f"{variant.value}: what the paper's order finds more, seed against seed, facts in tokens: {told}."

    return Panel(
        "write-order", show, controls=[variant], figures=[fig],
        source=f"Stored: data/results/{', '.join(f'{name}-haystack.csv' for name in ORDERS)}; made by `labkit haystack "
        "<name>` on held-out haystacks, every fact asked alone. Bars: 95% intervals.",
    )  # fmt: skip
