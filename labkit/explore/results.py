"""Figures of stored rows alone: what `labkit evaluate` measured over all seeds, for README."""

from __future__ import annotations

from collections.abc import Sequence

from plotly.colors import sample_colorscale

from labkit.explore import style
from labkit.explore.panel import Panel
from labkit.explore.stored import Stored, behind, rivals, stored

__all__ = ["by_passes", "side_by_side"]

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "pentagon", "hexagon")
UNIT = {"depo": "hops", "rule110": "steps of the automaton", "mqar": "depth"}


def by_passes(name: str, title: str) -> Panel:
    """Share right by depth, one line for each N that was evaluated: light for few passes, dark for many.

    Args:
        name: of a checkpoint; its rows are data/results/<name>.csv.
        title: of the figure.

    Raises FileNotFoundError when it was not evaluated.
    """
    found = _needed(name)
    fig = _figure(f"{name}-by-passes", title, found)
    last = max(1, len(found.passes) - 1)
    for i, passes in enumerate(found.passes):
        rows = found.rows[found.rows["passes"] == passes].sort_values("depth")
        colour = _hex(sample_colorscale(style.SHARES, 0.15 + 0.85 * i / last)[0])
        style.band(fig, f"N = {passes}", rows["depth"], rows["low"], rows["high"], colour=colour)
        style.line(
            fig,
            f"N = {passes}",
            rows["depth"],
            rows["accuracy"],
            colour=colour,
            marker_symbol=SYMBOLS[i % len(SYMBOLS)],
        )
    _floor(fig, found)
    first, most = found.at(found.passes[0]), found.at(found.passes[-1])
    told = (
        f"{name} at depth {most.depth[-1]}: {first.share[-1]:.2f} right after {first.passes} passes, "
        f"{most.share[-1]:.2f} after {most.passes}."
    )
    return _panel(f"{name}-by-passes", fig, told, [found])


def side_by_side(names: Sequence[str], title: str) -> Panel:
    """Share right by depth of several checkpoints: those trained at one N at that N, elastic ones at every N
    trained.

    Those that were not evaluated are left out; FileNotFoundError when that leaves none.
    """
    found = rivals(tuple(names)) or [_needed(names[0])]
    fig = _figure(f"{names[0]}-and-others", title, found[0])
    for i, one in enumerate(found):
        ends = one.recipe.training.passes_range if one.recipe is not None else (one.passes[-1],)
        for j, passes in enumerate(sorted(set(ends))):
            curve, colour = one.at(passes), style.CYCLE[i % len(style.CYCLE)]
            style.band(fig, one.name, curve.depth, curve.low, curve.high, colour=colour)
            style.line(
                fig,
                f"{one.name}, N = {curve.passes}",
                curve.depth,
                curve.share,
                colour=colour,
                dash=("solid", "dot")[len(set(ends)) - 1 - j],
                marker_symbol=SYMBOLS[i % len(SYMBOLS)],
            )
    _floor(fig, found[0])
    told = f"{', '.join(one.name for one in found)}, each at the passes it was trained with."
    return _panel(f"{names[0]}-and-others", fig, told, found)


def _needed(name: str) -> Stored:
    found = stored(name)
    if found is None:
        raise FileNotFoundError(f"{name} has no stored rows; `labkit evaluate {name} --all-seeds` makes them.")
    return found


def _figure(name: str, title: str, found: Stored) -> style.go.FigureWidget:
    kind = found.recipe.task["kind"] if found.recipe is not None else ""
    depths = found.rows["depth"]
    return style.figure(
        name,
        title,
        x=UNIT.get(kind, "depth"),
        y="right answers (share)",
        y_range=(-0.03, 1.03),
        x_range=(depths.min() - 0.3, depths.max() + 0.3),
        width=760,
        height=420,
        xaxis_dtick=1,
        margin_b=110,
    )


def _floor(fig: style.go.FigureWidget, found: Stored) -> None:
    rows = found.rows.drop_duplicates("depth").sort_values("depth")
    style.line(
        fig,
        "floor: the context not seen",
        rows["depth"],
        rows["floor"],
        colour=style.ROLES["floor"],
        dash="dash",
        markers=False,
    )


def _panel(name: str, fig: style.go.FigureWidget, told: str, found: Sequence[Stored]) -> Panel:
    files = ", ".join(f"{one.file} ({behind(one)})" for one in found)
    return Panel(
        name,
        lambda: told,
        controls=[],
        figures=[fig],
        source=f"Stored: {files}; made by `labkit evaluate <name> --all-seeds` on unseen instances, every question "
        "asked alone. Shaded: 95% intervals, over seeds where there are several, else over instances.",
    )


def _hex(colour: str) -> str:
    """``rgb(1, 2, 3)`` as ``#010203``."""
    return "#" + "".join(f"{int(part):02x}" for part in colour[4:-1].split(","))
