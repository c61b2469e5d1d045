"""How long the forms of the gated delta rule take: stored rows of ``labkit bench delta``, by length and chunk size."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from labkit.bench.growth import exponent
from labkit.explore import style
from labkit.explore.panel import Panel, choice, slider
from labkit.explore.panes import axes, panes, stack
from labkit.files import data_dir

__all__ = ["chunk_sizes", "growth_of", "speed", "stored_chunks", "stored_speed"]

#: candidates of the bench and their looks, the slowest of short texts first
LOOKS = {
    "labkit recurrent": ("token by token", "vermillion"),
    "flash-linear-attention naive": ("flash-linear-attention, naive", "orange"),
    "labkit plain": ("plain chunks", "sky"),
    "transformers fallback": ("transformers' fallback", "green"),
    "labkit": ("fast chunks", "blue"),
}
ASKED = (64, 1024)  # lengths at which the reader guesses
CHUNKS_COMMAND = (
    "labkit bench delta --size 256 1024 --chunk 8 16 32 64 128 --repeats 7 --out data/results/bench-chunks.csv"
)
GPU_COMMAND = (
    "labkit bench delta --device cuda --dtype bfloat16 --heads 16 --width 128 --only '*Triton' --size 1024 4096 "
    "--out data/results/bench-delta-cuda.csv"
)
SIZED = re.compile(r"(labkit(?: plain)?), chunks of (\d+)")


def stored_speed() -> pd.DataFrame:
    """Rows of ``labkit bench delta``; FileNotFoundError, with the command that makes them, where there are none."""
    return _stored("bench-delta", "labkit bench delta")


def stored_chunks() -> pd.DataFrame:
    """Rows of the same with further chunk sizes, which `chunk` and `form` name."""
    rows = _stored("bench-chunks", CHUNKS_COMMAND)
    found = rows["candidate"].str.extract(SIZED).set_axis(["form", "chunk"], axis=1)
    return rows.join(found).dropna(subset="form").astype({"chunk": int})


def stored_on_gpu() -> pd.DataFrame:
    """Rows of the same on a GPU, in bfloat16, against the kernels of flash-linear-attention; with ``milliseconds``."""
    rows = _stored("bench-delta-cuda", GPU_COMMAND)
    return rows.assign(milliseconds=1000 * rows["seconds"])


def _stored(name: str, command: str) -> pd.DataFrame:
    path = data_dir() / "results" / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"There are no results at {path}; `{command}` makes them.")
    return pd.read_csv(path)


def _milliseconds(seconds: pd.Series) -> str:
    ms = 1000 * float(seconds.iloc[0])
    return f"{ms:,.0f} ms" if ms >= 20 else f"{ms:.1f} ms"


def speed(rows: pd.DataFrame | None = None) -> Panel:
    """Guess at two lengths, then turn T: how long each form takes, forward and backward, and how that grows.

    Until the reader asks for what was measured, only the time of the fast chunks is drawn and told, and each guess as
    the time that token by token would then take.
    """
    rows = stored_speed() if rows is None else rows
    lengths = sorted(rows["length"].unique())
    guesses = {t: slider(f"guess at T = {t:,}: times faster", 2, 1, 60) for t in ASKED if t in lengths}
    truth = choice("what was measured", [("not yet", False), ("shown", True)], False)
    length = choice("T (tokens)", [(f"{t:,}", t) for t in lengths], lengths[0])
    fig = panes("kernel-speed", ["Time", "Beside the fast chunks"], height=420, gap=0.28, margin_b=120)
    lines = []
    for name, (told, colour) in LOOKS.items():
        own = rows[rows["candidate"] == name]
        drawn = {"mode": "lines+markers", "name": told, "line_color": style.PALETTE[colour]}
        x, y = np.log2(own["length"].to_numpy(float)), 1000 * own["seconds"].to_numpy(float)
        lines.append((stack(fig, (1, 1), go.Scatter(**drawn)), name, style.column(x), style.column(y)))
    mark = stack(fig, (1, 1), go.Scatter(x=[0, 0], y=[1e-1, 1e5], mode="lines", line_dash="dot", showlegend=False))
    mark.line.color = style.GREY
    dots = stack(fig, (1, 2), go.Scatter(x=[0], y=[0], mode="markers", marker_size=11, showlegend=False))
    dots.marker.color = [style.PALETTE[colour] for _, colour in LOOKS.values()]
    guessed = {"mode": "markers", "marker": {"symbol": "diamond-open", "size": 12, "color": style.ROLES["guess"]}}
    there = stack(fig, (1, 1), go.Scatter(name="your guesses", **guessed))
    yours = stack(fig, (1, 2), go.Scatter(showlegend=False, **guessed))
    ticks = np.log2(np.array(lengths, float))
    fig.update_xaxes(tickvals=list(ticks), ticktext=[str(t) for t in lengths], tickfont_size=11, row=1, col=1)
    ends = (ticks[0] - 0.4, ticks[-1] + 0.4)
    y_axis: dict[str, Any] = {"y": "forward and backward (ms)", "y_range": (0.3, 4), "type": "log", "dtick": 1}
    axes(fig, (1, 1), x="T (tokens)", x_range=ends, **y_axis)
    axes(fig, (1, 2), x="times as long as the fast chunks", y="", x_range=(0, 61), y_range=(-0.6, len(LOOKS) - 0.4))
    fig.update_yaxes(tickvals=list(range(len(LOOKS))), ticktext=[told for told, _ in LOOKS.values()], row=1, col=2)
    fast = rows[rows["candidate"] == "labkit"].set_index("length")["seconds"]

    def show() -> str:
        at = rows[rows["length"] == length.value].set_index("candidate")
        ratios = [float(at["ratio"].get(name, np.nan)) if truth.value else np.nan for name in LOOKS]
        mine = guesses.get(length.value)
        with fig.batch_update():
            for line, name, x, y in lines:
                known = truth.value or name == "labkit"
                line.x, line.y = (x, y) if known else (x[:0], y[:0])
            mark.x = style.column([np.log2(length.value)] * 2)
            dots.x, dots.y = style.column(ratios), style.column(range(len(LOOKS)))
            there.x = style.column(np.log2([float(t) for t in guesses]))
            there.y = style.column([1000 * fast[t] * guess.value for t, guess in guesses.items()])
            yours.x, yours.y = style.column([mine.value if mine else np.nan]), style.column([0])
        told = f"T = {length.value:,}: fast chunks take {_milliseconds(at['seconds'][['labkit']])}"
        if not truth.value:
            guess = f"; you say that token by token takes {mine.value} times as long" if mine else ""
            return f"{told}{guess}. Turn “what was measured” once your guesses are set."
        slow = at["ratio"].get("labkit recurrent")
        answer = (
            "token by token was not timed at this length" if slow is None else
            f"token by token takes {slow:.0f} times as long as the fast chunks"
        )  # fmt: skip
        asked = f", where you guessed {mine.value}" if mine and slow is not None else ""
        others = "; ".join(
            f"{form} {at['ratio'][name]:.1f}" for name, (form, _) in LOOKS.items()
            if name in at.index and name not in ("labkit", "labkit recurrent")
        )  # fmt: skip
        return f"{told}; {answer}{asked}. Times as long: {others}."

    one = rows.iloc[0]
    return Panel(
        "kernel-speed", show, controls=[*guesses.values(), truth, length], figures=[fig],
        source=f"Stored: data/results/bench-delta.csv, made by `labkit bench delta` on {one['processor']} with "
        f"{one['threads']} threads: batch {one['batch']}, {one['heads']} heads, K = V = {one['width']}, medians of "
        f"{one['repeats']} rounds in one run.",
    )  # fmt: skip


def chunk_sizes(rows: pd.DataFrame | None = None) -> Panel:
    """Turn T: time and memory by chunk size, for plain and fast chunks."""
    rows = stored_chunks() if rows is None else rows
    lengths, sizes = sorted(rows["length"].unique()), sorted(rows["chunk"].unique())
    length = choice("T (tokens)", [(f"{t:,}", t) for t in lengths], lengths[0])
    fig = panes("kernel-chunks", ["Time", "Memory"], height=360, gap=0.1, margin_b=110)
    lines = {}
    for column, pane in (("seconds", (1, 1)), ("peak_mib", (1, 2))):
        for form, (told, colour) in (("labkit plain", LOOKS["labkit plain"]), ("labkit", LOOKS["labkit"])):
            look = {"mode": "lines+markers", "name": told, "showlegend": column == "seconds"}
            trace = go.Scatter(x=[0], y=[0], line_color=style.PALETTE[colour], **look)
            lines[column, form] = stack(fig, pane, trace)
    names, ends = [str(size) for size in sizes], (-0.4, len(sizes) - 0.6)
    most = rows.assign(us=1e6 * rows["seconds"] / rows["length"], kib=1024 * rows["peak_mib"] / rows["length"])
    axes(
        fig, (1, 1), x="chunk size C (tokens)", y="forward and backward (µs a token)", x_range=ends,
        y_range=(0, 1.1 * most["us"].max()), x_names=names,
    )  # fmt: skip
    axes(
        fig, (1, 2), x="chunk size C (tokens)", y="most memory at once (KiB a token)", x_range=ends,
        y_range=(0, 1.1 * most["kib"].max()), x_names=names,
    )  # fmt: skip

    def show() -> str:
        at, best = most[most["length"] == length.value], []
        with fig.batch_update():
            for (column, form), trace in lines.items():
                own = at[at["form"] == form]
                trace.x = style.column([sizes.index(size) for size in own["chunk"]])
                trace.y = style.column(own["us" if column == "seconds" else "kib"])
        for form in ("labkit plain", "labkit"):
            own = at[at["form"] == form].sort_values("us").iloc[0]
            best.append(f"{LOOKS[form][0]} are fastest with C = {own['chunk']}, {own['us']:.0f} µs a token")
        return f"T = {length.value:,}: {'; '.join(best)}. The fast form takes chunks of 16 to 32 only."

    return Panel(
        "kernel-chunks", show, controls=[length], figures=[fig],
        source=f"Stored: data/results/bench-chunks.csv, made by `{CHUNKS_COMMAND}`.",
    )  # fmt: skip


def growth_of(rows: pd.DataFrame, name: str, since: int) -> str:
    """The exponent of a form's seconds over T from `since` tokens on, with its interval, in words."""
    own = rows[(rows["candidate"] == name) & (rows["length"] >= since)]
    slope = exponent(own["length"], own["seconds"])
    return f"{slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}]"
