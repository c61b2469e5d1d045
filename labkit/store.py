"""What sessions chose to keep: a folder of memories with a history that only grows.

    store/
      memories/<sha256>          what was promoted, under the hash of its bytes
      history/00000007.json      one entry for each promotion and each revert, in the order in which they were made

An entry is written beside and then linked to the next free number, which either succeeds as a whole or not at all. So
of two processes that promote at once each gets a number of its own, and a kill at any moment leaves the entries that
were there. Nothing is ever changed or removed: a bad promotion is undone by an entry that points back.

The store knows bytes and says nothing about what is in them; it needs neither torch nor a model.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["Entry", "Store"]

FORMAT = "labkit-store-1"


@dataclass(frozen=True)
class Entry:
    """One line of a store's history.

    Attributes:
        number: its place, from 1.
        kind: "promotion", or "revert" of what was promoted last.
        memory: SHA-256 of the bytes that hold from here on; None after a revert of the first promotion.
        parent: number of the entry that the memory grew out of, None if it began with nothing.
        model: which model it is for, as the promoting session named it.
        note: why, in the words of who promoted it.
        made: date and time, UTC.
        provenance: what the promoting session told about how the memory came about.
    """

    number: int
    kind: str
    memory: str | None
    parent: int | None
    model: str
    note: str
    made: str
    provenance: dict[str, Any] = field(default_factory=dict)


class Store:
    """A store in a folder, which is made when something is first promoted; see the top of this file."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def promote(
        self,
        data: bytes,
        *,
        model: str,
        note: str = "",
        parent: int | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Keep `data` and make it what the store holds.

        Args:
            parent: number of the entry that it grew out of.
            model, note, provenance: see `Entry`.

        Raises:
            ValueError: there is no entry `parent`, or JSON cannot hold the provenance.
            OSError: the folder cannot be written.
        """
        if parent is not None:
            self.entry(parent)
        digest = hashlib.sha256(data).hexdigest()
        told = _plain({"note": note, "provenance": dict(provenance or {})})  # refused before anything is written
        _write(self._memory(digest), data)  # also where it lies already: that file may be damaged
        return self._append("promotion", digest, parent, model, told["note"], told["provenance"])

    def head(self) -> Entry | None:
        """The newest entry, or None in an empty store; its memory is what the store holds.

        Raises ValueError, in a sentence, when its file is damaged; `revert` with a number gets past it.
        """
        entries = self._numbers()
        return self.entry(entries[-1]) if entries else None

    def history(self) -> list[Entry]:
        """All entries that are whole, oldest first; `damaged` names the others."""
        return [entry for number in self._numbers() if (entry := self._if_whole(number))]

    def damaged(self) -> list[int]:
        """Numbers of the entries whose files are cut short or were changed."""
        return [number for number in self._numbers() if not self._if_whole(number)]

    def entry(self, number: int) -> Entry:
        """The entry with this number.

        Raises ValueError, in a sentence, when there is none or its file is damaged.
        """
        sound = isinstance(number, int) and not isinstance(number, bool)
        path = self._line(number) if sound else self.folder
        if not path.is_file():
            known = self._numbers()
            have = f"its entries are 1 to {known[-1]}" if known else "it is empty"
            raise ValueError(f"There is no entry {number!r} in {self.folder}; {have}.")
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told.pop("format") != FORMAT or told.pop("sha256") != _seal(told) or told["number"] != number:
                raise ValueError("its hash or its format is wrong")
            return Entry(**told)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is not a whole entry of a store ({error}). Restore it from a copy; others can still be read."
            ) from error

    def holds(self, number: int, memory: str) -> bool:
        """Whether there is an entry with this number that is whole and has this memory."""
        entry = self._if_whole(number)
        return entry is not None and entry.memory == memory

    def read(self, number: int | None = None) -> tuple[Entry, bytes]:
        """An entry, the newest if none is named, and the bytes of its memory.

        Raises ValueError, in a sentence, when there is no such entry, it holds nothing, or its file is missing, cut
        short or changed.
        """
        entry = self.head() if number is None else self.entry(number)
        if entry is None or entry.memory is None:
            raise ValueError(f"{self.folder} holds no memory; promote a session into it first.")
        path = self._memory(entry.memory)
        if not path.is_file():
            raise ValueError(f"The memory of entry {entry.number} is missing: {path}. Restore it, or revert.")
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != entry.memory:
            raise ValueError(
                f"{path}, the memory of entry {entry.number}, was cut short or changed: its hash is wrong. Restore it "
                "from a copy, or revert."
            )
        return entry, data

    def revert(self, to: int | None = None, note: str = "") -> Entry:
        """Let the store hold again what it held at entry `to`, or before its newest promotion.

        Nothing is removed: the history gets an entry of the kind "revert", and can be reverted in turn.

        Raises ValueError, in a sentence, when there is nothing to revert or no entry `to`.
        """
        note = _plain({"note": note})["note"]
        while True:
            numbers = self._numbers()
            if not numbers:
                raise ValueError(f"{self.folder} is empty, so there is nothing to revert.")
            target = self._before(numbers[-1]) if to is None else self.entry(to)
            memory, parent = (target.memory, target.number) if target else (None, None)
            model = target.model if target else self.entry(numbers[-1]).model
            told = {"reverts": numbers[-1]}
            entry = Entry(numbers[-1] + 1, "revert", memory, parent, model, note, _now(), told)
            if self._added(entry):  # else something was promoted meanwhile, and that is what is to be undone
                return entry

    def _before(self, number: int) -> Entry | None:
        """What a revert of this entry goes back to; None if it is the first."""
        head = self.entry(number)
        if head.kind != "promotion":
            raise ValueError(f"Entry {number} is a revert already; say which one to go back to, as revert(to=number).")
        earlier = [n for n in self._numbers() if n < number]
        return self.entry(earlier[-1]) if earlier else None

    def _append(
        self, kind: str, memory: str | None, parent: int | None, model: str, note: str, provenance: dict[str, Any]
    ) -> Entry:
        """Write an entry under the next free number; a number that another process took first is passed over."""
        while True:
            numbers = self._numbers()
            number = numbers[-1] + 1 if numbers else 1
            entry = Entry(number, kind, memory, parent, model, note, _now(), provenance)
            if self._added(entry):
                return entry

    def _added(self, entry: Entry) -> bool:
        """Whether the entry could be written under its number, which no other has."""
        told = asdict(entry)
        text = json.dumps({"format": FORMAT, **told, "sha256": _seal(told)}, indent=1) + "\n"
        try:
            _write(self._line(entry.number), text.encode(), new=True)
        except FileExistsError:
            return False
        return True

    def _if_whole(self, number: int) -> Entry | None:
        try:
            return self.entry(number)
        except ValueError:
            return None

    def _numbers(self) -> list[int]:
        folder = self.folder / "history"
        return sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit())

    def _line(self, number: int) -> Path:
        return self.folder / "history" / f"{number:08}.json"

    def _memory(self, digest: str) -> Path:
        return self.folder / "memories" / digest


def _seal(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(told: Mapping[str, Any]) -> dict[str, Any]:
    """The same as JSON gives it back, so that what is returned and sealed is what will be read."""
    try:
        return json.loads(json.dumps(dict(told), allow_nan=False))
    except (TypeError, ValueError) as mistake:
        raise ValueError(f"JSON cannot hold this note or provenance: {mistake}. Use plain values.") from None


def _write(path: Path, data: bytes, *, new: bool = False) -> None:
    """Put `data` under the name `path` in one step; FileExistsError if it must be new and is not.

    File and folder are on the disk when this returns, so nothing that comes later can outlive a power cut without it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            os.link(beside, path)
        else:
            os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere folders cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
