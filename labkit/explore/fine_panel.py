"""Notebook 04's panel about small shares: the same growth on two scales, a jump on one of them."""

from __future__ import annotations

import pandas as pd

from labkit.explore import style
from labkit.explore.axes import NOTHING
from labkit.explore.panel import Panel, choice
from labkit.files import data_dir
from labkit.fine import CELL
from labkit.results import read_rows

__all__ = ["AUTOMATON", "finely", "growth"]

AUTOMATON = "think-rule110-64"
LEAST = 3e-4  # where lines end on the logarithmic axis: 0 has no place there


def finely(checkpoint: str = AUTOMATON) -> pd.DataFrame:
    """The rows of `labkit fine`; none, and a printed sentence, without it."""
    path = data_dir() / "results" / f"{checkpoint}-fine.csv"
    if not path.is_file():
        print(NOTHING.format(f"`labkit fine {checkpoint}`"))
        return pd.DataFrame(columns=[*CELL, "share", "low", "high", "passed", "guess", "drawn"])
    return read_rows(path, f"fine {checkpoint}", set(CELL))


def growth(rows: pd.DataFrame) -> Panel:
    """Whole rows right against passes, a line for each step of the automaton, on a linear or a logarithmic axis."""
    scale = choice("scale of shares", [("linear", "linear"), ("logarithmic", "log")], "linear")
    fig = style.figure(
        "axes-growth", "Growth, or a jump?", x="sleep passes N", y="whole rows right (share)",
        x_range=(0.8, 4.2), y_range=(-0.03, 1.05), width=640,
    )  # fmt: skip
    fig.update_xaxes(dtick=1)
    steps = sorted(int(d) for d in rows["depth"].unique() if d > 1)
    style.band(fig, "one row for all", colour=style.ROLES["floor"], **_guesses(rows))
    lines = {d: style.line(fig, f"step {d}", colour=c) for d, c in zip(steps, style.CYCLE, strict=False)}
    dots = {
        d: style.line(fig, "a seed", colour=c, mode="markers", opacity=0.5, showlegend=False)
        for d, c in zip(steps, style.CYCLE, strict=False)
    }
    table = rows.groupby(["depth", "passes"])["share"].mean().unstack("depth") if len(rows) else pd.DataFrame()

    def show() -> str:
        if not len(rows):
            return NOTHING.format(f"`labkit fine {AUTOMATON}`")
        with fig.batch_update():
            if scale.value == "log":
                style.log_axis(fig.layout.yaxis, (0.001, 0.01, 0.1, 1))
                fig.update_yaxes(range=(-3.6, 0.1), tickmode="array")
            else:
                fig.update_yaxes(type="linear", range=(-0.03, 1.05), tickmode="auto")
            least = LEAST if scale.value == "log" else 0.0
            for step, line in lines.items():
                seeds = rows[rows["depth"] == step]
                line.x, line.y = style.column(table.index), style.column(table[step].clip(lower=least))
                dots[step].update(x=style.column(seeds["passes"]), y=style.column(seeds["share"].clip(lower=least)))
        above = [step for step in lines if table[step].max() > 2 * guess(step)]
        shares = {step: ", ".join(f"{x:.2g}" for x in table[step]) for step in above}
        told = [f"step {step}: {shares[step]} (always the same row: {guess(step):.1g})" for step in above]
        beyond = ", ".join(str(step) for step in lines if step not in above)
        return f"Whole rows by N, {'; '.join(told)}. Steps {beyond or 'none'} are no better than one row for all."

    def guess(step: int) -> float:
        return float(rows.loc[rows["depth"] == step, "guess"].iloc[0])

    source = f"Stored: data/results/{AUTOMATON}-fine.csv, from `labkit fine {AUTOMATON}`; R = 0. Lines are means "
    source += "of the seeds, dots the seeds, the shade what always saying one row would get. On the logarithmic axis a "
    source += "share of 0 stands at 0.0003."
    return Panel("axes-growth", show, controls=[scale], figures=[fig], source=source)


def _guesses(rows: pd.DataFrame) -> dict[str, list[float]]:
    """From the least to the largest share that one row said for all would get, as a band over all N."""
    if not len(rows):
        return {}
    asked = rows.loc[rows["depth"] > 1, "guess"]
    return {"x": [0.8, 4.2], "low": [asked.min()] * 2, "high": [asked.max()] * 2}
