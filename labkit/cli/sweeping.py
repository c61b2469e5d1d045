"""The commands that ask whether test-time compute compounds: sweep, laws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import Folder, Quiet, app, in_sentences, table_path


@app.command()
@in_sentences
def sweep(
    grid: Annotated[str, typer.Argument(help="Name of a grid in data/sweeps, or path of a .toml.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine, one thread each.")] = 2,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, such as tcp://127.0.0.1:8786.", show_default=False)
    ] = None,
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table of rows.", show_default="data/results/sweep-<name>.csv")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure every cell of a grid, training what is not trained. Stopped at any time, the same command goes on."""
    from labkit import sweep as sweeps

    loaded = sweeps.load_grid(grid)
    path = table_path(f"sweep-{loaded.name}", folder, out)
    rows = sweeps.sweep(
        loaded, path, folder=folder, workers=workers, scheduler=scheduler, progress=not quiet
    )  # fmt: skip
    typer.echo(f"{sweeps.report(rows)}\n\nStored in {path}.")
