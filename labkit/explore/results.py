"""Figures of stored rows alone: what `labkit evaluate` measured over all seeds, for README.md and data/RESULTS.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plotly.colors import sample_colorscale

from labkit.explore import style
from labkit.explore.mind import reach
from labkit.explore.panel import Panel
from labkit.explore.stored import Stored, behind, command, rivals, stored

__all__ = ["by_passes", "side_by_side"]

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "pentagon", "hexagon")
UNIT = {"depo": "hops", "rule110": "steps of the automaton", "mqar": "depth"}


def by_passes(name: str, title: str) -> Panel:
    """Share right by depth, one line for each N up to the most that was trained: light for few passes, dark for many.

    With several seeds the line is their mean, and each has a thin line of its own; one seed has its intervals.

    Args:
        name: of a checkpoint; its rows are data/results/<name>.csv.
        title: of the figure.

    Raises FileNotFoundError when it was not evaluated.
    """
    found = _needed(name)
    fig = _figure(f"{name}-by-passes", title, found)
    most = found.recipe.training.passes_range[1] if found.recipe is not None else found.passes[-1]
    shown = [passes for passes in found.passes if passes <= most]
    for i, passes in enumerate(shown):
        rows = found.rows[found.rows["passes"] == passes].sort_values("depth")
        colour = _hex(sample_colorscale(style.SHARES, 0.15 + 0.85 * i / max(1, len(shown) - 1))[0])
        if found.seeds == 1:
            style.band(fig, f"N = {passes}", rows["depth"], rows["low"], rows["high"], colour=colour)
        for part in found.each.values() if found.seeds > 1 else ():
            own = part[part["passes"] == passes].sort_values("depth")
            thin: dict[str, Any] = {"line_width": 1, "opacity": 0.6, "showlegend": False, "markers": False}
            style.line(fig, f"N = {passes}", own["depth"], own["accuracy"], colour=colour, **thin)
        style.line(
            fig,
            f"N = {passes}",
            rows["depth"],
            rows["accuracy"],
            colour=colour,
            marker_symbol=SYMBOLS[i % len(SYMBOLS)],
        )
    _floor(fig, found)
    reached = ", ".join(f"{reach(curve.share)} after {curve.passes}" for curve in map(found.at, shown))
    told = f"How deep {name} is right in nine of ten answers, and at every depth before, by passes: {reached}."
    drawn = "Thin: each seed by itself." if found.seeds > 1 else "Shaded: 95% intervals over instances."
    if most < found.passes[-1]:
        drawn += f" Trained with N up to {most}; the rows go on to {found.passes[-1]}."
    return _panel(f"{name}-by-passes", fig, told, [found], drawn)


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
    drawn = "Shaded: 95% intervals, over seeds where there are several, else over instances."
    return _panel(f"{names[0]}-and-others", fig, told, found, drawn)


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
        height=450,
        xaxis_dtick=1,
        margin_b=140,
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


def _panel(name: str, fig: style.go.FigureWidget, told: str, found: Sequence[Stored], drawn: str) -> Panel:
    files = ", ".join(f"{one.file} ({behind(one)})" for one in found)
    made = command(found[0]) if len(found) == 1 else "labkit evaluate <name> --all-seeds"
    return Panel(
        name,
        lambda: told,
        controls=[],
        figures=[fig],
        source=f"Stored: {files}; made by `{made}` on unseen instances, every question asked alone. "
        f"{drawn}",
    )


def _hex(colour: str) -> str:
    """``rgb(1, 2, 3)`` as ``#010203``."""
    return "#" + "".join(f"{int(part):02x}" for part in colour[4:-1].split(","))
