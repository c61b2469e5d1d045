"""Stored rows of the Titans and their rivals on pairs (MQAR) and on real text (bits per byte), one seed of each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from labkit import bits, results
from labkit.checkpoints import read_card
from labkit.explore import style
from labkit.explore.haystacks import MODELS, curve
from labkit.explore.panel import Panel
from labkit.files import data_dir
from labkit.intervals import share_right

__all__ = ["bits_by_length", "fewer_than_window", "pairs_by_window", "stored_bits", "stored_pairs"]

#: the models of `labkit.explore.haystacks`, by what follows "mqar-" and "text-" in the names of their recipes
KINDS = {name.split("-")[1]: told for name, told in MODELS.items()}


def stored_pairs(passes: int = 1) -> pd.DataFrame:
    """Recall of pairs by how many windows ago they were read, from the single answers of `labkit evaluate mqar-...`.

    Returns:
        One row for each model and window: ``checkpoint``, ``kind``, ``windows`` back (1: the newest), ``n`` contexts,
        ``pairs`` in a window, and the share right ``accuracy`` with its 95% interval ``low`` to ``high``.

    Raises FileNotFoundError where nothing was evaluated.
    """
    rows = []
    for kind in KINDS:
        name = f"mqar-{kind}"
        path = data_dir() / "results" / f"{name}.csv"
        if not path.is_file():
            continue
        answers = results.load_answers(path)
        if passes not in answers["passes"]:
            continue
        window = int(read_card(name, 0)["task"]["window"]) // 2
        right = answers["correct"][0, list(answers["passes"]).index(passes)]
        parts = np.split(right, range(window, right.shape[1], window), axis=1)
        for back, part in enumerate(reversed(parts), start=1):
            share = share_right(part)
            row = {"checkpoint": name, "kind": kind, "windows": back, "n": len(part), "pairs": part.shape[1]}
            rows.append(row | {"accuracy": share.value, "low": share.low, "high": share.high})
    if not rows:
        raise FileNotFoundError("No model of pairs was evaluated yet; `labkit evaluate mqar-lmm` makes the first rows.")
    return pd.DataFrame(rows)


def stored_bits(passes: int = 1, *, writes: bool = True) -> pd.DataFrame:
    """The rows of `labkit bits text-...`, or those of the control, with a column ``kind``.

    Raises FileNotFoundError where there are none.
    """
    paths = {kind: data_dir() / "results" / f"text-{kind}-bits.csv" for kind in KINDS}
    tables = [bits.read(path).assign(kind=kind) for kind, path in paths.items() if path.is_file()]
    if not tables:
        raise FileNotFoundError("No model of text was measured yet; `labkit bits text-lmm` makes the first rows.")
    rows = pd.concat(tables, ignore_index=True)
    return rows[(rows["writes"] == writes) & (rows["passes"] == passes)]


def fewer_than_window(rows: pd.DataFrame, read: int = 448) -> pd.DataFrame:
    """How many bits per byte each model needs less than the sliding window that read as much, paired over stretches.

    After 448 bytes, as in training, this is what a memory, or a cache, is worth. Columns ``fewer``, ``low``, ``high``,
    rows by the models' names; FileNotFoundError without rows of the sliding window.
    """
    rows = rows[rows["read"] == read].set_index("kind", drop=False)
    if "sliding" not in rows.index:
        raise FileNotFoundError(f"`labkit bits text-sliding --read {read}` makes what the others are compared with.")
    found = {KINDS[k]: bits.fewer_bits(rows.loc[[k]], rows.loc[["sliding"]]) for k in KINDS if k in rows.index}
    return pd.DataFrame(found, index=["fewer", "low", "high"]).T.drop(KINDS["sliding"])


def pairs_by_window(rows: pd.DataFrame | None = None) -> Panel:
    """Recall of pairs against the windows read since, with 95% intervals."""
    rows = stored_pairs() if rows is None else rows
    pairs, windows = int(rows["pairs"].iloc[0]), sorted(int(back) for back in rows["windows"].unique())
    fig = style.figure(
        "pairs-by-window", f"{pairs * windows[-1]} pairs, read once", x=f"windows read since ({pairs} pairs each)",
        y="right answers (share)", x_range=(windows[0] - 1.3, windows[-1] - 0.7), y_range=(-0.03, 1.05), width=860,
        height=470, margin_b=130,
    )  # fmt: skip
    fig.update_xaxes(tickvals=[back - 1 for back in windows], ticktext=[str(back - 1) for back in windows])
    told = []
    for i, (kind, called) in enumerate(KINDS.items()):
        own = rows[rows["kind"] == kind].sort_values("windows")
        if len(own):
            curve(fig, i, called, own["windows"].to_numpy(float) - 1, own)
            told.append(f"{called} {own['accuracy'].mean():.2f}")
    return Panel(
        "pairs-by-window", lambda: f"Of all pairs: {', '.join(told)}.", controls=[], figures=[fig],
        source="Stored: data/results/mqar-<model>.npz, made by `labkit evaluate mqar-<model> --passes 1`, one seed "
        "each, on unseen contexts, every pair asked alone. Shaded: 95% intervals over contexts.",
    )  # fmt: skip


def bits_by_length(rows: pd.DataFrame | None = None) -> Panel:
    """Bits per byte of held-out text against the bytes read before, with 95% intervals, beside a compressor."""
    rows = stored_bits() if rows is None else rows
    reads = sorted(int(read) for read in rows["read"].unique())
    x = {read: np.log2(read + 64) for read in reads}
    ends = (x[reads[0]] - 0.2, x[reads[-1]] + 0.2)
    worst = rows.groupby("kind")["high"].max().nlargest(2)  # one line may leave the picture, or it would flatten all
    top = 1.02 * float(worst.iloc[-1])
    fig = style.figure(
        "bits-by-length", "Held-out text, byte by byte", x="bytes read before", y="bits per byte",
        x_range=ends, y_range=(0.9 * rows["low"].min(), top), width=860, height=470, margin_b=130,
    )  # fmt: skip
    fig.update_xaxes(tickvals=list(x.values()), ticktext=[f"{read:,}" for read in reads])
    told = []
    for i, (kind, called) in enumerate(KINDS.items()):
        own = rows[rows["kind"] == kind].sort_values("read")
        if len(own):
            curve(fig, i, called, own["read"].map(x).to_numpy(float), own.assign(accuracy=own["bits"]))
            best = own.loc[own["bits"].idxmin()]
            told.append(f"{called} {best['bits']:.2f} after {best['read']:,}")
    above = rows[rows["bits"] > top]
    beyond = "".join(f" Above the picture: {KINDS[r.kind]} {r.bits:.2f} after {r.read:,}." for r in above.itertuples())
    packed, tool = bits.compressed()
    style.line(fig, tool, ends, (packed, packed), colour=style.ROLES["floor"], dash="dash", markers=False)
    return Panel(
        "bits-by-length", lambda: f"Fewest bits per byte: {', '.join(told)}; {tool} {packed:.2f}.{beyond}", controls=[],
        figures=[fig],
        source="Stored: data/results/text-<model>-bits.csv, made by `labkit bits text-<model>`, one seed each, the "
        f"same held-out bytes for all; lessons had 448 bytes. {tool}, the better of two compressors, read the lessons' "
        "text first. Shaded: 95% intervals over stretches of 4 KiB; what differs is told pair by pair below.",
    )  # fmt: skip
