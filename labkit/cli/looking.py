"""The commands that look at the lab itself: list, check, doctor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import typer

from .shared import Device, app, in_sentences


@app.command("list")
@in_sentences
def list_() -> None:
    """Recipes that can be trained, and checkpoints that can be evaluated."""
    from labkit.checkpoints import list_checkpoints, read_card
    from labkit.recipes import list_recipes, load_recipe

    def recipe(name: str) -> str:
        return load_recipe(name).description

    def checkpoint(name: str, seed: int) -> str:
        card = read_card(name, seed)
        return f"{card['parameters']:,} parameters, {card.get('steps', 0):,} steps"

    trained: dict[tuple[str, str], list[int]] = {}  # seeds that differ, or are damaged, get lines of their own
    for name, seed in list_checkpoints():
        trained.setdefault((name, _or_why_not(checkpoint, name, seed)), []).append(seed)
    recipes = {name: _or_why_not(recipe, name) for name in list_recipes()}
    width = max(map(len, [*recipes, *(name for name, _ in trained)]), default=0)
    told = {key: _seeds(seeds) for key, seeds in trained.items()}
    wide = max(map(len, told.values()), default=0)
    typer.echo("Recipes")
    for name, line in recipes.items():
        typer.echo(f"  {name:<{width}}  {line}")
    typer.echo("Checkpoints")
    for (name, line), seeds in told.items():
        typer.echo(f"  {name:<{width}}  {seeds:<{wide}}  {line}")


@app.command()
@in_sentences
def check(device: Device = "cpu") -> None:
    """Measure every operator against its float64 reference; exit code 1 when one is worse than promised.

    On a GPU all forms run there, the Triton kernels as well; with TRITON_INTERPRET=1 these run on a CPU too.
    """
    from labkit import checks, checks_titans
    from labkit.machine import device_called

    where = device_called(device)
    kept = True
    for name, checked in (("Gated delta rule", checks), ("Neural memory", checks_titans)):
        rows = checked.errors_on(where, progress=True)
        typer.echo("\n".join([name, *(f"  {line}" for line in checks.summary(rows, checked.LIMITS))]))
        kept &= checks.kept(rows, checked.LIMITS)
    typer.echo("\n".join(checks_titans.chunk_distances()))
    if not kept:
        raise typer.Exit(1)


@app.command()
@in_sentences
def doctor() -> None:
    """Say whether this installation is whole; exit code 1 when it is not."""
    from labkit.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(f"{'well ' if finding.well else 'WRONG'}  {finding.sentence}")
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds in order, as one says them: seed 0; seeds 0, 2; seeds 0 to 5."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    told = (f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(told)}"


def _or_why_not(line: Callable[..., str], *args: Any) -> str:
    """A line of a list; a damaged file gets its sentence there and does not hide the others."""
    try:
        return line(*args)
    except (ValueError, OSError) as mistake:
        return str(mistake)
