"""The commands that ask whether test-time compute compounds: from sweeps to queues."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .shared import Folder, ManyValues, Quiet, Seeds, app, in_sentences, seeds_and_path, table_path

if TYPE_CHECKING:
    import pandas as pd

    from labkit.tasks import Task

Instances = Annotated[int, typer.Option(min=1, help="Unseen instances for each seed.")]


def _table(kind: str) -> Any:
    """The option that names a table of one checkpoint."""
    return typer.Option(help="Table to write or add to.", show_default=f"data/results/<name>-{kind}.csv")


def _check_grid(grid: str, known: Sequence[str]) -> None:
    """Answer a name that no grid has with the nearest, or with all."""
    from labkit.files import data_dir, nearest_or_all

    if grid not in known:
        raise FileNotFoundError(f"There is no grid {grid!r} in {data_dir() / 'sweeps'}.{nearest_or_all(grid, known)}")


def _swept(grid: str) -> pd.DataFrame:
    """The stored rows of a grid. Rows may also be those of a grid whose file lies elsewhere."""
    from labkit import sweep as sweeps

    swept = [path.stem.removeprefix("sweep-") for path in sweeps.path_of(grid).parent.glob("sweep-*.csv")]
    _check_grid(grid, sorted({*sweeps.list_grids(), *swept}))
    return sweeps.read(grid)


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

    if Path(grid).suffix != ".toml":
        _check_grid(grid, sweeps.list_grids())
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
    corners: Annotated[
        str, typer.Option(help="The swept grid of specialists.", show_default="corners, for arms")
    ] = "",
    rivals: Annotated[
        str, typer.Option(help="The swept grid of models with one axis only.", show_default="long, for arms")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(help="Table to write.", show_default="data/results/verdicts.csv, or verdicts-<grid>.csv"),
    ] = None,
) -> None:
    """Do sleep and thought compound? Told arm by arm from stored rows, by the definitions in data/LOG.md."""
    from labkit import results
    from labkit import sweep as sweeps
    from labkit.files import data_dir
    from labkit.laws.telling import verdicts
    from labkit.recipes import list_recipes, load_recipe
    from labkit.tasks import Thinking

    rows = _swept(grid)

    def stored(named: str, of_arms: str) -> pd.DataFrame | None:
        if named:
            return _swept(named)
        return sweeps.read(of_arms) if grid == "arms" and sweeps.path_of(of_arms).is_file() else None

    own, alone = stored(corners, "corners"), stored(rivals, "long")
    tasks = {name: load_recipe(name).make_task() for name in set(list_recipes()) & set(rows["checkpoint"])}
    pieces = {name: task.piece for name, task in tasks.items() if isinstance(task, Thinking)}
    table = verdicts(rows, own, alone, pieces=pieces)
    if not len(table):
        raise ValueError(f"A verdict needs two seeds with all cells; `labkit sweep {grid}` measures what is missing.")
    for row in table.to_dict("records"):
        typer.echo(f"{row['model']}: {row['sentence']}")
        theirs = row["specialists_sentence"] if row["specialists_seeds"] else "not measured."
        typer.echo(f"    Specialists: {theirs} Both: {row['both']}.\n")
    path = out or data_dir() / "results" / ("verdicts.csv" if grid == "arms" else f"verdicts-{grid}.csv")
    results.write_table(path, table)
    typer.echo(f"Stored in {path}.")


@app.command()
@in_sentences
def laws(
    grid: Annotated[str, typer.Argument(help="A swept grid of several widths.")] = "sizes",
    out: Annotated[
        Path | None, typer.Option(help="Table to write.", show_default="data/results/laws-<grid>.csv")
    ] = None,
) -> None:
    """Named laws of error fitted to a swept grid: what they predict, what operations explain, what replaces what."""
    from labkit import results
    from labkit.files import data_dir
    from labkit.laws.reach import reach_table
    from labkit.laws.summary import curves, summary
    from labkit.laws.verdict import whole_seeds

    rows = whole_seeds(reach_table(_swept(grid)))
    if rows.empty:
        raise ValueError(f"No seed has every cell yet; `labkit sweep {grid}` goes on.")
    if rows["params"].nunique() < 3:
        raise ValueError(f"Laws need three widths or more, and {grid} has fewer; sizes has four.")
    table = summary(rows)
    typer.echo(table.round(3).to_string(index=False))
    path = out or data_dir() / "results" / f"laws-{grid}.csv"
    beside = path.with_name(f"{path.stem}-curves.csv")
    results.write_table(path, table)
    results.write_table(beside, curves(rows))
    typer.echo(f"Stored in {path} and {beside.name}.")


@app.command(cls=ManyValues)
@in_sentences
def recover(
    law: Annotated[list[str] | None, typer.Argument(help="Laws.", show_default="all")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Synthetic tables for each law.")] = 200,
    seeds: Annotated[
        list[int] | None, typer.Option(min=2, help="Training seeds in a table.", show_default="3 6")
    ] = None,
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
    ways = itertools.product(law or TRUTHS, seeds or [3, 6])
    table = pd.concat([coverage(name, repeats, one, progress=not quiet) for name, one in ways], ignore_index=True)
    typer.echo(table.to_string(index=False))
    whole = not law and not seeds and repeats == 200
    path = out or (data_dir() / "results" / "laws-recovery.csv" if whole else None)
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
    n: Instances = 300,
    seed: Seeds = None,
    folder: Folder = None,
    out: Annotated[Path | None, _table("search")] = None,
) -> None:
    """Best of B chains against a tree at equal operations, with judges that err in no, 1 in 10 and 3 in 10 cases."""
    from labkit.search import CELL, search_rows
    from labkit.tasks import Thinking

    def rows(name: str, one: int) -> pd.DataFrame:
        return search_rows(
            name, one, passes=passes or [1, 2, 4], thought=[0, 1, 2], branches=branches or [1, 4, 16],
            errors=[0.0, 0.1, 0.3], n=n, folder=folder,
        )  # fmt: skip

    def fits(task: Task) -> bool:
        return isinstance(task, Thinking) and task.writes and task.piece == 1

    _seed_by_seed(checkpoint, seed, folder, out, "search", CELL, rows, fits)


@app.command(cls=ManyValues)
@in_sentences
def lookups(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint trained to open windows again.")],
    passes: Annotated[list[int] | None, typer.Option(min=0, help="Sleep passes.", show_default="0 1 2 4")] = None,
    n: Instances = 300,
    seed: Seeds = None,
    folder: Folder = None,
    out: Annotated[Path | None, _table("lookups")] = None,
) -> None:
    """Sleep against looking up: N passes, and B windows opened again by choosers that err never, 3 in 10, always."""
    from labkit.lookups import CELL, lookup_rows
    from labkit.tasks import DepoArchive

    def rows(name: str, one: int) -> pd.DataFrame:
        wanted = passes or [0, 1, 2, 4]
        return lookup_rows(name, one, passes=wanted, errors=[0.0, 0.3, 1.0], n=n, folder=folder)

    _seed_by_seed(checkpoint, seed, folder, out, "lookups", CELL, rows, lambda task: isinstance(task, DepoArchive))


@app.command(cls=ManyValues)
@in_sentences
def nights(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint trained on nights.")],
    passes: Annotated[list[int] | None, typer.Option(min=0, help="Sleep passes.", show_default="0 1 2 4 8")] = None,
    n: Instances = 300,
    seed: Seeds = None,
    folder: Folder = None,
    out: Annotated[Path | None, _table("by-night")] = None,
) -> None:
    """Sleep night after night, on facts alone or also on thoughts: one's own, true ones, wrong ones, facts again."""
    from labkit.nights import CELL, night_rows
    from labkit.tasks import NightsThinking

    def rows(name: str, one: int) -> pd.DataFrame:
        return night_rows(name, one, passes or [0, 1, 2, 4, 8], n, folder)

    def fits(task: Task) -> bool:
        return isinstance(task, NightsThinking)

    _seed_by_seed(checkpoint, seed, folder, out, "nights", CELL, rows, fits, table="by-night")


@app.command(cls=ManyValues)
@in_sentences
def fine(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint trained on Rule 110.")],
    passes: Annotated[list[int] | None, typer.Option(min=0, help="Sleep passes.", show_default="1 2 3 4")] = None,
    most: Annotated[int, typer.Option(min=25, help="Unseen rows drawn at most for a share.")] = 5000,
    seed: Seeds = None,
    folder: Folder = None,
    out: Annotated[Path | None, _table("fine")] = None,
) -> None:
    """Whole rows of the automaton right, by passes and steps: rows are drawn until 25 came right."""
    from labkit.fine import CELL, fine_rows
    from labkit.tasks import Rule110

    def rows(name: str, one: int) -> pd.DataFrame:
        return fine_rows(name, one, passes or [1, 2, 3, 4], most, folder=folder)

    def fits(task: Task) -> bool:
        return isinstance(task, Rule110) and task.strings == 1

    _seed_by_seed(checkpoint, seed, folder, out, "fine", CELL, rows, fits)


def _seed_by_seed(
    checkpoint: str,
    seed: list[int] | None,
    folder: Path | None,
    out: Path | None,
    command: str,
    cell: Sequence[str],
    rows: Callable[[str, int], pd.DataFrame],
    fits: Callable[[Task], bool],
    table: str | None = None,
) -> None:
    """Measure the seeds of a checkpoint one by one, and add each one's rows to its table as they come.

    The table is called after the command, or as said. Rows of a seed whose weights are no longer there leave it.
    """
    from tqdm import tqdm

    from labkit import results

    seeds, path = seeds_and_path(checkpoint, seed, folder, out, table or command, fits)
    for one in tqdm(seeds, unit="seed", delay=2.0):
        new = rows(checkpoint, one)

        def still_there(table: Path, one: int = one, new: pd.DataFrame = new) -> pd.DataFrame:
            old = results.read_rows(table, command, set(cell))
            return results.without_replaced(old, checkpoint, one, new["weights"].iloc[0]) if "weights" in cell else old

        results.add_rows(path, new, cell, still_there)
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
    from labkit.checkpoints import load, task_of
    from labkit.files import data_dir
    from labkit.idle import costs_of, days, shares_by_passes
    from labkit.machine import machine

    torch.set_num_threads(1)
    model, card = load(checkpoint)
    shares = shares_by_passes(_swept(grid), checkpoint, thought, where=f"the grid {grid}")
    costs = costs_of(model, task_of(card).exam(1, torch.Generator().manual_seed(0)), thought)
    here = {name: value for name, value in machine().items() if name != "load"}  # its load is not a queue's
    table = days(costs, shares).assign(
        checkpoint=checkpoint, thought=thought, sleep_pass=costs.sleep_pass, answer=costs.answer, **here
    )
    path = out or data_dir() / "results" / "idle.csv"
    results.write_table(path, table)
    typer.echo(f"A pass takes {1e3 * costs.sleep_pass:.2f} ms, an answer {1e3 * costs.answer:.2f}. Stored in {path}.")
