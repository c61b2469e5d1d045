"""Do sliders work here? A slider that Python answers, and a look at the installation."""

from __future__ import annotations

from labkit.doctor import examine
from labkit.explore import style
from labkit.explore.panel import Panel, slider

__all__ = ["check", "installation"]

WAITING = "Python has not answered yet: move the slider. If this line then stays as it is, read on below."


def check() -> Panel:
    """A slider, a figure and a line of text that only change if a move reaches Python and its answer comes
    back.
    """
    control = slider("move me", 3, 0, 10)
    fig = style.figure(
        "selfcheck",
        "Python squares your number",
        x="your number",
        y="its square",
        x_range=(-0.5, 10.5),
        y_range=(-5, 105),
        width=460,
        height=260,
    )
    dot = style.line(fig, "answer", colour=style.ROLES["model"], mode="markers", marker_size=14)
    answered = iter(range(1_000_000))

    def show() -> str:
        number, moves = control.value, next(answered)
        with fig.batch_update():
            dot.x, dot.y = style.column([number]), style.column([number**2])
        if moves == 0:
            return WAITING
        return f"Sliders work here. Python's answer to move {moves}: {number} squared is {number**2}."

    return Panel(
        "selfcheck",
        show,
        controls=[control],
        figures=[fig],
        source="Computed by this notebook's kernel at every move.",
    )


def installation() -> None:
    """Print what `labkit doctor` finds wrong, or one line when all is well."""
    findings = examine()
    wrong = [finding.sentence for finding in findings if not finding.well]
    for sentence in wrong:
        print(f"Not well: {sentence}")
    if not wrong:
        print(f"All {len(findings)} checks of `labkit doctor` are well: packages, recipes, checkpoints.")
