"""The commands that make something: train, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import Device, Folder, ManyValues, Quiet, app, in_sentences, seed_option


@app.command(cls=ManyValues)
@in_sentences
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe in data/recipes, or path of a .toml.")],
    seed: Annotated[list[int] | None, seed_option("those of the recipe")] = None,
    device: Device = "cpu",
    folder: Folder = None,
    resume: Annotated[
        bool, typer.Option(help="Leave finished seeds, and go on from where a stopped one was last saved.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Train the seeds of a recipe, one after another. Stopped at any time, the same command goes on."""
    from labkit.checkpoints import list_checkpoints
    from labkit.recipes import load_recipe
    from labkit.train import train as run

    loaded = load_recipe(recipe)
    finished = list_checkpoints(folder) if resume else []
    for one in seed or loaded.seeds:
        try:
            path = run(loaded, one, folder, device=device, resume=resume, progress=not quiet)
        except KeyboardInterrupt:
            typer.echo(f"\nStopped in seed {one}. The same command goes on from the last saved step.", err=True)
            raise typer.Exit(130) from None
        already = ", is trained already; --no-resume trains it anew" if (loaded.name, one) in finished else ""
        typer.echo(f"{loaded.name}, seed {one}{already}: {path}")


@app.command()
@in_sentences
def figures(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which pictures.", show_default="all that can be drawn")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder.", show_default="notebooks/figures")] = None,
) -> None:
    """Draw the still pictures of README and notebooks anew, from the models and rows there are."""
    from labkit.explore.gallery import draw

    for sentence in draw(names or [], to):
        typer.echo(sentence)
