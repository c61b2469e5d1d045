"""What the commands share: the app, options, mistakes told in sentences, and where tables go."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from labkit.tasks import Task

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


def in_sentences(command: Callable[..., None]) -> Callable[..., None]:
    """Tell the mistakes that the lab's own checks raise without a traceback."""

    @functools.wraps(command)
    def told(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError, ArithmeticError, ImportError) as mistake:
            _refuse(mistake)

    return told


def seed_option(without: str) -> Any:
    """The option --seed, whose help says what is taken without it."""
    return typer.Option("--seed", min=0, max=999_999, help="One seed or several.", show_default=without)


Seeds = Annotated[list[int] | None, seed_option("all there are")]
Device = Annotated[str, typer.Option(help="Where models run, as torch calls it: cpu, cuda.")]
Passes = Annotated[int, typer.Option(min=0, help="Sleep passes for every window.")]
NoWriting = Annotated[bool, typer.Option("--no-writing", help="Control: memories are never written.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
Folder = Annotated[Path | None, typer.Option(help="Folder of checkpoints.", show_default="data/checkpoints")]


def seeds_and_path(
    checkpoint: str,
    seeds: list[int] | None,
    folder: Path | None,
    out: Path | None,
    kind: str,
    fits: Callable[[Task], bool],
) -> tuple[list[int], Path]:
    """The seeds asked for, or all there are, and where their table goes.

    `fits` says which tasks the command can measure: for a name that is none the nearest of those is told, or all.
    """
    from labkit.checkpoints import list_checkpoints, names_of
    from labkit.files import nearest_or_all

    path = table_path(f"{checkpoint}-{kind}", folder, out)
    known = [s for name, s in list_checkpoints(folder) if name == checkpoint]
    if not known and (fitting := names_of(fits, folder)):
        raise FileNotFoundError(
            f"There is no checkpoint {checkpoint!r} that this command measures.{nearest_or_all(checkpoint, fitting)}"
        )
    return sorted(set(seeds or known or [0])), path


def table_path(name: str, folder: Path | None, out: Path | None) -> Path:
    """Where a table of results goes: to `out`, or else into data/results."""
    from labkit.files import data_dir

    if folder is not None and out is None:
        raise ValueError("Checkpoints of another --folder have no place in data/results; name a table with --out.")
    if out is not None and out.suffix != ".csv":
        raise ValueError(f"--out must end in .csv, but it is {out}.")
    return out or data_dir() / "results" / f"{name}.csv"
