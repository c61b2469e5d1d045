"""The still pictures of notebooks 04 to 06, and their words."""

from __future__ import annotations

from collections.abc import Callable

from labkit.explore import (
    axes,
    compounding,
    fine_panel,
    idling,
    law_panels,
    learning,
    lookup_panels,
    night_panels,
    planning,
)
from labkit.explore.panel import Panel

__all__ = ["AXES"]

#: By name: how the panel is made, and what its picture shows.
AXES: dict[str, tuple[Callable[[], Panel], str]] = {
    "axes-live": (
        axes.live,
        "Share of right answers by hops for one model after one pass and without thought: high at one hop, nearly "
        "nothing from three on, with a dotted line for the product of leaps beside it.",
    ),
    "axes-guess": (
        lambda: axes.corner_guess(axes.swept()),
        "Reach in hops at three corners of the square of sleep and thought as dots, and an open diamond where the "
        "guess for the fourth stands.",
    ),
    "axes-reach": (
        lambda: axes.reaches(axes.swept()),
        "Reach in hops against steps of thought, one line for each number of sleep passes with its interval: the lines "
        "rise and fan out, those of more passes more steeply.",
    ),
    "axes-shapes": (
        lambda: lookup_panels.shapes(axes.swept("sizes")),
        "Share of wrong answers against the factor on each of three knobs, both logarithmic: weights hardly fall, "
        "sleep passes fall a little and level off, strides of thought fall most.",
    ),
    "axes-operations": (
        lambda: axes.equal_operations(axes.swept()),
        "Reach in hops against the operations of an answer on a logarithmic axis, as dots: neither, sleep alone, "
        "thought alone, both, and models that only think.",
    ),
    "axes-search": (
        axes.searching,
        "Share of right answers against the operations of waking, as dots: one chain, best of several chains, a tree, "
        "and the majority.",
    ),
    "axes-growth": (
        lambda: fine_panel.growth(fine_panel.finely()),
        "Share of whole rows right against sleep passes on a linear axis, a line for each step of the automaton and a "
        "dot for each seed: steps 2 and 3 rise steeply from one pass to two and are flat from there, deeper steps lie "
        "near zero.",
    ),
    "axes-lookups": (
        lambda: lookup_panels.lookups(lookup_panels.looked_up()),
        "Share of right answers against operations, one line for each number of sleep passes, along which more "
        "and more windows are opened again.",
    ),
    "compound-corners": (
        lambda: compounding.corners(axes.swept(), axes.swept("corners")),
        "Reach in hops at the four corners of sleep and thought with intervals, as dots for elastic models and "
        "diamonds for specialists, and two marks at the last corner: where it would lie if the axes added, and, "
        "higher, if they multiplied.",
    ),
    "compound-held-out": (
        lambda: compounding.held_out(axes.swept()),
        "Predicted against measured reach on held-out cells, one dot for each seed and number of passes: the product "
        "nearer to the dotted diagonal than the sum.",
    ),
    "compound-contest": (
        lambda: law_panels.contests(axes.swept()),
        "Lead of the best mix over the best pure axis against questions a sleep, with its band: several hops below "
        "zero for few questions, rising through zero near 64, and above it from 128 on.",
    ),
    "compound-laws": (
        lambda: law_panels.fitted(axes.swept("sizes")),
        "Share of wrong answers against sleep passes as dots with intervals, for three amounts of thought, and a law's "
        "falling curves with wide bands; a dotted line parts what was taught from what was not.",
    ),
    "compound-nights": (
        lambda: night_panels.nights(night_panels.nightly()),
        "Share of wrong answers about the first day against nights, one line for each thing slept on: facts alone rise "
        "to four fifths at the third night, own and true thoughts stay low, wrong thoughts rise.",
    ),
    "compound-lessons": (
        law_panels.lessons,
        "Millions of tokens until a hop is known, against hops, a dot a seed: with two waypoints three hops by three "
        "millions in every seed, without thought later: two hops in five seeds, three in two.",
    ),
    "compound-bills": (
        lambda: night_panels.bought(night_panels.nightly(), night_panels.nightly(night_panels.LONG)),
        "Share of wrong answers about the first day against the operations of a text, with eight questions: the reader "
        "that only thinks is at zero with five steps and guesses with fewer, facts alone fall with a second pass, own "
        "thoughts cost more than both.",
    ),
    "compound-plateaus": (
        learning.plateaus,
        "Deepest hop asked in lessons against millions of tokens, four stairs of seed 0: with even waypoints to the "
        "sixth hop, with one hop a step to the fifth, with fillers and loops to the third or fourth.",
    ),
    "compound-planner": (
        lambda: planning.planner(axes.swept("sizes")),
        "Share of right answers against the operations of an answer, a dot for each measured way to spend them: grey "
        "where too dear, blue within the budget, a star on the best, and an open diamond on the chosen split.",
    ),
    "idle-day": (
        lambda: idling.one_day(idling.stored()),
        "Left, bars of how many questions found how many passes done: at a load of 20% nearly all found four. Right, "
        "bars of the time spent idle, asleep and on answers.",
    ),
    "idle-loads": (
        lambda: idling.many_days(idling.stored()),
        "Left, share of right answers against load, one line for each number of passes: apart at low load, together at "
        "high load. Right, the time within which 95 of 100 answers come, rising steeply with load.",
    ),
}
