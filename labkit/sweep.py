"""Sweeps: every cell of a grid measured once, a row each; what a stop interrupts goes on where it was.

A grid is a TOML file in `data/sweeps/`:

    description = "Even waypoints at the smallest size"

    [[grid]]                        # one or several
    recipes = ["think-even-d32"]    # trained first, where there is no checkpoint yet
    seeds = [0, 1, 2]               # left out: those of the recipe
    passes = [1, 2, 3, 4]           # N
    thought = [0, 1, 2, 3]          # R; more than the task has is refused
    n = 1000                        # unseen instances for each seed
    carry = ["both"]                # what goes from pass to pass: "both", only the "state", only the "hidden" states
    asked = ["after"]               # when the question is known: "after" sleep, or "before" it as well

The rows lie in `data/results/sweep-<name>.csv`, and are written one by one as they come.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from labkit.checkpoints import list_checkpoints, load, read_card, task_of
from labkit.costs import position_after, sleep_cost, thought_cost
from labkit.files import data_dir, nearest
from labkit.laws.reach import depths_of, reach_table
from labkit.machine import processor, versions
from labkit.reasoning import reason
from labkit.recipes import load_recipe
from labkit.results import read_rows, without_replaced, write_table
from labkit.tasks import DepoForetold, Thinking
from labkit.train import train

__all__ = ["CELL", "Grid", "Part", "list_grids", "load_grid", "measure", "path_of", "read", "report", "sweep"]

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
CELL = ("checkpoint", "seed", "weights", "passes", "thought", "exam", "n", "carry", "asked")
"""The columns that make a row the row of one cell. Other weights under the same name are another cell."""

WAIT = 60
"""Seconds that a Dask scheduler may be without workers."""

EXAM = 5_000
"""Sweeps put exam EXAM + seed, so that their instances are none of those that `labkit evaluate` reports."""

Whole = Annotated[int, Field(ge=0)]
Some = Annotated[list[Whole], Field(min_length=1)]


class Part(BaseModel):
    """One table [[grid]]: every recipe with every seed, N and R."""

    model_config = STRICT

    recipes: Annotated[list[str], Field(min_length=1)]
    seeds: Some | None = None
    passes: Some
    thought: Some = [0]
    n: Annotated[int, Field(ge=1)] = 1000
    carry: Annotated[list[Literal["both", "state", "hidden"]], Field(min_length=1)] = ["both"]
    asked: Annotated[list[Literal["after", "before"]], Field(min_length=1)] = ["after"]


class Grid(BaseModel):
    """A grid file, read by `load_grid`."""

    model_config = STRICT

    name: str
    description: Annotated[str, Field(min_length=1)]
    grid: Annotated[list[Part], Field(min_length=1)]

    def models(self) -> list[tuple[str, int]]:
        """Every recipe and seed that has cells, each once, in the order of the file."""
        found = [(r, s) for part in self.grid for r in part.recipes for s in _seeds(part, r)]
        return list(dict.fromkeys(found))

    def cells(self, recipe: str, seed: int) -> list[dict[str, Any]]:
        """The cells of one model, as keyword arguments of `measure`."""
        found = []
        for part in self.grid:
            if recipe in part.recipes and seed in _seeds(part, recipe):
                knobs = itertools.product(part.passes, part.thought, part.carry, part.asked)
                found += [{"passes": p, "thought": t, "n": part.n, "carry": c, "asked": a} for p, t, c, a in knobs]
        return [cell for i, cell in enumerate(found) if cell not in found[:i]]


def _seeds(part: Part, recipe: str) -> list[int]:
    return part.seeds if part.seeds is not None else load_recipe(recipe).seeds


def list_grids() -> list[str]:
    """Names of the grids in `data/sweeps/`, in alphabetical order."""
    return sorted(path.stem for path in (data_dir() / "sweeps").glob("*.toml"))


def load_grid(name_or_path: str | Path) -> Grid:
    """Read a grid of `data/sweeps/` by its name, or any other by its path (ending in `.toml`).

    Raises FileNotFoundError when there is none, ValueError, in sentences, when it cannot be used: an unknown key, an
    unknown recipe, or more thought than a recipe's task has.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = data_dir() / "sweeps" / f"{name_or_path}.toml"
    if not path.is_file():
        raise FileNotFoundError(f"There is no grid file {path}.{nearest(path.stem, list_grids())}")
    try:
        grid = Grid(name=path.stem, **tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as mistake:
        raise ValueError(f"The grid {path} is not valid TOML: {mistake}.") from None
    except (ValidationError, TypeError) as mistakes:
        told: list[Any] = [{"msg": mistakes}]
        if isinstance(mistakes, ValidationError):
            told = list(mistakes.errors(include_url=False))
        said = [f"{'.'.join(map(str, m.get('loc', ())))}: {m['msg']}." for m in told]
        raise ValueError(f"The grid {path} cannot be used. {' '.join(said)}") from None
    for part in grid.grid:
        for recipe in part.recipes:
            task = load_recipe(recipe).make_task()
            most = task.thoughts
            if "before" in part.asked and not isinstance(task, DepoForetold):
                raise ValueError(
                    f"The grid {path} cannot be used. asked = \"before\" needs a task such as depo-foretold, and "
                    f"{recipe} is trained on {task.name}."
                )
            if max(part.thought) > most:
                raise ValueError(
                    f"The grid {path} cannot be used. thought goes to {max(part.thought)}, but a question of "
                    f"{recipe} has at most {most} steps of thought."
                )
    return grid


def sweep(
    grid: Grid,
    path: str | Path | None = None,
    *,
    folder: str | Path | None = None,
    workers: int = 2,
    scheduler: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Train what is not trained yet, measure every cell that has no row, and return the rows of the grid.

    Args:
        path: table of rows; None takes ``data/results/sweep-<name>.csv``.
        folder: of checkpoints; None takes ``data/checkpoints``.
        workers: processes on this machine, one thread each.
        scheduler: address of a Dask scheduler, such as "tcp://127.0.0.1:8786", whose workers are used instead. They
            must see the same folders. Needs the extra `dask`.
        progress: show a bar of cells, with the time left.

    Raises:
        ImportError: a scheduler is named, and Dask is not installed.
        ChildProcessError: a worker on this machine was killed; the rows so far are kept.
        BlockingIOError: another sweep is writing the same table.
        TimeoutError: the scheduler has no worker, also after a minute.
    """
    path = Path(path) if path is not None else path_of(grid.name)
    folder = Path(folder).resolve() if folder is not None else data_dir() / "checkpoints"
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        return _swept(grid, path, folder, workers, scheduler, progress)


def _swept(
    grid: Grid, path: Path, folder: Path, workers: int, scheduler: str | None, progress: bool
) -> pd.DataFrame:
    rows = read_rows(path, f"sweep {grid.name}", set(CELL)) if path.is_file() else None
    have: set[tuple[str, ...]] = set() if rows is None else set(_keys(rows))
    wanted = set()
    total = sum(len(grid.cells(*model)) for model in grid.models())
    try:
        with _pool(workers, scheduler) as (pool, slots), tqdm(
            total=total, desc=grid.name, unit="cell", disable=not progress
        ) as bar:
            for key, row in _measured(pool, slots, grid, folder, have):
                wanted.add(key)
                if row is not None:
                    new = pd.DataFrame([row]).astype({"seed": str})
                    if rows is not None:
                        still_there = without_replaced(rows, row["checkpoint"], row["seed"], row["weights"])
                        new = pd.concat([still_there, new], ignore_index=True)
                    rows = new.sort_values(list(CELL), kind="stable", ignore_index=True)
                    write_table(path, rows)
                bar.update(1)
    except BrokenProcessPool:
        raise ChildProcessError(
            f"A worker was killed. The rows so far are in {path}; the same command measures the rest."
        ) from None
    if rows is None:
        raise ValueError("Nothing was measured, since no worker took a job.")
    return rows[[key in wanted for key in _keys(rows)]].reset_index(drop=True)


def path_of(name: str) -> Path:
    """Where the rows of a grid in `data/sweeps/` lie."""
    return data_dir() / "results" / f"sweep-{name}.csv"


def read(name: str) -> pd.DataFrame:
    """The stored rows of a grid; FileNotFoundError or ValueError as `labkit.results.read_rows`."""
    return read_rows(path_of(name), f"sweep {name}", {*CELL, "flops_sleep", "flops_wake"})


def measure(
    recipe: str,
    seed: int,
    folder: Path,
    *,
    passes: int,
    thought: int,
    n: int,
    carry: str = "both",
    asked: str = "after",
) -> dict[str, Any]:
    """The row of one cell: configuration, share right by depth, steps, operations, bytes, seconds, versions."""
    model, card = load(recipe, seed, folder)
    task = task_of(card)
    if not isinstance(task, Thinking):
        raise ValueError(f"A sweep measures models that were trained on tasks with thought, and {recipe} was not.")
    found = reason(model.with_config(carry=carry), task, passes, thought, n, EXAM + seed, asked=asked)
    asks = len(task.questions(task.exam(1, torch.Generator().manual_seed(0)).context[0]).questions[0, 0])
    sleeping = sleep_cost(model.config, task.context, passes)
    past = position_after(model.config, task.context, passes)
    waking = thought_cost(model.config, task.trace, asks, thought, task.piece, past)
    return {
        "checkpoint": recipe,
        "seed": seed,
        "weights": card["sha256"][:12],
        "passes": passes,
        "thought": thought,
        "exam": EXAM + seed,
        "n": n,
        "carry": carry,
        "asked": asked,
        "trace": task.trace,
        "params": card["parameters"],
        **{f"right_{depth}": right for depth, right in found.by_depth().items()},
        **{f"taught_{depth}": right for depth, right in found.by_depth(found.taught.min(axis=-1)).items()},
        "flops_sleep": found.flops_sleep,
        "flops_wake": found.flops_wake,
        "bytes_sleep": sleeping.bytes,
        "bytes_wake": waking.bytes,
        "seconds_sleep": round(found.seconds_sleep, 7),
        "seconds_wake": round(found.seconds_wake, 7),
        "train_flops": card["train_flops"],
        "train_seconds": card["train_seconds"],
        "processor": processor(torch.device("cpu")),
        **versions(),
    }


def _measured(
    pool: Executor, slots: int, grid: Grid, folder: Path, have: set[tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], dict[str, Any] | None]]:
    """Every cell as it is done: its key, and its row unless that was there before.

    Cells go before trainings, of which no more than `slots` wait in the pool at a time, so that rows come early.
    """
    trained = set(list_checkpoints(folder)) if folder.is_dir() else set()
    untrained = [model for model in grid.models() if model not in trained]
    cells: set[Future[dict[str, Any]]] = set()
    training: dict[Future[object], tuple[str, int]] = {}
    ready = [model for model in grid.models() if model in trained]
    while ready or untrained or cells or training:
        for recipe, seed in ready:
            weights = read_card(recipe, seed, folder)["sha256"][:12]
            for cell in grid.cells(recipe, seed):
                named = {"checkpoint": recipe, "seed": seed, "weights": weights, "exam": EXAM + seed, **cell}
                if _key(named) in have:
                    yield _key(named), None
                else:
                    cells.add(pool.submit(measure, recipe, seed, folder, **cell))
        while untrained and len(training) < slots:
            model = untrained.pop(0)
            training[pool.submit(_train, *model, folder)] = model
        if not cells and not training:
            return
        waiting: list[Future[Any]] = [*cells, *training]
        done = wait(waiting, return_when=FIRST_COMPLETED).done
        for future in done & cells:
            row = future.result()
            yield _key(row), row
        cells -= done
        ready = [training.pop(future) for future in [*training] if future in done and future.result() is None]


def _train(recipe: str, seed: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{recipe}-s{seed}.lock"):  # of two sweeps that want one model the second waits for it
        train(load_recipe(recipe), seed, folder, progress=False)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            yield
    except Timeout:
        raise BlockingIOError(f"Another sweep is writing {path}; wait for it, or give --out another table.") from None


def _key(cell: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(cell[name]) for name in CELL)


def _keys(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    return [_key(row) for row in rows[list(CELL)].to_dict("records")]


@contextlib.contextmanager
def _pool(workers: int, scheduler: str | None) -> Iterator[tuple[Executor, int]]:
    """Where jobs run, and how many at a time."""
    if scheduler is None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, but it is {workers}.")
        # spawned: a forked child would share the threads that torch has started
        others = set(active_children())
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_as_worker) as pool:
            try:
                yield pool, workers
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what is queued would be done for nothing
                for worker in set(active_children()) - others:
                    worker.terminate()  # what runs, too; a training keeps what it saved last
                raise
        return
    try:
        from distributed import Client
    except ImportError:
        raise ImportError("A --scheduler needs Dask: `.venv/bin/pip install -e '.[dask]'`.") from None
    with Client(scheduler, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=WAIT)
        except TimeoutError:
            raise TimeoutError(f"The scheduler {scheduler} has no workers; start some with `dask worker`.") from None
        client.run(_one_thread)
        slots = sum(client.ncores().values())
        with client.get_executor(pure=False, retries=3) as pool:
            yield pool, slots


def _one_thread() -> None:
    torch.set_num_threads(1)


def _as_worker() -> None:
    """One thread, and no work for a sweep that was killed: a training would go on for minutes after it."""
    _one_thread()
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()


def _end_with_the_sweep() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def report(rows: pd.DataFrame) -> str:
    """Mean reach over seeds, a square of N and R for each model, and what it cost."""
    table, told = reach_table(rows), []
    for (checkpoint, carry, asked), part in table.groupby(["checkpoint", "carry", "asked"], sort=False):
        name = checkpoint if carry == "both" else f"{checkpoint}, carrying only the {carry}"
        name += ", asked before sleep" if asked == "before" else ""
        square = part.pivot_table(index="passes", columns="thought", values="reach")
        square.columns = [f"R={r}" for r in square.columns]
        square.index = [f"N={n}" for n in square.index]
        seeds, censored = part["seed"].nunique(), part["censored"].mean()
        told.append(
            f"{name}: reach in {len(depths_of(part))} depths asked, mean of {seeds} seeds, {censored:.0%} censored\n"
            f"{square.round(2).to_string()}"
        )
    models = rows.drop_duplicates(["checkpoint", "seed"])
    return "\n\n".join(told) + f"\n\nTraining took {models['train_seconds'].sum() / 3600:.2f} core-hours in all."
