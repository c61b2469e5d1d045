"""Two figures side by side: what is true of a context, and what the sleeper answers, question by question.

A graph: one cell for each start (across) and number of hops (down) with the node answered in it. A row of the
automaton: the space-time picture. What is wrong is crossed out, so it can be told without colours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from labkit.explore import style
from labkit.explore.lettering import Lettering
from labkit.explore.mind import Mind, Sleeper
from labkit.explore.panes import axes, panes, stack
from labkit.tasks import Depo, Rule110

__all__ = ["MindMap", "shades"]

#: Surely wrong, unsure, surely right; pale, so that the numbers on it stay readable.
_TRUST = [
    [0.0, style.tint(style.PALETTE["vermillion"], 0.65)],
    [0.5, "#ffffff"],
    [1.0, style.tint(style.PALETTE["sky"], 0.85)],
]
_NODES = [[0.0, "#ffffff"], [1.0, style.tint(style.PALETTE["sky"], 0.6)]]
_BITS = [[0.0, "#ffffff"], [1.0, "#222222"]]


def shades(sleeper: Sleeper, mind: Mind) -> np.ndarray:
    """``[Q]`` float32, what the cells of the sleeper's pane are shaded by.

    A graph: the confidence of the answer given, negative where it is wrong. The automaton: the probability of a 1.
    """
    if isinstance(sleeper.task, Rule110):
        return style.column(mind.probability[:, 1])
    return style.column(mind.confidence.where(mind.right, -mind.confidence))


class MindMap:
    """The two figures, kept up to date by `draw`.

    What is true is a figure of its own, so that turning the passes does not draw it anew.
    """

    def __init__(self, sleeper: Sleeper) -> None:
        self.sleeper, noun = sleeper, sleeper.noun
        size: dict[str, Any] = {"width": 475, "height": 370}
        self.left = panes(f"truth-{noun}", [f"What is true of your {noun}"], **size)
        self.right = panes(f"mind-{noun}", [f"What the sleeper answers about your {noun}"], **size)
        graph = isinstance(sleeper.task, Depo)
        seen = {"xgap": 1, "ygap": 1, "showscale": False, "hoverinfo": "text"}
        last = max(sleeper.answers)
        self._truth = stack(
            self.left, (1, 1),
            go.Heatmap(zmin=0, zmax=last, colorscale=_NODES if graph else _BITS, name="truth", **seen),
        )  # fmt: skip
        self._cells = stack(
            self.right, (1, 1),
            go.Heatmap(zmin=-1 if graph else 0, zmax=1, colorscale=_TRUST if graph else _BITS, name="answer", **seen),
        )
        words: dict[str, Any] = {"mode": "text", "hoverinfo": "skip", "showlegend": False}
        self._truth_words = stack(self.left, (1, 1), go.Scatter(name="truth in words", textfont={"size": 11}, **words))
        self._words = Lettering(self.right, "answer in words")
        self._wrong = stack(
            self.right, (1, 1),
            go.Scatter(
                name="wrong (larger: surer)", mode="markers", hoverinfo="skip", showlegend=False,
                marker={"symbol": "x-thin", "line": {"width": 2, "color": style.ROLES["wrong"]}},
            ),
        )  # fmt: skip
        asked = {"symbol": "square-open", "size": 22, "color": style.ROLES["truth"], "line": {"width": 3}}
        self._asked = [
            stack(side, (1, 1), go.Scatter(name="the question", mode="markers", marker=asked, showlegend=False))
            for side in (self.left, self.right)
        ]
        guess = {"color": style.ROLES["guess"], "dash": "dash", "width": 3}
        self._guess = stack(
            self.right, (1, 1),
            go.Scatter(name="your guess", mode="lines", line=guess, showlegend=False, hoverinfo="skip"),
        )  # fmt: skip

    def draw(self, mind: Mind, question: int, guess: int, text: str | None = None) -> None:
        """Bring both figures up to date, within a batch update of theirs; `text` is given for another context."""
        if text is not None:
            self._begin(mind, text)
        self._show(mind, question, guess)

    def _begin(self, mind: Mind, text: str) -> None:
        """Name the axes after the nodes or cells of a new context, and draw what is true of it."""
        task, names = self.sleeper.task, [self.sleeper.label(column, text) for column in mind.columns]
        graph = isinstance(task, Depo)
        across, down = self._places(mind)
        truth = style.column(mind.truth)
        if isinstance(task, Rule110):  # the picture begins with the row itself
            truth = style.column(task.picture(text))
            across = np.tile(style.column(range(task.width)), task.steps + 1)
            down = style.column(np.repeat(np.arange(task.steps + 1), task.width))
        self._text = text
        self._names = {answer: self.sleeper.label(answer, text) for answer in self.sleeper.answers}
        self._truth.update(x=across, y=down, z=truth)
        if graph:
            said = [self.sleeper.label(int(node), text) for node in mind.truth]
            self._truth_words.update(x=across, y=down, text=said)
        for figure in (self.left, self.right):
            axes(
                figure, (1, 1), x="start node" if graph else "cell", y=f"{self.sleeper.deeper}",
                x_range=(-0.5, len(names) - 0.5), y_range=(task.max_depth + 0.5, 0.5 if graph else -0.5),
                x_names=names, dtick=1, showgrid=False,
            )  # fmt: skip

    def _show(self, mind: Mind, question: int, guess: int) -> None:
        """Draw the answers, the question picked (its number) and how deep the reader guessed they would be right."""
        across, down = self._places(mind)
        self._cells.update(x=across, y=down, z=shades(self.sleeper, mind), text=self._hover(mind))
        sure = style.column(mind.confidence)
        if isinstance(self.sleeper.task, Depo):
            said = [self._name(int(token)) for token in mind.given]
            self._words.write(said, 8 + 6 * np.nan_to_num(sure), len(mind.columns))
        wrong = ~mind.right.numpy()
        self._wrong.update(x=across[wrong], y=down[wrong], marker={"size": 5 + 13 * np.nan_to_num(sure[wrong])})
        for outline in self._asked:
            outline.update(x=across[question : question + 1], y=down[question : question + 1])
        edge = [-0.5, len(mind.columns) - 0.5]
        self._guess.update(x=style.column(edge), y=style.column([guess + 0.5] * 2))

    def _places(self, mind: Mind) -> tuple[np.ndarray, np.ndarray]:
        """x and y of every question: its column's place, its depth."""
        width, depths = len(mind.columns), self.sleeper.task.max_depth
        return (
            np.tile(style.column(range(width)), depths),
            style.column(np.repeat(np.arange(1, depths + 1), width)),
        )

    def _name(self, token: int) -> str:
        """A node by its name; a token that is no answer as the task writes it."""
        return self._names[token] if token in self._names else self.sleeper.task.token_name(token)

    def _hover(self, mind: Mind) -> list[str]:
        width, said = len(mind.columns), []
        columns = (mind.given, mind.confidence, mind.right, mind.truth)
        for i, (given, sure, right, truth) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            words = self.sleeper.question(i // width + 1, mind.columns[i % width], self._text)
            verdict = "right" if right else f"the truth is {self._name(truth)}"
            said.append(f"{words}: {self._name(given)}, {100 * sure:.0f} % sure; {verdict}")
        return said
