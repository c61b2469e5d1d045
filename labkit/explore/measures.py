"""Three panes about one sleep: an answer's probabilities, right answers by depth, and what sleep and wake cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from labkit.explore import style
from labkit.explore.mind import ENOUGH, Mind, Sleeper
from labkit.explore.panes import axes, stack
from labkit.explore.stored import Stored

__all__ = ["Measures"]

_DASHES = ("dot", "dash", "dashdot", "longdash", "longdashdot", "dot")
_SYMBOLS = ("square", "diamond", "triangle-up", "x", "star", "pentagon")


class Measures:
    """The three panes of a figure.

    Args:
        own: stored rows of the sleeper itself; others: of its rivals.
        most: the largest N that the slider offers.
    """

    def __init__(
        self,
        figure: go.FigureWidget,
        sleeper: Sleeper,
        own: Stored | None,
        others: Sequence[Stored],
        most: int,
    ) -> None:
        self.figure, self.sleeper, self.own = figure, sleeper, own
        self.most = most
        self._likely()
        self._by_depth(others)
        self._costs()
        self.visited: list[tuple[int, float, float]] = []

    def begin(self, text: str) -> None:
        """Another context: forget what the last one's sleeps cost; name the answers as they are typed."""
        self.visited = []
        names = [self.sleeper.label(answer, text) for answer in self.sleeper.answers]
        axes(
            self.figure, (1, 1), x="answer", y="probability", x_names=names,
            x_range=(-0.6, len(names) - 0.4), y_range=(0, 1.15),
        )  # fmt: skip
        self.figure.update_xaxes(tickfont_size=10, row=1, col=1)

    def show(self, mind: Mind, passes: int, question: int, guess: int, pass_flops: int) -> None:
        """Draw what one sleep of `passes` passes, each of `pass_flops` FLOPs, led to."""
        answers = self.sleeper.answers
        likely = style.column(mind.probability[question, answers])
        self._bars.update(y=likely)
        truth = answers.index(int(mind.truth[question]))
        self._target.update(x=style.column([truth]), y=likely[truth : truth + 1] + np.float32(0.07))
        self._live.update(y=style.column(mind.share))
        self._guess.update(x=style.column([guess + 0.5] * 2))
        for one, trace in self._turning:
            curve = one.at(passes)
            trace.update(y=style.column(curve.share), text=[f"N = {curve.passes}"] * len(curve.share))
        self.visited.append((passes, 1e3 * mind.seconds, 1e3 * mind.wake_seconds))
        n, asleep, awake = (style.column(numbers) for numbers in zip(*self.visited, strict=True))
        cost = [f"N = {p}: {ms:.1f} ms, {p * pass_flops / 1e6:.1f} Mflop" for p, ms, _ in self.visited]
        self._asleep.update(x=n, y=asleep, text=cost)
        self._awake.update(x=n, y=awake)
        self._here.update(x=n[[-1, -1]], y=style.column([asleep[-1], awake[-1]]))

    def _likely(self) -> None:
        answers = range(len(self.sleeper.answers))
        bar = {"color": style.tint(style.ROLES["model"], 0.6), "line": {"color": style.ROLES["model"], "width": 1}}
        self._bars = stack(
            self.figure, (1, 1),
            go.Bar(
                x=style.column(answers), y=style.column([0] * len(answers)), marker=bar, name="probability",
                showlegend=False,
            ),
        )  # fmt: skip
        self._target = stack(
            self.figure, (1, 1),
            go.Scatter(
                mode="markers", name="truth", showlegend=False,
                marker={"symbol": "triangle-down", "size": 13, "color": style.ROLES["truth"]},
            ),
        )  # fmt: skip

    def _by_depth(self, others: Sequence[Stored]) -> None:
        task, pane = self.sleeper.task, (1, 2)
        depths = range(1, task.max_depth + 1)
        axes(
            self.figure, pane, x=self.sleeper.deeper, y="right answers (share)",
            x_range=(0.5, task.max_depth + 0.5), y_range=(-0.04, 1.06),
        )  # fmt: skip
        self.figure.update_xaxes(dtick=1 if task.max_depth <= 10 else 2, row=1, col=2)
        floor = style.column([task.floor(depth) for depth in depths])
        self._line("floor: no memory of it", depths, floor, colour=style.ROLES["floor"], dash="dot", mode="lines")
        looks = list(zip(others, style.CYCLE[1:], _DASHES, _SYMBOLS, strict=False))
        if self.own is not None:
            looks.insert(0, (self.own, style.PALETTE["sky"], "dash", "circle-open"))
        self._turning: list[tuple[Stored, go.Scatter]] = []
        for one, colour, dash, symbol in looks:
            curve, turning = one.at(self.most), one.elastic or one.recipe is None
            # a name that changed would have the legend drawn anew at every move; which N it is tells the hover text
            name = f"{one.name}, N {'≤ the slider’s' if turning else f'= {curve.passes}'}, stored"
            trace = self._line(name, curve.depth, curve.share, colour=colour, dash=dash, symbol=symbol)
            if turning:
                self._turning.append((one, trace))
        self._live = self._line("live: your " + self.sleeper.noun, depths, depths, colour=style.ROLES["model"], width=4)
        guess = {"color": style.ROLES["guess"], "dash": "dash", "width": 3}
        self._guess = stack(
            self.figure, pane, go.Scatter(y=style.column([-0.04, 1.06]), mode="lines", line=guess, name="your guess")
        )
        self.figure.add_hline(ENOUGH, line={"color": style.GREY, "width": 1}, row=1, col=2)

    def _costs(self) -> None:
        pane = (1, 3)
        axes(
            self.figure, pane, x="sleep passes N", y="time (ms)", x_range=(-0.5, self.most + 0.5),
            y_range=(-0.7, 3), type="log", dtick=1,
        )  # fmt: skip
        shown = {
            "the sleep": ("square", style.ROLES["model"]),
            "one question awake": ("circle-open", style.ROLES["ceiling"]),
        }
        self._asleep, self._awake = (
            stack(
                self.figure, pane,
                go.Scatter(mode="markers", name=name, marker={"symbol": symbol, "size": 8, "color": colour}),
            )
            for name, (symbol, colour) in shown.items()
        )  # fmt: skip
        self._asleep.hoverinfo = "text"
        ring = {"symbol": "circle-open", "size": 18, "color": style.ROLES["truth"], "line": {"width": 2}}
        here = go.Scatter(mode="markers", name="now", marker=ring, showlegend=False, hoverinfo="skip")
        self._here = stack(self.figure, pane, here)

    def _line(
        self,
        name: str,
        x: Sequence[int] | np.ndarray,
        y: Sequence[int] | np.ndarray,
        *,
        colour: str,
        dash: str = "solid",
        symbol: str = "circle",
        width: int = 2,
        mode: str = "lines+markers",
    ) -> go.Scatter:
        look = {"line": {"color": colour, "dash": dash, "width": width}, "marker": {"symbol": symbol, "size": 8}}
        trace = go.Scatter(x=style.column(x), y=style.column(y), name=name, mode=mode, **look)
        return stack(self.figure, (1, 2), trace)
