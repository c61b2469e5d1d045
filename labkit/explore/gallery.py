"""Every still picture there is: which panel it shows, and the words for one who cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from labkit.explore import capacity, filling, kaczmarz, results, selfcheck
from labkit.explore.axes_pictures import AXES
from labkit.explore.kernel_pictures import KERNELS
from labkit.explore.panel import Panel
from labkit.explore.pictures import drawing_tools, write_pictures
from labkit.explore.sleep_pictures import SLEEP
from labkit.explore.sleeper import RIVALS
from labkit.explore.titans_pictures import TITANS
from labkit.files import nearest_or_all

__all__ = ["PICTURES", "Picture", "draw"]


class Picture(NamedTuple):
    """How to make a panel, and what its picture shows, in words that stay true when the numbers change."""

    make: Callable[[], Panel]
    alt: str


#: By name of the file, notebooks/figures/<name>.svg.
PICTURES: dict[str, Picture] = {
    "selfcheck": Picture(
        selfcheck.check,
        "A slider at 3 and a plot of a number against its square, with one dot at 3 and 9.",
    ),
    "memory-fills-up": Picture(
        filling.fills_up,
        "Left, a coloured grid: a memory of 16 by 16 numbers that holds 4 pairs. In the middle the error of reading "
        "each pair back, oldest first: the delta rule has none for the newest pair, a plain sum has some for every "
        "pair. Right, how many pairs come back, by how many were written.",
    ),
    "guess": Picture(
        capacity.guess,
        "Four rows, one for each knob and task, with an open diamond each where the guess stands: 0.25.",
    ),
    "sweeps": Picture(
        kaczmarz.sweeps,
        "Squared error of reading 16 pairs back from a 16 by 16 memory: it falls with every one of 8 sweeps"
        " over the same pairs, towards the dashed line of least squares.",
    ),
    "two-knobs": Picture(
        capacity.two_knobs,
        "Two plots of the share of right answers at one state size and one pass: on MQAR by the place of a "
        "pair in its context, on Depo by hops, each beside a dashed floor.",
    ),
    "effects": Picture(
        lambda: capacity.effects(capacity.measured()),
        "Four rows: what a larger state and what more passes won on MQAR and on Depo, as dots with 95% intervals.",
    ),
    "passes-at-each-size": Picture(
        lambda: capacity.passes_at_each_size(capacity.measured()),
        "Share of right answers that more passes won, by state size, one line for MQAR and one for Depo, "
        "with 95% intervals.",
    ),
    "depo-elastic-by-passes": Picture(
        lambda: results.by_passes("depo-elastic", "Sixteen nodes, read after N sleep passes"),
        "Share of right answers by hops for the model depo-elastic, one line for each number of sleep passes.",
    ),
    "depo-elastic-and-others": Picture(
        lambda: results.side_by_side(("depo-elastic", *RIVALS), "The elastic sleeper beside its rivals"),
        "Share of right answers by hops for depo-elastic and those of its rivals that were measured (specialists of "
        "one N, a deeper model, transformers that keep their cache), one line each, named in the legend.",
    ),
    "depo-deep-by-passes": Picture(
        lambda: results.by_passes("depo-deep", "32 nodes, 16 hops, read after N sleep passes"),
        "Share of right answers by hops, 1 to 16, for the model depo-deep, one line for each number of sleep passes.",
    ),
    "depo-windows-by-passes": Picture(
        lambda: results.by_passes("depo-windows", "A graph spread over several windows, read after N sleep passes"),
        "Share of right answers by hops for the model depo-windows, one line for each number of sleep passes.",
    ),
    "rule110-elastic-by-passes": Picture(
        lambda: results.by_passes("rule110-elastic", "Rule 110, read after N sleep passes"),
        "Share of right cells by steps of Rule 110 for rule110-elastic, one line for each number of sleep passes.",
    ),
}

PICTURES |= {name: Picture(make, alt) for name, (make, alt) in {**SLEEP, **TITANS, **AXES, **KERNELS}.items()}


def draw(names: Sequence[str] = (), to: str | Path | None = None) -> list[str]:
    """Draw the named pictures, or all whose models and rows there are; returns a sentence for each.

    Args:
        to: a folder; notebooks/figures by default.

    Raises ValueError for an unknown name, FileNotFoundError for a named picture whose data is missing and
    where there is no browser, ModuleNotFoundError where there is no playwright.
    """
    for name in names:
        if name not in PICTURES:
            raise ValueError(f"There is no picture {name!r}.{nearest_or_all(name, PICTURES)}")
    drawing_tools()  # said at once if there are none: the panels themselves take minutes
    panels, told = [], []
    for name in names or PICTURES:
        try:
            panels.append(PICTURES[name].make())
        except FileNotFoundError as missing:
            if names:
                raise
            told.append(f"Not drawn: {name}. {missing}")
    return [*told, *(f"Drawn: {path}" for path in write_pictures(panels, to))]
