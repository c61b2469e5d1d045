"""The commands that measure models: evaluate, haystack, stream, long-run, bits, speed, contrast, curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .shared import (
    Device,
    Folder,
    ManyValues,
    NoWriting,
    Passes,
    Quiet,
    Seeds,
    app,
    in_sentences,
    seed_option,
    seeds_and_path,
    table_path,
)

if TYPE_CHECKING:
    from labkit.tasks import Task


@app.command(cls=ManyValues)
@in_sentences
def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint, as `labkit list` shows it.")],
    passes: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Sleep passes to try, such as 0 1 2.", show_default="0 1 2 4 8 16"),
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Unseen instances for each seed.")] = 2000,
    seed: Annotated[list[int] | None, seed_option("0")] = None,
    all_seeds: Annotated[bool, typer.Option("--all-seeds", help="Every seed there is.")] = False,
    exam: Annotated[
        int | None, typer.Option(min=0, max=999_999, help="Which instances: a number.", show_default="the seed")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Instances slept on at a time.")] = 250,
    device: Device = "cpu",
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write, ending in .csv.", show_default="data/results/...")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also replace a table that holds more.")] = False,
    quiet: Quiet = False,
) -> None:
    """Accuracy by depth after N sleep passes, on unseen instances: printed, and stored as a table."""
    from labkit import results
    from labkit.checkpoints import list_checkpoints, load, task_of
    from labkit.evaluate import PASSES
    from labkit.evaluate import evaluate as run
    from labkit.machine import device_called

    where = device_called(device)
    known = [s for name, s in list_checkpoints(folder) if name == checkpoint]
    if seed and all_seeds:
        raise ValueError("--seed and --all-seeds contradict each other; give one of them.")
    seeds = known if all_seeds and known else sorted(set(seed or [0]))
    # all weights are looked at before the first of them is put to work
    models = [load(checkpoint, s, folder) for s in seeds]
    wanted = passes or list(PASSES)
    name = checkpoint if seeds == known else f"{checkpoint}-s{'-'.join(map(str, seeds))}"
    path = table_path(name, folder, out)
    if path.is_file() and not replace:
        stored = results.read(path)
        others = set(stored["seed"]) - {results.POOLED, *map(str, seeds)}
        if stored["n"].min() > n or not set(stored["passes"]) <= set(wanted) or others:
            raise ValueError(
                f"{path} holds more instances, other numbers of passes or other seeds. Give --replace to replace "
                "it, or --out to write elsewhere."
            )
    evaluations = [
        run(
            model.to(where),
            task_of(card),
            wanted,
            n,
            card["seed"] if exam is None else exam,
            batch,
            name=checkpoint,
            model_seed=card["seed"],
            weights=card["sha256"],
            progress=not quiet,
        )
        for model, card in models
    ]
    typer.echo(results.report(results.store(evaluations, path)))
    typer.echo(f"\nStored in {path}; every single answer in {path.with_suffix('.npz').name} beside it.")


@app.command(cls=ManyValues)
@in_sentences
def haystack(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint trained on needles.")],
    length: Annotated[
        list[int] | None, typer.Option(min=3, help="Tokens of a haystack.", show_default="1024 ... 16384")
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(help="passkey, number, word.", show_default="all three")] = None,
    needles: Annotated[int, typer.Option(min=1, help="Facts in a haystack, each asked alone.")] = 1,
    no_writing: NoWriting = False,
    passes: Passes = 1,
    n: Annotated[int, typer.Option(min=1, help="Haystacks for each seed, variant and length.")] = 100,
    seed: Seeds = None,
    device: Device = "cpu",
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write or add to.", show_default="data/results/<name>-haystack.csv")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Recall of needles in ever longer haystacks, by every seed there is: printed, and stored as a table."""
    from labkit import haystack as hay

    seeds, path = seeds_and_path(checkpoint, seed, folder, out, "haystack", _of_needles)
    rows = hay.haystack(
        checkpoint, seeds, lengths=length or hay.LENGTHS, variants=variant or tuple(hay.HAYS), needles=needles,
        writes=not no_writing, passes=passes, n=n, device=device, folder=folder, progress=not quiet,
    )  # fmt: skip
    hay.store(rows, path)
    typer.echo(f"{hay.report(rows)}\nStored in {path}.")


@app.command(cls=ManyValues)
@in_sentences
def stream(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint trained on needles in windows of 64.")],
    n: Annotated[int, typer.Option(min=1, help="Streams of 200 documents for each seed.")] = 20,
    passes: Annotated[int, typer.Option(min=0, help="Sleep passes for every document.")] = 1,
    archive: Annotated[bool, typer.Option("--archive", help="Keep the documents and look them up (BM25).")] = False,
    seed: Seeds = None,
    device: Device = "cpu",
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write.", show_default="data/results/<name>-stream.csv")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Recall of facts in a stream of documents, by their age, from memory or from an archive."""
    from labkit import stream as streams
    from labkit.results import write_table

    kind = "archive" if archive else "stream"
    seeds, path = seeds_and_path(checkpoint, seed, folder, out, kind, _of_needles)
    rows = streams.stream(
        checkpoint, seeds, n=n, passes=passes, archive=archive, device=device, folder=folder, progress=not quiet
    )
    write_table(path, rows)
    shown = rows[rows["seed"] == rows["seed"].iloc[-1]]
    typer.echo(f"{shown[['age', 'n', 'accuracy', 'low', 'high']].round(3).to_string(index=False)}\nStored in {path}.")


@app.command("long-run", cls=ManyValues)
@in_sentences
def long_run(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint trained on needles.")],
    tokens: Annotated[int, typer.Option(min=1, help="How many tokens one session reads.")] = 2_097_152,
    passes: Passes = 1,
    seed: Seeds = None,
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write or add to.", show_default="data/results/<name>-long-run.csv")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Two million tokens through one session: size of its state, memory, pace, and what it knows of the start."""
    from labkit import long_run as runs

    seeds, path = seeds_and_path(checkpoint, seed, folder, out, "long-run", _of_needles)
    shown = ["seed", "tokens", "start_value", "fresh_value", "state_bytes", "resident_bytes", "tokens_per_second"]
    for one in seeds:
        rows = runs.long_run(checkpoint, one, tokens=tokens, passes=passes, folder=folder, progress=not quiet)
        runs.store(rows, path)
        typer.echo(rows[shown].round(3).to_string(index=False))
    typer.echo(f"Stored in {path}.")


@app.command(cls=ManyValues)
@in_sentences
def bits(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint trained on text.")],
    read: Annotated[
        list[int] | None, typer.Option(min=0, help="Bytes slept on before a block.", show_default="64 ... 1984")
    ] = None,
    no_writing: NoWriting = False,
    passes: Passes = 1,
    seed: Seeds = None,
    device: Device = "cpu",
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write or add to.", show_default="data/results/<name>-bits.csv")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Bits per byte of held-out text, by how many bytes were read before: printed, and stored as a table."""
    from labkit import bits as measured
    from labkit.tasks import Text

    seeds, path = seeds_and_path(checkpoint, seed, folder, out, "bits", lambda task: isinstance(task, Text))
    rows = measured.bits_per_byte(
        checkpoint, seeds, reads=read or measured.READ, passes=passes, writes=not no_writing, device=device,
        folder=folder, progress=not quiet,
    )  # fmt: skip
    measured.store(rows, path)
    typer.echo(f"{measured.report(rows)}\nStored in {path}.")


@app.command(cls=ManyValues)
@in_sentences
def speed(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe.")] = "depo-elastic",
    passes: Annotated[list[int] | None, typer.Option(min=1, help="Sleep passes to time.", show_default="1 4")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write, as JSON.", show_default="data/results/training-speed.json")
    ] = None,
) -> None:
    """Training steps per second, timed in one run: eager or compiled, float32 or bfloat16, attention fused or not."""
    import json

    import pandas as pd

    from labkit.files import data_dir, write_text
    from labkit.machine import machine, versions
    from labkit.recipes import load_recipe
    from labkit.speed import measure

    wanted, where = tuple(passes or (1, 4)), machine()
    table = pd.DataFrame(measure(load_recipe(recipe), wanted)).round(3)
    typer.echo(table.to_string(index=False))
    command = f"labkit speed {recipe} --passes {' '.join(map(str, wanted))}"
    found = {"command": command, "machine": where, "versions": versions(), "rows": table.to_dict("records")}
    path = write_text(out or data_dir() / "results" / "training-speed.json", json.dumps(found, indent=1) + "\n")
    typer.echo(f"\nStored in {path}.")


@app.command()
@in_sentences
def contrast(
    folder: Annotated[Path | None, typer.Option(help="Folder of results.", show_default="data/results")] = None,
) -> None:
    """State size against passes: effects and interaction of the evaluated grid, stored as JSON."""
    from labkit import contrasts

    path = contrasts.write(folder)
    found = contrasts.read(folder)
    for task, effects in found["effects"].items():
        for knob, e in effects.items():
            typer.echo(f"{task}: {knob} wins {e['value']:+.3f} [{e['low']:+.3f}, {e['high']:+.3f}]")
    typer.echo(f"{contrasts.verdict(found)}\nStored in {path}.")


@app.command()
@in_sentences
def curves(
    checkpoints: Annotated[list[str], typer.Argument(help="Names of checkpoints.")],
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write, ending in .csv.", show_default="data/results/curves.csv")
    ] = None,
) -> None:
    """How trainings went: accuracy by depth against tokens, read off the cards of checkpoints; stored as a table."""
    import pandas as pd

    from labkit import results
    from labkit.checkpoints import read_card
    from labkit.laws import teaching

    path = table_path("curves", folder, out)
    found = [teaching.curves(name, folder) for name in checkpoints]
    if missing := [name for name, table in zip(checkpoints, found, strict=True) if table.empty]:
        read_card(missing[0], 0, folder)  # says in a sentence that there is none
    table = pd.concat(found, ignore_index=True)
    results.write_table(path, table)
    last = table[table["step"] == table.groupby(["checkpoint", "seed"])["step"].transform("max")]
    shown = last.pivot_table(index=["checkpoint", "depth"], columns="seed", values="accuracy")
    typer.echo(f"Share right in the last lessons, by seed:\n{shown.round(3).to_string()}\n\nStored in {path}.")


def _of_needles(task: Task) -> bool:
    """Whether needles can be asked of a model that was trained on this."""
    from labkit.tasks import Needle

    return isinstance(task, Needle)
