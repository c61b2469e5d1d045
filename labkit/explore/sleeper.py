"""The live explorer: type a graph or a row, guess, and turn the number of sleep passes."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as W
import torch
from torch import Tensor

from labkit.explore.measures import Measures
from labkit.explore.mind import Mind, Sleeper, read_mind
from labkit.explore.mindmap import MindMap
from labkit.explore.panel import Panel, note, slider
from labkit.explore.panes import panes
from labkit.explore.stored import Stored, seeds_of, stored
from labkit.explore.stored import rivals as with_rows
from labkit.recipes import list_recipes
from labkit.tasks import Depo, Rule110

__all__ = ["RIVALS", "Explorer", "explore"]

MOST = 16
"""The largest N that the slider offers."""

RIVALS = ("depo-n1", "depo-n1-long", "depo-n4", "depo-deeper", "depo-cache", "depo-cache-loop")
"""Of the graph model: specialists of one N, a deeper model that reads once, and two that keep their whole cache."""


class Explorer(Panel):
    """One sleeper and one typed context. Every move of a control sleeps anew and asks every question anew.

    Args:
        sleeper: a model with its task.
        rivals: checkpoints of the same task; those whose rows are stored are drawn beside it.
        most: the largest N that the slider offers.

    Attributes:
        example, typed, column, depth, guess, passes: the controls.
        context: tokens of the last text that could be read.
        mind: what the model answered at the last move.
    """

    def __init__(self, sleeper: Sleeper, rivals: tuple[str, ...] = (), most: int = MOST) -> None:
        self.sleeper = sleeper
        self._controls(most)
        self.context = torch.empty(0, dtype=torch.int64)
        self._text, self._pass_flops = "", 0
        self.mind: Mind | None = None
        own, others = stored(sleeper.name), with_rows(rivals)
        noun = sleeper.noun
        self.below = panes(
            f"measures-{noun}",
            ["One question: what it holds likely", "Right answers by depth", "Cost of sleep, cost of waking"],
            height=430, gap=0.08,
        )  # fmt: skip
        self._map = MindMap(sleeper)
        self._measures = Measures(self.below, sleeper, own, others, most)
        controls = [self.typed, self.column, self.depth, self.guess, self.passes]
        super().__init__(
            f"mind-{noun}", self._look, controls=controls, figures=[[self._map.left, self._map.right], self.below],
            source=self._origin([*([own] if own else []), *others]),
        )  # fmt: skip
        self.example.observe(self._pick, "value")
        left = W.VBox([self.example, self.typed])
        right = W.VBox([W.HTML("<b>One question</b> (the box in the grids)"), self.column, self.depth, self.guess])
        top = W.HBox([left, right])
        self.box.children = (top, self._complaint, self.passes, *self.box.children[len(controls) :])

    def _controls(self, most: int) -> None:
        task, noun, deeper = self.sleeper.task, self.sleeper.noun, self.sleeper.deeper
        self._examples = self.sleeper.examples()
        graph, wide = isinstance(task, Depo), {"description_width": "initial"}
        first = next(iter(self._examples))
        self.example = W.Dropdown(options=list(self._examples), value=first, description=f"pick a {noun}", style=wide)
        self.typed = W.Textarea(
            self._examples[first], description=f"or type a {noun}", rows=8 if graph else 2, style=wide
        )
        count = task.nodes if isinstance(task, Depo) else len(self._examples[first])
        across = [(f"{i} ({chr(97 + i)})" if graph and i < 26 else str(i), i) for i in range(count)]
        self.column = W.Dropdown(options=across, value=0, description="start" if graph else "cell", style=wide)
        self.depth = slider(deeper, task.max_depth, 1, task.max_depth)
        self.guess = slider(f"my guess: {deeper} it can answer", 0, 0, task.max_depth)
        self.passes = slider(f"sleep passes N, {noun}", 0, 0, most)
        self._complaint = note()

    def _pick(self, change: Any) -> None:
        self.typed.value = self._examples[self.example.value]

    def _look(self) -> str:
        """Sleep, ask, draw; the sentence."""
        new = self._hear()
        mind = read_mind(self.sleeper.model, self.sleeper.task, self.context, self.passes.value)
        column = self.column.value if self.column.value in mind.columns else mind.columns[0]
        question = mind.at(self.depth.value, column)
        # all figures are told at once, so that the browser need not paint between them
        with self._map.left.batch_update(), self._map.right.batch_update(), self.below.batch_update():
            self._map.draw(mind, question, self.guess.value, self._text if new else None)
            if new:
                self._measures.begin(self._text)
            self._measures.show(mind, self.passes.value, question, self.guess.value, self._pass_flops)
        self.mind = mind
        return self._sentence(mind, question, column)

    def _hear(self) -> bool:
        """Take over what is typed if it can be read, and say what is wrong with it if not; True for another context."""
        text = self.typed.value.strip()
        try:
            context: Tensor = self.sleeper.task.encode(text)
        except ValueError as mistake:
            if not len(self.context):
                raise
            last = f"The figures still show the last {self.sleeper.noun} that could be read."
            self._complaint.value = f"<b>Not yet a {self.sleeper.noun}.</b> {html.escape(str(mistake))} {last}"
            return False
        self._complaint.value = ""
        if torch.equal(context, self.context) and text == self._text:
            return False
        self.context, self._text = context, text
        self._pass_flops = self.sleeper.pass_flops(context)
        return True

    def _sentence(self, mind: Mind, question: int, column: int) -> str:
        n, deeper, text = self.passes.value, self.sleeper.deeper, self._text
        given, truth = int(mind.given[question]), int(mind.truth[question])
        words = self.sleeper.question(self.depth.value, column, text)
        sure = 100 * float(mind.confidence[question])
        answered = f"“{words}”: {self.sleeper.label(given, text)}, {sure:.0f} % sure; "
        answered += "right." if given == truth else f"the truth is {self.sleeper.label(truth, text)}."
        known = f"nine in ten or more at all {deeper} up to {mind.reach}"
        told = [
            f"N = {n}: {int(mind.right.sum())} of {len(mind.truth)} questions are answered right, "
            f"{known if mind.reach else f'at no number of {deeper} nine in ten'} (you guessed {self.guess.value}).",
            answered,
            f"The sleep took {1e3 * mind.seconds:.1f} ms and {n * self._pass_flops / 1e6:.1f} Mflop, one question "
            f"awake {1e3 * mind.wake_seconds:.1f} ms.",
        ]
        if column != self.column.value:
            told.append(f"Node {self.sleeper.label(self.column.value, text)} is not in your graph.")
        if isinstance(self.sleeper.task, Depo) and len(mind.columns) < self.sleeper.task.nodes:
            told.append(f"Training saw graphs of {self.sleeper.task.nodes} nodes; yours has {len(mind.columns)}.")
        if isinstance(self.sleeper.task, Rule110):
            out = self.sleeper.task.held_out(text)
            told.append("Training never showed this row." if out else "Rotations of this row were in training.")
        if self.sleeper.trained and n > self.sleeper.trained[1]:
            told.append(f"Training never slept more than {self.sleeper.trained[1]} passes.")
        return " ".join(told)

    def _origin(self, rows: list[Stored]) -> str:
        name, seed = self.sleeper.name, self.sleeper.seed
        live = f"Live: {name}, seed {seed}, run at every move on what you typed; times are this computer's, now."
        files = ", ".join(f"{one.file} ({seeds_of(one)})" for one in rows)
        return f"{live} Stored rows: {files or 'none yet'}."


def explore(checkpoint: str, seed: int = 0, rivals: tuple[str, ...] = ()) -> Panel | W.HTML:
    """The explorer of a checkpoint, or, where there is no such checkpoint, the sentence that says so.

    Args:
        checkpoint, seed: of a model trained on Depo or on one row of Rule 110.
        rivals: checkpoints whose stored rows are drawn beside it, those that have any.
    """
    try:
        sleeper = Sleeper.load(checkpoint, seed)
    except FileNotFoundError as missing:
        return absent(checkpoint, seed, missing)
    return Explorer(sleeper, rivals)


def absent(checkpoint: str, seed: int, missing: FileNotFoundError) -> W.HTML:
    """What stands where an explorer would be, if its checkpoint were there: a note that says how it is trained."""
    remedy = f" Train it: labkit train {checkpoint} --seed {seed}." if checkpoint in list_recipes() else ""
    return note(f"<b>Nothing to explore here.</b> {html.escape(str(missing))}{remedy}")
