"""The command that times operators and models against what one would use instead: bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .shared import Device, ManyValues, Quiet, app, in_sentences

if TYPE_CHECKING:
    import pandas as pd


@app.command(cls=ManyValues)
@in_sentences
def bench(
    what: Annotated[str, typer.Argument(help="delta, titans, training (a step) or awake (a slider's path).")],
    size: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Tokens T, or sleep passes N, to try.", show_default="64 ... 4096; 1 ... 16"),
    ] = None,
    chunk: Annotated[
        list[int] | None, typer.Option(min=1, help="More chunk sizes; for titans the ones to try.", show_default="")
    ] = None,
    case: Annotated[
        str, typer.Option(help="Inputs of delta: typical, or a case of `labkit check`, as 'equal keys'.")
    ] = "typical",
    batch: Annotated[int, typer.Option(min=1, help="Sequences.")] = 4,
    heads: Annotated[int, typer.Option(min=1, help="Heads.")] = 4,
    width: Annotated[int, typer.Option(min=1, help="Width of keys and of values.")] = 64,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Of delta: what is timed beside ours, a name or *pattern; repeatable.", show_default="all"),
    ] = None,
    values: Annotated[bool, typer.Option("--values", help="Values only, no gradients.")] = False,
    dtype: Annotated[str, typer.Option(help="Of the inputs of delta: float32 or bfloat16.")] = "float32",
    repeats: Annotated[int, typer.Option(min=2, help="Rounds in which everything is timed in turn.")] = 11,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of PyTorch.", show_default="all cores; 1 for awake")
    ] = None,
    device: Device = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(help="Table to write, ending in .csv.", show_default="data/results/... by default"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Time ours against others, in one run. What differs from the float64 reference is refused, not timed."""
    from dataclasses import replace

    import pandas as pd
    import torch

    from labkit.bench import Roof, measure_roof, subjects
    from labkit.files import data_dir
    from labkit.machine import device_called, installed, processor
    from labkit.results import write_table

    where, dtypes = device_called(device), {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in dtypes:
        raise ValueError(f"dtype must be float32 or bfloat16, but it is {dtype!r}.")
    if out is not None and out.suffix != ".csv":
        raise ValueError(f"--out must end in .csv, but it is {out}.")
    threads = threads or (1 if what == "awake" else torch.get_num_threads())
    torch.set_num_threads(threads)
    roof = Roof(0, 0)
    options = subjects.Options(
        where, threads, repeats, roof, tuple(chunk or ()), case, batch, heads, width, not values, dtypes[dtype], quiet,
        tuple(only or ()),
    )  # fmt: skip
    subjects.check_subject(what, options)
    plain = options == subjects.Options(where, threads, repeats, roof, quiet=quiet) and not size
    name = f"bench-{what}.csv"
    own = plain and where.type == "cpu" and out is None
    path = data_dir() / "results" / name if own else out  # a trial leaves the lab's own table alone
    packages = "torch", "triton", "transformers", "flash-linear-attention", "titans-pytorch"
    made_on = {"processor": processor(where), **installed(*packages)}
    table, said = pd.DataFrame(), set()
    for each in size or subjects.SIZES[what][1]:
        # measured at every size: something else may have held the first one down
        roof = roof.higher(measure_roof(where, threads, dtypes[dtype]))
        rows, told = subjects.measure(what, each, replace(options, roof=roof))
        new = pd.DataFrame(rows).assign(roof_flops=roof.flops, roof_bytes=roof.bytes, **made_on)
        table = pd.concat([table, new], ignore_index=True)
        if path is not None:
            write_table(path, table)  # size by size: the longest come last, and a stop loses none before
        typer.echo(_shown(new).to_string(index=False))
        for sentence in told:
            if sentence not in said:
                typer.echo(sentence)
        said |= set(told)
    typer.echo(f"\nRoof: {roof.flops / 1e9:.0f} GFLOP/s in a matrix product, {roof.bytes / 1e9:.1f} GB/s in a copy.")
    if len(grown := subjects.growth(table, what)):
        typer.echo(f"\nSeconds grow with {subjects.SIZES[what][0]} to the power of:")
        typer.echo(grown.round(3).to_string(index=False))
    typer.echo(f"\nStored in {path}." if path else "\nNot stored; --out names a table to write.")


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that a person reads: milliseconds, ratios, memory."""
    told = rows[[name for name in ("length", "passes", "chunk", "candidate", "error") if name in rows]].copy()
    told["ms"], told["ratio"] = 1000 * rows["seconds"], rows["ratio"]
    told["quartiles"] = [f"{a:.2f} to {b:.2f}" for a, b in zip(rows["ratio_low"], rows["ratio_high"], strict=True)]
    for name in ("peak_mib", "roofline", "first_seconds"):
        if name in rows:
            told[name] = rows[name].round(2)
    told["error"] = [f"{error:.0e}" for error in rows["error"]]
    return told.round({"ms": 1, "ratio": 2})
