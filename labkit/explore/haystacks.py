"""Stored rows of needles and documents: recall by length of the haystack, and by age of the document."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from labkit import haystack
from labkit.explore import style
from labkit.explore.panel import Panel, choice, slider
from labkit.explore.results import SYMBOLS
from labkit.files import data_dir
from labkit.tasks.needle import HAYS

__all__ = [
    "MODELS",
    "VARIANTS",
    "by_age",
    "by_length",
    "by_number",
    "curve",
    "pooled",
    "settings",
    "stored_lengths",
    "stored_streams",
]

#: whose rows are drawn, in this order, and what they are called
MODELS = {
    "titans-lmm": "LMM",
    "titans-mac": "MAC",
    "titans-mag": "MAG",
    "titans-mal": "MAL",
    "needle-delta": "gated delta",
    "needle-sleep": "sleeping hybrid",
    "needle-sliding": "sliding window",
    "needle-cache": "full cache",
}
#: asked for single needles only, and drawn beside the model that they vary
VARIANTS = {"needle-delta-gates": ("needle-delta", "gated delta, gates see 3")}
COLOURS = (*style.CYCLE, style.GREY)


def stored_lengths(names: Iterable[str] = MODELS, *, writes: bool = True, passes: int = 1) -> pd.DataFrame:
    """The rows of all models of these names that `labkit haystack` was run for, or those of the control.

    Raises FileNotFoundError where there are none.
    """
    paths = {name: data_dir() / "results" / f"{name}-haystack.csv" for name in names}
    tables = [haystack.read(path) for path in paths.values() if path.is_file()]
    if not tables:
        raise FileNotFoundError(
            f"No haystack was searched yet; `labkit haystack {next(iter(paths))}` makes the first rows."
        )
    rows = pd.concat(tables, ignore_index=True)
    return rows[(rows["writes"] == writes) & (rows["passes"] == passes)]


def settings(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows with a column ``setting``, such as "16 in 1,024" (facts, tokens), and all settings in order."""
    kinds = sorted(set(zip(rows["needles"].astype(int), rows["length"].astype(int), strict=True)))
    named = {pair: f"{pair[0]} in {pair[1]:,}" for pair in kinds}
    pairs = zip(rows["needles"], rows["length"], strict=True)
    return rows.assign(setting=[named[pair] for pair in pairs]), list(named.values())


def pooled(rows: pd.DataFrame, by: str = "checkpoint") -> pd.DataFrame:
    """The rows over all seeds, and those of the one seed where a model (or another value of `by`) has only one."""
    several = set(rows.loc[rows["seed"] == "all", by])
    return rows[(rows["seed"] == "all") | ~rows[by].isin(several)]


def by_length(rows: pd.DataFrame | None = None) -> Panel:
    """Guess, then choose a needle and see each model's recall by the length of the haystack, with 95% intervals.

    Lines and values come when the reader asks for them, and not with the first move of the guess.
    """
    rows = stored_lengths((*MODELS, *VARIANTS)) if rows is None else rows
    shown = pooled(rows[rows["needles"] == 1])
    kinds = [variant for variant in HAYS if variant in set(shown["variant"])]
    variant, guess = choice("needle", kinds, kinds[0]), slider("my guess for the longest haystack (%)", 50, 0, 100, 5)
    truth = choice("what was measured", [("not yet", False), ("shown", True)], False)
    trained = int(shown["trained"].max())
    lengths = sorted(int(length) for length in shown["length"].unique())
    fig = style.figure(
        "needle-by-length", "Recall of one needle", x="tokens of the haystack", y="right answers (share)",
        x_range=(np.log2(trained) - 0.3, np.log2(lengths[-1]) + 0.3), y_range=(-0.03, 1.05), width=860, height=470,
        margin_b=130,
    )  # fmt: skip
    fig.update_xaxes(
        tickvals=[np.log2(at) for at in (trained, *lengths)],
        ticktext=[f"{at:,}" for at in (trained, *lengths)],
    )
    traces = {}
    called = MODELS | {name: told for name, (_, told) in VARIANTS.items()}
    for name, told in called.items():
        if name in set(shown["checkpoint"]):
            i = list(MODELS).index(VARIANTS[name][0] if name in VARIANTS else name)
            dash = "dash" if name in VARIANTS else "solid"
            band = style.band(fig, told, colour=COLOURS[i])
            traces[name] = band, style.line(fig, told, colour=COLOURS[i], marker_symbol=SYMBOLS[i], dash=dash)
    guessed = style.line(fig, "my guess", colour=style.ROLES["guess"], marker_symbol="diamond-open", marker_size=13)
    ends = (np.log2(trained), np.log2(lengths[-1]))
    guessing = style.line(fig, "guessing", ends, (0, 0), colour=style.ROLES["floor"], dash="dash", markers=False)
    style.line(
        fig, "longest of training", (ends[0], ends[0]), (0, 1), colour=style.ROLES["truth"], dash="dot", markers=False
    )

    def show() -> str:
        part = shown[shown["variant"] == variant.value]
        longest: list[tuple[float, str]] = []
        with fig.batch_update():
            guessed.x, guessed.y = style.column([ends[1]]), style.column([guess.value / 100])
            guessing.y = style.column([part["floor"].iloc[0]] * 2)
            for name, (band, line) in traces.items():
                own = part[(part["checkpoint"] == name) & truth.value].sort_values("length")
                x = np.log2(own["length"].to_numpy(float))
                line.x, line.y = style.column(x), style.column(own["accuracy"])
                band.update(style.band_outline(x, own["low"], own["high"]))
                if len(own):
                    longest.append((float(own["accuracy"].iloc[-1]), f"{called[name]} {own['accuracy'].iloc[-1]:.2f}"))
        if not truth.value:
            return (
                f"{variant.value}, at {lengths[-1]:,} tokens: you say {guess.value / 100:.2f} for the best of them. "
                "Turn “what was measured” once your guess is set."
            )
        ranked = ", ".join(told for _, told in sorted(longest, reverse=True))
        return (
            f"{variant.value}, at {lengths[-1]:,} tokens: {ranked}; you guessed {guess.value / 100:.2f}. Trained on up "
            f"to {trained}. Shaded: 95% intervals."
        )

    pairs = zip(shown["checkpoint"], shown["seed"], strict=True)
    seeds = {name: "several seeds" if seed == "all" else "one seed" for name, seed in pairs}
    files = ", ".join(f"data/results/{name}-haystack.csv ({seeds[name]})" for name in traces)
    return Panel(
        "needle-by-length", show, controls=[guess, truth, variant], figures=[fig],
        source=f"Stored: {files}; made by `labkit haystack <name>` on held-out haystacks, every needle asked alone.",
    )  # fmt: skip


def by_number(rows: pd.DataFrame | None = None) -> Panel:
    """Recall against the number of facts in one haystack, each asked alone, with 95% intervals."""
    rows = stored_lengths() if rows is None else rows
    rows = rows[(rows["variant"] == "passkey") & (rows["length"] == haystack.LENGTHS[0])]
    shown = pooled(rows)
    counts = sorted(int(count) for count in shown["needles"].unique())
    fig = style.figure(
        "needles-by-number", f"Recall of many facts in {haystack.LENGTHS[0]:,} tokens", x="facts in the haystack",
        y="right answers (share)", x_range=(-0.3, np.log2(counts[-1]) + 0.3), y_range=(-0.03, 1.05), width=860,
        height=470, margin_b=130,
    )  # fmt: skip
    fig.update_xaxes(tickvals=[np.log2(count) for count in counts], ticktext=[str(count) for count in counts])
    most = []
    for i, (name, told) in enumerate(MODELS.items()):
        own = shown[shown["checkpoint"] == name].sort_values("needles")
        if len(own):
            x = np.log2(own["needles"].to_numpy(float))
            curve(fig, i, told, x, own)
            most.append(f"{told} {own['accuracy'].iloc[-1]:.2f} of {own['needles'].iloc[-1]}")
    return Panel(
        "needles-by-number", lambda: f"Of the most facts that each was asked for: {', '.join(most)}.", controls=[],
        figures=[fig],
        source="Stored: data/results/<name>-haystack.csv, made by `labkit haystack <name> --needles ...` on held-out "
        "pass-keys, every fact asked alone. Shaded: 95% intervals.",
    )  # fmt: skip


def stored_streams() -> pd.DataFrame:
    """The rows of `labkit stream`, of memories and of the archive; FileNotFoundError where there are none."""
    folder = data_dir() / "results"
    paths = [folder / f"{name}-{kind}.csv" for name in MODELS for kind in ("stream", "archive")]
    tables = [pd.read_csv(path, dtype={"seed": str, "weights": str}) for path in paths if path.is_file()]
    if not tables:
        raise FileNotFoundError("No stream was read yet; `labkit stream titans-lmm` makes the first rows.")
    return pd.concat(tables, ignore_index=True)


def by_age(rows: pd.DataFrame | None = None) -> Panel:
    """Recall of a stream of documents against how many documents ago the fact was read, with 95% intervals."""
    rows = stored_streams() if rows is None else rows
    rows = rows.assign(reader=[f"{c}/{a}" for c, a in zip(rows["checkpoint"], rows["archive"], strict=True)])
    shown = pooled(rows, by="reader")
    shown = shown[~shown["age"].str.startswith("document")]
    ages = list(dict.fromkeys(shown["age"]))
    fig = style.figure(
        "stream-by-age", "A stream of 200 documents", x="documents read since", y="right answers (share)",
        x_range=(-0.4, len(ages) - 0.6), y_range=(-0.03, 1.05), width=860, height=470, margin_b=130,
    )  # fmt: skip
    fig.update_xaxes(tickvals=list(range(len(ages))), ticktext=ages)
    newest = []
    for _, part in shown.groupby("reader", sort=False):
        own = part.set_index("age").loc[ages]
        name, archive = own["checkpoint"].iloc[0], bool(own["archive"].iloc[0])
        told = "BM25 and a reader" if archive else MODELS[name]
        curve(fig, list(MODELS).index(name), told, np.arange(len(ages), dtype=np.float64), own)
        newest.append(f"{told} {own['accuracy'].iloc[0]:.2f} and {own['accuracy'].iloc[-1]:.2f}")
    told = f"Right answers about the newest document, and about those {ages[-1]} back: {', '.join(newest)}."
    return Panel(
        "stream-by-age", lambda: told, controls=[], figures=[fig],
        source="Stored: data/results/<name>-stream.csv and -archive.csv, made by `labkit stream <name>` on held-out "
        "text, every question asked alone. Shaded: 95% intervals.",
    )  # fmt: skip


def curve(fig: go.Figure, i: int, told: str, x: NDArray[np.float64], own: pd.DataFrame) -> None:
    """Add the line of the i-th model: ``accuracy`` and its interval, ``low`` to ``high``."""
    colour = COLOURS[i % len(COLOURS)]
    style.band(fig, told, x, own["low"], own["high"], colour=colour)
    style.line(fig, told, x, own["accuracy"], colour=colour, marker_symbol=SYMBOLS[i % len(SYMBOLS)])
