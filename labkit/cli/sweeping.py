"""The commands that ask whether test-time compute compounds: sweep, verdict, recover, search, idle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import Folder, ManyValues, Quiet, Seeds, app, in_sentences, seeds_and_path, table_path


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
    try:
        rows = sweeps.sweep(loaded, path, folder=folder, workers=workers, scheduler=scheduler, progress=not quiet)
    except KeyboardInterrupt:
        typer.echo(f"\nStopped. The rows so far are in {path}; the same command goes on.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{sweeps.report(rows)}\n\nStored in {path}.")


@app.command()
@in_sentences
def verdict(
    grid: Annotated[str, typer.Argument(help="A swept grid of elastic models.")] = "arms",
    corners: Annotated[str, typer.Option(help="The swept grid of specialists.")] = "corners",
    rivals: Annotated[str, typer.Option(help="The swept grid of models with one axis only.")] = "long",
    out: Annotated[Path | None, typer.Option(help="Table to write.", show_default="data/results/verdicts.csv")] = None,
) -> None:
    """Do sleep and thought compound? Told arm by arm from stored rows, by the definitions in data/LOG.md."""
    from labkit import results
    from labkit import sweep as sweeps
    from labkit.files import data_dir
    from labkit.laws.telling import verdicts

    rows = sweeps.read(grid)
    own, alone = (sweeps.read(name) if sweeps.path_of(name).is_file() else None for name in (corners, rivals))
    table = verdicts(rows, own, alone)
    for row in table.to_dict("records"):
        typer.echo(f"{row['model']}: {row['sentence']}")
        theirs = row["specialists_sentence"] if row["specialists_seeds"] else "not measured."
        typer.echo(f"    Specialists: {theirs} Both: {row['both']}.\n")
    path = out or data_dir() / "results" / "verdicts.csv"
    results.write_table(path, table)
    typer.echo(f"Stored in {path}.")


@app.command()
@in_sentences
def recover(
    law: Annotated[list[str] | None, typer.Argument(help="Laws.", show_default="all")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Synthetic tables for each law.")] = 200,
    out: Annotated[
        Path | None, typer.Option(help="Table to write.", show_default="data/results/laws-recovery.csv")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """How often the intervals of fitted laws hold the truth, on tables made of each law with seed noise."""
    import pandas as pd

    from labkit import results
    from labkit.files import data_dir
    from labkit.laws.recovery import TRUTHS, coverage

    if unknown := set(law or []) - set(TRUTHS):
        raise ValueError(f"There is no law {min(unknown)!r}; there are {', '.join(TRUTHS)}.")
    table = pd.concat([coverage(name, repeats, progress=not quiet) for name in law or TRUTHS], ignore_index=True)
    typer.echo(table.to_string(index=False))
    path = out or (data_dir() / "results" / "laws-recovery.csv" if not law and repeats == 200 else None)
    if path is not None:
        results.write_table(path, table)
        typer.echo(f"Stored in {path}.")


@app.command(cls=ManyValues)
@in_sentences
def search(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint trained to write its thoughts.")],
    passes: Annotated[list[int] | None, typer.Option(min=0, help="Sleep passes.", show_default="1 2 4")] = None,
    branches: Annotated[
        list[int] | None, typer.Option(min=1, help="Chains for each question.", show_default="1 4 16")
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Unseen instances for each seed.")] = 300,
    seed: Seeds = None,
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write or add to.", show_default="data/results/<name>-search.csv")
    ] = None,
) -> None:
    """Best of B chains against a tree at equal operations, with judges that err in no, 1 in 10 and 3 in 10 cases."""
    import pandas as pd
    from tqdm import tqdm

    from labkit import results
    from labkit.search import CELL, search_rows

    seeds, path = seeds_and_path(checkpoint, seed, folder, out, "search")
    tables = [
        search_rows(
            checkpoint, one, passes=passes or [1, 2, 4], thought=[0, 1, 2], branches=branches or [1, 4, 16],
            errors=[0.0, 0.1, 0.3], n=n, folder=folder,
        )
        for one in tqdm(seeds, unit="seed")
    ]  # fmt: skip
    new = pd.concat(tables, ignore_index=True)
    results.add_rows(path, new, CELL, lambda old: results.read_rows(old, "search", set(CELL)))
    typer.echo(f"Stored in {path}.")


@app.command()
@in_sentences
def idle(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint that was swept.")] = "think-even-32",
    grid: Annotated[str, typer.Option(help="The swept grid with its rows.")] = "arms",
    thought: Annotated[int, typer.Option(min=0, help="Steps of thought before an answer.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Table to write.", show_default="data/results/idle.csv")] = None,
) -> None:
    """When is sleep free? Queues of windows and questions, simulated from the costs of a model measured here."""
    import torch

    from labkit import results
    from labkit import sweep as sweeps
    from labkit.checkpoints import load, task_of
    from labkit.files import data_dir
    from labkit.idle import costs_of, days, shares_by_passes
    from labkit.machine import machine

    torch.set_num_threads(1)
    model, card = load(checkpoint)
    shares = shares_by_passes(sweeps.read(grid), checkpoint, thought)
    costs = costs_of(model, task_of(card).exam(1, torch.Generator().manual_seed(0)), thought)
    here = {name: value for name, value in machine().items() if name != "load"}  # its load is not a queue's
    table = days(costs, shares).assign(
        checkpoint=checkpoint, thought=thought, sleep_pass=costs.sleep_pass, answer=costs.answer, **here
    )
    path = out or data_dir() / "results" / "idle.csv"
    results.write_table(path, table)
    typer.echo(f"A pass takes {1e3 * costs.sleep_pass:.2f} ms, an answer {1e3 * costs.answer:.2f}. Stored in {path}.")
