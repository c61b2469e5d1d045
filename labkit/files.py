"""Where the lab keeps its data, and how a file is written so that a kill loses nothing."""

from __future__ import annotations

import difflib
import os
import re
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

__all__ = ["NAME", "data_dir", "nearest", "nearest_or_all", "sync", "write_beside", "write_text"]

#: How recipes and checkpoints are called: lower-case letters and digits, joined by single hyphens.
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def data_dir() -> Path:
    """The folder with `checkpoints/`, `results/` and `recipes/`.

    It is the folder named by the environment variable LABKIT_DATA or, when that is not set, the
    repository's `data/` beside the package.

    Raises FileNotFoundError when there is no such folder.
    """
    named = os.environ.get("LABKIT_DATA")
    if named:
        folder = Path(named).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"LABKIT_DATA names {folder}, which is no folder. Create it, or unset LABKIT_DATA to use the "
                "data/ folder of the repository."
            )
        return folder
    folder = Path(__file__).resolve().parent.parent / "data"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no data folder at {folder}: labkit is not running from a clone of the repository. "
            "Set LABKIT_DATA to the data/ folder of a clone."
        )
    return folder


def write_beside(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `path`, then put it in place of `path` in one step.

    A reader sees the old file or the new one, never half of one; when `write` fails the old one stays.
    Returns `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")  # its own for every call, also in one process
    try:
        write(beside)
        sync(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def sync(path: Path) -> None:
    """Have the file on the disk before it is renamed: else a power cut could leave the new name on an empty file."""
    with open(path, "r+b") as written:  # Windows syncs only what may be written
        os.fsync(written.fileno())


def write_text(path: Path, text: str) -> Path:
    """`write_beside` for text, in UTF-8."""
    return write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def nearest(word: str, known: Collection[str]) -> str:
    """The one of `known` most like `word`, or most like it of those it is a part of, as an ending for a sentence.

    "" where none is like it.
    """
    holding = [name for name in known if word and word in name]  # "depo" is little like "depo-elastic-by-passes"
    found = difflib.get_close_matches(word, known, n=1) or difflib.get_close_matches(word, holding, n=1, cutoff=0)
    return f" The nearest known one is {found[0]!r}." if found else ""


def nearest_or_all(word: str, known: Collection[str]) -> str:
    """`nearest`, and where none is like `word` all of `known`."""
    return nearest(word, known) or (f" Known: {', '.join(known)}." if known else "")
