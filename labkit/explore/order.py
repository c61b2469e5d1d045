"""The order in memory as context: write what attention made of a segment, as the paper does, or the segment itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labkit.explore import style
from labkit.explore.haystacks import pooled, stored_lengths
from labkit.explore.panel import Panel, choice
from labkit.explore.results import SYMBOLS
from labkit.intervals import seeds_differ
from labkit.tasks.needle import HAYS

__all__ = ["ORDERS", "gained", "order"]

ORDERS = {"ablation-mac": "writes what attention gave (the paper)", "ablation-mac-input": "writes its input"}


def gained(rows: pd.DataFrame, variant: str) -> pd.DataFrame:
    """What the paper's order finds more than the other: columns value, low, high, by length of the haystack."""
    own = rows[(rows["variant"] == variant) & (rows["needles"] == 1) & (rows["seed"] != "all")]
    paper, other = (own[own["checkpoint"] == name].pivot(index="seed", columns="length") for name in ORDERS)
    both = paper.index.intersection(other.index)
    shares = (part.loc[both, "accuracy"] for part in (other, paper))
    ends = seeds_differ(*(share.to_numpy(np.float64) for share in shares), n=int(own["n"].min()))
    return pd.DataFrame(dict(zip(("value", "low", "high"), ends, strict=True)), index=paper["accuracy"].columns)


def order(rows: pd.DataFrame | None = None) -> Panel:
    """Recall of both orders by length of the haystack: the mean of the seeds with its interval, and every seed."""
    rows = stored_lengths(ORDERS) if rows is None else rows
    rows = rows[rows["needles"] == 1]
    shown, lengths = pooled(rows), sorted(int(length) for length in rows["length"].unique())
    kinds = [variant for variant in HAYS if variant in set(rows["variant"])]
    variant = choice("needle", kinds, kinds[0])
    fig = style.figure(
        "write-order", "Two orders of memory as context", x="tokens of the haystack", y="right answers (share)",
        x_range=(np.log2(lengths[0]) - 0.3, np.log2(lengths[-1]) + 0.3), y_range=(-0.03, 1.05), width=860, height=430,
        margin_b=110,
    )  # fmt: skip
    fig.update_xaxes(tickvals=[np.log2(at) for at in lengths], ticktext=[f"{at:,}" for at in lengths])
    traces = {}
    for i, (name, told) in enumerate(ORDERS.items()):
        look = {"colour": style.CYCLE[i], "marker_symbol": SYMBOLS[i]}
        band, line = style.band(fig, told, colour=style.CYCLE[i]), style.line(fig, told, **look)
        traces[name] = band, line, style.line(fig, f"{told}, seeds", mode="markers", opacity=0.5, **look)

    def show() -> str:
        part = rows[rows["variant"] == variant.value]
        with fig.batch_update():
            for name, (band, line, seeds) in traces.items():
                own = shown[(shown["variant"] == variant.value) & (shown["checkpoint"] == name)].sort_values("length")
                x = np.log2(own["length"].to_numpy(float))
                line.x, line.y = style.column(x), style.column(own["accuracy"])
                band.update(style.band_outline(x, own["low"], own["high"]))
                each = part[(part["checkpoint"] == name) & (part["seed"] != "all")]
                seeds.x = style.column(np.log2(each["length"].to_numpy(float)))
                seeds.y = style.column(each["accuracy"])
        more = gained(rows, variant.value)
        told = "; ".join(f"{at:,} tokens {e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]" for at, e in more.iterrows())
        return f"{variant.value}: the paper's order finds more by, seed against seed: {told}. Shaded: 95% intervals."

    return Panel(
        "write-order", show, controls=[variant], figures=[fig],
        source=f"Stored: data/results/{', '.join(f'{name}-haystack.csv' for name in ORDERS)}; made by `labkit haystack "
        "<name>` on held-out haystacks of one needle.",
    )  # fmt: skip
