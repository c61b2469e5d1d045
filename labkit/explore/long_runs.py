"""One session that read two million tokens: what it knew on the way, and what it weighed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from labkit.explore import style
from labkit.explore.panel import Panel
from labkit.explore.panes import axes, panes, stack
from labkit.files import data_dir

__all__ = ["long_run", "stored_run"]

#: what should stay flat: the column of `labkit.long_run`, and what it is called
FLAT = {"state_bytes": "state", "resident_bytes": "resident memory", "tokens_per_second": "tokens per second"}


def stored_run(name: str = "titans-lmm") -> pd.DataFrame:
    """The rows of `labkit long-run`; FileNotFoundError where it was not run."""
    path = data_dir() / "results" / f"{name}-long-run.csv"
    if not path.is_file():
        raise FileNotFoundError(f"There are no rows at {path}; `labkit long-run {name}` makes them.")
    return pd.read_csv(path, dtype={"weights": str})


def long_run(rows: pd.DataFrame | None = None) -> Panel:
    """What was recalled of the start and of facts just read, and how size and pace changed, by tokens read."""
    rows = stored_run() if rows is None else rows
    x = np.log2(rows["tokens"].to_numpy(float))
    fig = panes("long-run", ["Recalled", "Against the first mark"], height=400, gap=0.09, margin_b=110)
    for key, told, colour in (("start", "from the start", "model"), ("fresh", "just read, in a fork", "ceiling")):
        own = {"array": rows[f"{key}_high"] - rows[f"{key}_value"], "type": "data", "symmetric": False}
        own |= {"arrayminus": rows[f"{key}_value"] - rows[f"{key}_low"]}
        drawn = {"mode": "lines+markers", "name": told, "marker_color": style.ROLES[colour], "error_y": own}
        stack(fig, (1, 1), go.Scatter(x=style.column(x), y=style.column(rows[f"{key}_value"]), **drawn))
    most = 1.0
    looks = (("vermillion", "solid"), ("black", "dash"), ("purple", "dot"))
    for (key, told), (colour, dash) in zip(FLAT.items(), looks, strict=True):
        whole = rows[key].to_numpy(float)
        share = whole / whole[np.isfinite(whole)][0]
        most = max(most, float(np.nanmax(share)))
        drawn = {"mode": "lines+markers", "name": told, "line": {"color": style.PALETTE[colour], "dash": dash}}
        stack(fig, (1, 2), go.Scatter(x=style.column(x), y=style.column(share), **drawn))
    ends = (x[0] - 0.4, x[-1] + 0.4)
    thousands = [f"{tokens / 1000:.0f}" for tokens in rows["tokens"]]
    fig.update_xaxes(tickvals=list(x), ticktext=thousands, tickfont_size=11)
    axes(fig, (1, 1), x="thousand tokens read", y="right answers (share)", x_range=ends, y_range=(-0.03, 1.05))
    axes(fig, (1, 2), x="thousand tokens read", y="times the first", x_range=ends, y_range=(0, 1.15 * most))
    last = rows.iloc[-1]
    told = (
        f"After {last['tokens']:,} tokens: {last['start_value']:.2f} of the {last['asked']} facts of the start, "
        f"{last['fresh_value']:.2f} of as many just read; a state of {last['state_bytes'] / 1024:,.0f} KiB, "
        f"{last['resident_bytes'] / 2**20:,.0f} MiB resident, {last['tokens_per_second']:,.0f} tokens per second."
    )
    name = rows["checkpoint"].iloc[0]
    return Panel(
        "long-run", lambda: told, controls=[], figures=[fig],
        source=f"Stored: data/results/{name}-long-run.csv, made by `labkit long-run {name}`, seed "
        f"{last['seed']}, one session. Bars: 95% (Wilson).",
    )  # fmt: skip
