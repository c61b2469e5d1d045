"""The command `labkit`: train, evaluate, haystack, stream, long-run, speed, list, contrast, figures, check, doctor.

What goes wrong with what was typed, or with a file, is told in a sentence, and the exit code is 2.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

# Heavy imports (torch) wait until a command needs them: `labkit --help` should answer at once.

NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")

app = typer.Typer(
    help="Train language models that sleep, and see what they know afterwards.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class ManyValues(TyperCommand):
    """A command whose options may take several numbers: `--passes 0 1` is `--passes 0 --passes 1`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Repeat the option in front of every number after its first; everything else stays as it is."""
        many = {name for param in self.params if getattr(param, "multiple", False) for name in param.opts}
        spread: list[str] = []
        option: str | None = None  # the option whose numbers are being read
        first = False
        for arg in args:
            name = arg.split("=", 1)[0]
            if name in many:
                option, first = name, "=" not in arg
            elif first:
                first = False
            elif option is not None and NUMBER.fullmatch(arg):
                spread.append(option)
            else:
                option = None
            spread.append(arg)
        return super().parse_args(ctx, spread)


def _refuse(sentence: object) -> NoReturn:
    typer.echo(f"labkit: {sentence}", err=True)
    raise typer.Exit(2)


def _in_sentences(command: Callable[..., None]) -> Callable[..., None]:
    """Tell the mistakes that the lab's own checks raise without a traceback."""

    @functools.wraps(command)
    def told(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError, ArithmeticError, ImportError) as mistake:
            _refuse(mistake)

    return told


def _or_why_not(line: Callable[..., str], *args: Any) -> str:
    """A line of a list; a damaged file gets its sentence there and does not hide the others."""
    try:
        return line(*args)
    except (ValueError, OSError) as mistake:
        return str(mistake)


Seeds = Annotated[
    list[int] | None, typer.Option("--seed", min=0, max=999_999, help="One seed or several.", show_default=False)
]
Device = Annotated[str, typer.Option(help="Where models run, as torch calls it: cpu, cuda.")]
Folder = Annotated[Path | None, typer.Option(help="Folder of checkpoints.", show_default="data/checkpoints")]


@app.command(cls=ManyValues)
@_in_sentences
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe in data/recipes, or path of a .toml.")],
    seed: Seeds = None,
    device: Device = "cpu",
    folder: Folder = None,
    resume: Annotated[
        bool, typer.Option(help="Leave finished seeds, and go on from where a stopped one was last saved.")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train the seeds of a recipe, one after another. Stopped at any time, the same command goes on."""
    from labkit.recipes import load_recipe
    from labkit.train import train as run

    loaded = load_recipe(recipe)
    for one in seed or loaded.seeds:
        try:
            path = run(loaded, one, folder, device=device, resume=resume, progress=not quiet)
        except KeyboardInterrupt:
            typer.echo(f"\nStopped in seed {one}. The same command goes on from the last saved step.", err=True)
            raise typer.Exit(130) from None
        typer.echo(f"{loaded.name}, seed {one}: {path}")


@app.command(cls=ManyValues)
@_in_sentences
def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint, as `labkit list` shows it.")],
    passes: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Sleep passes to try, such as 0 1 2.", show_default="0 1 2 4 8 16"),
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="Unseen instances for each seed.")] = 2000,
    seed: Seeds = None,
    all_seeds: Annotated[bool, typer.Option("--all-seeds", help="Every seed there is.")] = False,
    exam: Annotated[
        int | None, typer.Option(min=0, max=999_999, help="Which instances: a number.", show_default="the seed")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Instances slept on at a time.")] = 250,
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write, ending in .csv.", show_default="data/results/...")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also replace a table that holds more.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Accuracy by depth after N sleep passes, on unseen instances: printed, and stored as a table."""
    from labkit import results
    from labkit.checkpoints import list_checkpoints, load, task_of
    from labkit.evaluate import PASSES
    from labkit.evaluate import evaluate as run

    known = [s for name, s in list_checkpoints(folder) if name == checkpoint]
    if seed and all_seeds:
        raise ValueError("--seed and --all-seeds contradict each other; give one of them.")
    seeds = known if all_seeds and known else sorted(set(seed or [0]))
    # all weights are looked at before the first of them is put to work
    models = [load(checkpoint, s, folder) for s in seeds]
    wanted = passes or list(PASSES)
    name = checkpoint if seeds == known else f"{checkpoint}-s{'-'.join(map(str, seeds))}"
    path = _table(name, folder, out)
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
            model,
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
@_in_sentences
def haystack(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint trained on needles.")],
    length: Annotated[
        list[int] | None, typer.Option(min=3, help="Tokens of a haystack.", show_default="1024 ... 16384")
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(help="passkey, number, word.", show_default="all three")] = None,
    needles: Annotated[int, typer.Option(min=1, help="Facts in a haystack, each asked alone.")] = 1,
    no_writing: Annotated[bool, typer.Option("--no-writing", help="Control: memories are never written.")] = False,
    passes: Annotated[int, typer.Option(min=0, help="Sleep passes for every window.")] = 1,
    n: Annotated[int, typer.Option(min=1, help="Haystacks for each seed, variant and length.")] = 100,
    seed: Seeds = None,
    device: Device = "cpu",
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write or add to.", show_default="data/results/<name>-haystack.csv")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Recall of needles in ever longer haystacks, by every seed there is: printed, and stored as a table."""
    from labkit import haystack as hay

    seeds, path = _seeds_and_path(checkpoint, seed, folder, out, "haystack")
    rows = hay.haystack(
        checkpoint, seeds, lengths=length or hay.LENGTHS, variants=variant or tuple(hay.HAYS), needles=needles,
        writes=not no_writing, passes=passes, n=n, device=device, folder=folder, progress=not quiet,
    )  # fmt: skip
    hay.store(rows, path)
    typer.echo(f"{hay.report(rows)}\nStored in {path}.")


@app.command(cls=ManyValues)
@_in_sentences
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
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Recall of facts in a stream of documents, by their age, from memory or from an archive."""
    from labkit import stream as streams
    from labkit.results import write_table

    kind = "archive" if archive else "stream"
    seeds, path = _seeds_and_path(checkpoint, seed, folder, out, kind)
    rows = streams.stream(
        checkpoint, seeds, n=n, passes=passes, archive=archive, device=device, folder=folder, progress=not quiet
    )
    write_table(path, rows)
    shown = rows[rows["seed"] == rows["seed"].iloc[-1]]
    typer.echo(f"{shown[['age', 'n', 'accuracy', 'low', 'high']].round(3).to_string(index=False)}\nStored in {path}.")


@app.command("long-run", cls=ManyValues)
@_in_sentences
def long_run(
    checkpoint: Annotated[str, typer.Argument(help="Name of a checkpoint trained on needles.")],
    seed: Annotated[int, typer.Option(min=0, max=999_999, help="Which seed.")] = 0,
    tokens: Annotated[int, typer.Option(min=1, help="How many tokens one session reads.")] = 2_097_152,
    passes: Annotated[int, typer.Option(min=0, help="Sleep passes for every window.")] = 1,
    folder: Folder = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write.", show_default="data/results/<name>-long-run.csv")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Two million tokens through one session: size of its state, memory, pace, and what it knows of the start."""
    from labkit import long_run as runs
    from labkit.results import write_table

    _, path = _seeds_and_path(checkpoint, [seed], folder, out, "long-run")
    rows = runs.long_run(checkpoint, seed, tokens=tokens, passes=passes, folder=folder, progress=not quiet)
    write_table(path, rows)
    shown = ["tokens", "start_value", "fresh_value", "state_bytes", "resident_bytes", "tokens_per_second"]
    typer.echo(f"{rows[shown].round(3).to_string(index=False)}\nStored in {path}.")


def _seeds_and_path(
    checkpoint: str, seeds: list[int] | None, folder: Path | None, out: Path | None, kind: str
) -> tuple[list[int], Path]:
    """The seeds asked for, or all there are, and where their table goes."""
    from labkit.checkpoints import list_checkpoints

    known = [s for name, s in list_checkpoints(folder) if name == checkpoint]
    return sorted(set(seeds or known or [0])), _table(f"{checkpoint}-{kind}", folder, out)


def _table(name: str, folder: Path | None, out: Path | None) -> Path:
    """Where a table of results goes: to `out`, or else into data/results."""
    from labkit.files import data_dir

    if folder is not None and out is None:
        raise ValueError("Checkpoints of another --folder have no place in data/results; name a table with --out.")
    if out is not None and out.suffix != ".csv":
        raise ValueError(f"--out must end in .csv, but it is {out}.")
    return out or data_dir() / "results" / f"{name}.csv"


@app.command(cls=ManyValues)
@_in_sentences
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


@app.command("list")
@_in_sentences
def list_() -> None:
    """Recipes that can be trained, and checkpoints that can be evaluated."""
    from labkit.checkpoints import list_checkpoints, read_card
    from labkit.recipes import list_recipes, load_recipe

    def recipe(name: str) -> str:
        return load_recipe(name).description

    def checkpoint(name: str, seed: int) -> str:
        card = read_card(name, seed)
        return f"{card['parameters']:,} parameters, {card.get('steps', 0):,} steps"

    typer.echo("Recipes")
    for name in list_recipes():
        typer.echo(f"  {name:<20} {_or_why_not(recipe, name)}")
    typer.echo("Checkpoints")
    for name, seed in list_checkpoints():
        typer.echo(f"  {name:<20} seed {seed:<3} {_or_why_not(checkpoint, name, seed)}")


@app.command()
@_in_sentences
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
@_in_sentences
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


@app.command()
@_in_sentences
def check() -> None:
    """Measure every operator against its float64 reference; exit code 1 when one is worse than promised."""
    from labkit import checks, checks_titans

    measured = {
        "Gated delta rule": (checks.gated_delta_errors(), checks.LIMITS),
        "Neural memory": (checks_titans.neural_memory_errors(), checks_titans.LIMITS),
    }
    for name, (rows, limits) in measured.items():
        typer.echo("\n".join([name, *(f"  {line}" for line in checks.summary(rows, limits))]))
    typer.echo("\n".join(checks_titans.chunk_distances()))
    if not all(checks.kept(*told) for told in measured.values()):
        raise typer.Exit(1)


@app.command()
@_in_sentences
def doctor() -> None:
    """Say whether this installation is whole; exit code 1 when it is not."""
    from labkit.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(f"{'well ' if finding.well else 'WRONG'}  {finding.sentence}")
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
