"""How deep N passes of sleep reach, within the N a model was trained with and beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as W
import numpy as np

from labkit.evaluate import Evaluation, evaluate
from labkit.explore import style
from labkit.explore.mind import ENOUGH, Sleeper, reach
from labkit.explore.panel import Panel
from labkit.explore.stored import Stored, behind, seeds_of, stored
from labkit.intervals import Interval, paired_difference

__all__ = ["FAR", "LOSS", "NOT_YET", "WITHIN", "beyond", "measure", "oversleeping", "reach_by_passes", "reaches"]

LOSS = 0.02
"""A fall counts when its whole 95% interval lies below minus this share."""

WITHIN = (0, 1, 2, 3, 4, 5, 6)
FAR = (1, 2, 4, 6, 8, 12, 16, 24, 32, 64)
"""The N that the notebook measures: those of training, and far beyond."""

NOT_YET = "not yet"
"""The guess of one who has not chosen: as long as it stands, nothing measured is drawn or told."""

EXAM = 4242
"""Number of the exam that the notebook's own measurements draw; the stored rows are about other instances."""


def measure(sleeper: Sleeper, passes: Sequence[int], n: int) -> Evaluation:
    """Put the notebook's exam to a sleeper: n unseen contexts, the same ones for every N, every question alone."""
    return evaluate(
        sleeper.model, sleeper.task, passes, n, EXAM, name=sleeper.name, model_seed=sleeper.seed,
        weights=sleeper.card.get("sha256", ""),
    )  # fmt: skip


def reaches(evaluation: Evaluation) -> dict[int, int]:
    """For every N how deep the answers are right: each depth up to there has at least `ENOUGH` right."""
    return {
        passes: reach([float(evaluation.answers(passes, depth).mean()) for depth in evaluation.depths])
        for passes in evaluation.passes
    }


def oversleeping(evaluation: Evaluation, since: int) -> dict[int, Interval]:
    """For every depth what the largest N won over N = `since`, paired, with its 95% interval; negative: it lost."""
    last = evaluation.passes[-1]
    return {
        depth: paired_difference(evaluation.answers(since, depth), evaluation.answers(last, depth))
        for depth in evaluation.depths
    }


def reach_by_passes(sleeper: Sleeper, evaluation: Evaluation) -> Panel:
    """Guess, and see the measured reach beside doubling and adding; before a guess there are only the two lines.

    The guess has buttons and no slider, so that no other answer is passed on the way to one.
    """
    most, deepest = max(evaluation.passes), max(evaluation.depths)
    fig = style.figure(
        "reach", "How deep N passes reach", x="sleep passes N", y=f"reach ({sleeper.deeper})",
        x_range=(-0.3, most + 0.3), y_range=(-0.3, deepest + 0.5), width=760, height=380,
    )  # fmt: skip
    n = np.arange(1, most + 1)
    ways = {"doubling": (2.0 ** (n - 1), "dot", "2<sup>N−1</sup>"), "adding": (n, "dash", "N")}
    lines = {
        way: style.line(
            fig, f"{way}: {formula}", n, np.minimum(depths, deepest), colour=style.GREY, dash=dash, markers=False
        )
        for way, (depths, dash, formula) in ways.items()
    }
    guess = W.ToggleButtons(
        options=[NOT_YET, *ways, "neither"], value=NOT_YET, description="my guess",
        style={"description_width": "initial", "button_width": "110px"},
    )  # fmt: skip
    found = reaches(evaluation)
    dots = [
        style.line(fig, "measured now", list(found), list(found.values()), colour=style.ROLES["model"], marker_size=11)
    ]
    rows = stored(sleeper.name)
    if rows is not None:
        there = [
            (passes, reach(part.sort_values("depth")["accuracy"].to_numpy()))
            for seed in rows.each.values()
            for passes, part in seed.groupby("passes")
            if passes <= most
        ]
        seeds = f"stored, {'each of ' * (rows.seeds > 1)}{seeds_of(rows)}"
        look: dict[str, Any] = {"mode": "markers", "marker_symbol": "circle-open", "marker_size": 16}
        colour = style.PALETTE["sky"]
        dots.append(style.line(fig, seeds, *zip(*there, strict=True), colour=colour, marker_line_width=2, **look))
    measured = [(trace, trace.x, trace.y) for trace in dots]
    nothing = style.column([])
    told = ", ".join(f"{hops} after {passes}" for passes, hops in found.items())

    def show() -> str:
        with fig.batch_update():
            for way, line in lines.items():
                line.line.color = style.ROLES["guess"] if way == guess.value else style.GREY
                line.line.width = 5 if way == guess.value else 2
            for trace, x, y in measured:
                trace.x, trace.y = (nothing, nothing) if guess.value == NOT_YET else (x, y)
        if guess.value == NOT_YET:
            return "Choose first; the measured dots come then."
        return (
            f"Reach in {sleeper.deeper} (at least {ENOUGH:.0%} right there and at all less): {told}. "
            f"Your guess: {guess.value}."
        )

    return Panel("reach", show, controls=[guess], figures=[fig], source=_source(sleeper, evaluation, rows))


def beyond(sleeper: Sleeper, evaluation: Evaluation) -> Panel:
    """Right answers against N, far beyond the N that were trained, beside the stored rows.

    Drawn are the shallowest depth, the deepest, and the one that lost the most.
    """
    most, deepest = max(evaluation.passes), max(evaluation.depths)
    fig = style.figure(
        "beyond", "Beyond the passes it was trained with", x="sleep passes N", y="right answers (share)",
        x_range=(-0.1, np.log2(most) + 0.1), y_range=(-0.03, 1.03), width=760, height=450, margin_b=140,
    )  # fmt: skip
    ticks = [2**i for i in range(int(np.log2(most)) + 1)]
    fig.update_xaxes(tickvals=np.log2(ticks), ticktext=[str(t) for t in ticks])
    n = [p for p in evaluation.passes if p > 0]
    rows = stored(sleeper.name)
    trained_most = sleeper.trained[1] if sleeper.trained else n[0]
    since = max((p for p in n if p <= trained_most), default=n[0])
    changes = oversleeping(evaluation, since)
    worst = min(changes, key=lambda depth: changes[depth].value)
    colours = (style.PALETTE["green"], style.PALETTE["orange"], style.ROLES["model"])
    for depth, colour in zip(sorted({1, worst, deepest}), colours, strict=False):
        mean = [float(evaluation.answers(p, depth).mean()) for p in n]
        words = f"{depth} {sleeper.deeper[: None if depth > 1 else -1]}"
        style.line(fig, f"{words}, measured now", np.log2(n), mean, colour=colour, marker_symbol="square")
        if rows is not None:
            here = rows.rows[(rows.rows["depth"] == depth) & (rows.rows["passes"] > 0)].sort_values("passes")
            x = np.log2(here["passes"])
            name = f"{words}, stored, {seeds_of(rows)}"
            style.band(fig, name, x, here["low"], here["high"], colour=colour)
            look: dict[str, Any] = {"colour": colour, "dash": "dot", "marker_symbol": "circle-open"}
            style.line(fig, name, x, here["accuracy"], **look)
    if sleeper.trained:
        end = np.log2([sleeper.trained[1]] * 2)
        style.line(fig, "end of training's N", end, [0, 1], colour=style.GREY, dash="dash", markers=False)

    most_of = ", the most it was trained with" if sleeper.trained and since == sleeper.trained[1] else ""
    told = f"N = {n[-1]} against N = {since}{most_of}: {_falls(changes, sleeper.deeper)}."
    source = _source(sleeper, evaluation, rows)
    if rows is not None:
        source += f" Shaded: 95% intervals of the stored ones, {behind(rows)}."
    return Panel("beyond", lambda: told, controls=[], figures=[fig], source=source)


def _falls(changes: dict[int, Interval], deeper: str) -> str:
    """What these changes by depth say about oversleeping, in words."""
    falls = {depth: change for depth, change in changes.items() if change.high < 0}
    listed = ", ".join(f"{d}: {c.value:+.2f} [{c.low:+.2f}, {c.high:+.2f}]" for d, c in falls.items())
    if any(change.high < -LOSS for change in falls.values()):
        return f"it oversleeps, by {deeper} {listed}"
    if falls:
        return f"it loses a little, by {deeper} {listed}, and none of it is surely more than {LOSS}"
    return "no fall is seen: every 95% interval holds 0 or lies above"


def _source(sleeper: Sleeper, evaluation: Evaluation, rows: Stored | None) -> str:
    n = evaluation.correct.shape[1]
    live = f"Measured now: {sleeper.name}, seed {sleeper.seed}, {n} unseen {sleeper.noun}s, the same for every N."
    if rows is None:
        return live
    return f"{live} Stored: {rows.file}."
