"""One session that read two million tokens: what it knew on the way, and what it weighed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from labkit import long_run as runs
from labkit.explore import style
from labkit.explore.panel import Panel
from labkit.explore.panes import axes, panes, stack
from labkit.explore.results import SYMBOLS
from labkit.files import data_dir

__all__ = ["long_run", "stored_run"]

#: what should stay flat: the column of `labkit.long_run`, and what it is called
FLAT = {"state_bytes": "state", "resident_bytes": "resident memory", "tokens_per_second": "tokens per second"}

#: which facts: the start of the columns, what they are called, and their look
ASKED = {"start": ("from the start", "model", "solid"), "fresh": ("just read", "ceiling", "dot")}


def stored_run(name: str = "titans-lmm") -> pd.DataFrame:
    """The rows of `labkit long-run`, of all seeds; FileNotFoundError where it was not run."""
    return runs.read(data_dir() / "results" / f"{name}-long-run.csv")


def long_run(rows: pd.DataFrame | None = None) -> Panel:
    """What was recalled of the start and of facts just read, and how size and pace changed, by tokens read."""
    rows = stored_run() if rows is None else rows
    fig = panes("long-run", ["Recalled", "Against the first mark"], height=420, gap=0.09, margin_b=130)
    for symbol, (seed, own) in zip(SYMBOLS, rows.groupby("seed"), strict=False):
        x = style.column(np.log2(own["tokens"].to_numpy(float)))
        for key, (told, colour, dash) in ASKED.items():
            look = {"mode": "lines+markers", "name": f"{told}, seed {seed}", "marker_symbol": symbol}
            line = {"color": style.ROLES[colour], "dash": dash}
            stack(fig, (1, 1), go.Scatter(x=x, y=style.column(own[f"{key}_value"]), line=line, **look))
    first = rows[rows["seed"] == rows["seed"].iloc[0]]
    x, most = np.log2(first["tokens"].to_numpy(float)), 1.0
    looks = (("vermillion", "solid"), ("black", "dash"), ("purple", "dot"))
    for (key, told), (colour, dash) in zip(FLAT.items(), looks, strict=True):
        whole = first[key].to_numpy(float)
        share = whole / whole[np.isfinite(whole)][0]
        most = max(most, float(np.nanmax(share)))
        drawn = {"mode": "lines+markers", "name": told, "line": {"color": style.PALETTE[colour], "dash": dash}}
        stack(fig, (1, 2), go.Scatter(x=style.column(x), y=style.column(share), **drawn))
    ends = (x[0] - 0.4, x[-1] + 0.4)
    thousands = [f"{tokens / 1000:.0f}" for tokens in first["tokens"]]
    fig.update_xaxes(tickvals=list(x), ticktext=thousands, tickfont_size=11)
    axes(fig, (1, 1), x="thousand tokens read", y="right answers (share)", x_range=ends, y_range=(-0.03, 1.05))
    axes(fig, (1, 2), x="thousand tokens read", y="times the first", x_range=ends, y_range=(0, 1.15 * most))
    last, ends_of = first.iloc[-1], rows[rows["tokens"] == rows["tokens"].max()]
    start, fresh = (", ".join(f"{share:.2f}" for share in ends_of[f"{key}_value"]) for key in ("start", "fresh"))
    told = (
        f"After {last['tokens']:,} tokens, by seed: {start} of the {last['asked']} facts of the start, {fresh} of as "
        f"many just read. Seed {last['seed']}: a state of {last['state_bytes'] / 1024:,.0f} KiB, "
        f"{last['resident_bytes'] / 2**20:,.0f} MiB resident, {last['tokens_per_second']:,.0f} tokens per second."
    )
    name = rows["checkpoint"].iloc[0]
    return Panel(
        "long-run", lambda: told, controls=[], figures=[fig],
        source=f"Stored: data/results/{name}-long-run.csv, made by `labkit long-run {name}`, a session for each seed. "
        f"Right: seed {last['seed']}.",
    )  # fmt: skip
