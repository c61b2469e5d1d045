"""The still pictures of notebook 02: how each panel is made, and the words for one who cannot see it."""

from __future__ import annotations

from collections.abc import Callable

from labkit.explore import ablation, byhand, learning, reaching, transplant
from labkit.explore.mind import Sleeper
from labkit.explore.panel import Panel
from labkit.explore.sleeper import RIVALS, Explorer

__all__ = ["SLEEP"]

N = 4  # where the explorers' slider stands in their pictures
SEEN = 200  # unseen contexts behind each measured picture


def _by_hand() -> Panel:
    sleeper = Sleeper.load("depo-elastic")
    return byhand.by_hand(transplant.two_contexts(sleeper)[0].view(-1, 2))


def _explorer(checkpoint: str) -> Panel:
    sleeper = Sleeper.load(checkpoint)
    explorer = Explorer(sleeper, RIVALS if sleeper.noun == "graph" else ())
    for passes in (1, 2, 3, 6, 8, 12, 16, N):  # what each of them cost stays in the picture
        explorer.passes.value = passes
    return explorer


def _reach() -> Panel:
    sleeper = Sleeper.load("depo-elastic")
    panel = reaching.reach_by_passes(sleeper, reaching.measure(sleeper, reaching.WITHIN, SEEN))
    panel.controls["my guess"].value = "doubling"  # who cannot choose here is to see the dots all the same
    return panel


def _transplant() -> Panel:
    sleeper = Sleeper.load("depo-elastic")
    return transplant.transplant(sleeper, transplant.two_contexts(sleeper))


def _beyond() -> Panel:
    sleeper = Sleeper.load("depo-elastic")
    return reaching.beyond(sleeper, reaching.measure(sleeper, reaching.FAR, SEEN))


def _ablations() -> Panel:
    sleeper = Sleeper.load("depo-elastic")
    return ablation.ablations(sleeper, ablation.ablate(sleeper, ablation.PASSES, SEEN))


#: By name of the file, notebooks/figures/<name>.svg: what makes the panel, and what its picture shows.
SLEEP: dict[str, tuple[Callable[[], Panel], str]] = {
    "by-hand": (
        _by_hand,
        "Left, the fast weights after one pass by hand: a square grid with one filled cell in every row. Right, the "
        "cycle of the graph, with an arrow from every node to where the memory sends it: one edge on.",
    ),
    "reach": (
        _reach,
        "How many hops deep the trained model answers after N passes, as dots, beside two lines: doubling with every "
        "pass, and adding one hop with every pass.",
    ),
    "mind-graph": (
        lambda: _explorer("depo-elastic"),
        "Two grids with start nodes across and hops down. Left the true answers, right the model's after four passes "
        "of sleep; any wrong one would be crossed out. Below: the probabilities of one answer, right answers by hops "
        "beside stored rivals, and the milliseconds of sleeping and of waking.",
    ),
    "mind-row": (
        lambda: _explorer("rule110-elastic"),
        "Two space-time pictures of Rule 110, cells across and steps down. Left the true one, right the one read back "
        "from memory after four passes of sleep, wrong cells crossed out. Below: the probabilities of one answer, "
        "right answers by steps, and the milliseconds of sleeping and of waking.",
    ),
    "learning": (
        lambda: learning.learning(learning.learned()),
        "Share of cells right in lessons against millions of tokens, four lines: one pass lowest, the other three "
        "close together above it, four passes mostly highest; thin lines for each seed around them.",
    ),
    "transplant": (
        _transplant,
        "Two sleepers before they exchange memories. For each, bars by hops: how many of its answers are those of "
        "graph A, and how many those of graph B, and a dashed line at the guess, one half.",
    ),
    "beyond": (
        _beyond,
        "Share of right answers against the number of passes, up to far beyond those of training, whose end a dashed "
        "line marks: one line each for 1 hop, for the most hops, and for the hops that lost the most (if another).",
    ),
    "ablations": (
        _ablations,
        "Right answers for four ways of sleeping: both the hidden states and the fast weights cross from pass to pass, "
        "only the fast weights, only the hidden states, and both without the window's embedding. Left by the number "
        "of passes, right by hops.",
    ),
}
