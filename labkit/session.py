"""Sessions: what one conversation, one reader, one stream has taught a model, and nobody else's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labkit.models import SleepLM, SleepState
from labkit.models.state import seal, unseal, write_sealed
from labkit.store import Entry, Store

__all__ = ["Session", "fingerprint"]

FORMAT = "labkit-session-1"


def fingerprint(model: SleepLM) -> str:
    """SHA-256 over a model's settings and weights: two models have the same one only if they are the same."""
    found = hashlib.sha256(repr(sorted(model.config.as_dict().items())).encode())
    for name, weight in sorted(model.state_dict().items()):
        found.update(repr((name, weight.dtype, tuple(weight.shape))).encode())
        found.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


class Session:
    """A model's memory of one stream of tokens.

    What the session learns is in `state`, a value that no other session holds; the model is only read. It ends with
    the session, unless it is saved or promoted into a `Store`.

    Args:
        model: any of the lab's language models.
        passes: N, for every sleep.
        state: to begin with; by default nothing was read.

    Attributes:
        state: what is remembered of all windows that were slept on.
        pending: tokens ``[<= window]`` that were observed since the last sleep.
        read: tokens observed so far; sleeps: windows slept on.
        parent: hash and number of the store's entry that the session began from or was last promoted as, or None.
    """

    def __init__(self, model: SleepLM, passes: int = 4, *, state: SleepState | None = None) -> None:
        _whole("passes", passes)
        _of_kind("model", model, SleepLM)
        state = model.init_state(1) if state is None else state
        if state.batch_size != 1:
            raise ValueError(f"A session is about one stream, but this state is for {state.batch_size} sequences.")
        self.model, self.passes = model, passes
        self.state = state
        self.pending = torch.empty(0, dtype=torch.int64)
        self.read, self.sleeps = 0, 0
        self.parent: tuple[str, int] | None = None

    def __repr__(self) -> str:
        told = f"passes={self.passes}, read={self.read}, sleeps={self.sleeps}, pending={len(self.pending)}"
        return f"Session({told})"

    def observe(self, tokens: Tensor | list[int]) -> None:
        """Take in tokens ``[T]``; whenever a window is full, sleep on it. How tokens are split over calls is the same.

        Raises TypeError or ValueError, in a sentence, for what are no tokens of the model; the session is then as it
        was.
        """
        tokens = torch.cat([self.pending, self._tokens(tokens)])
        state, window, slept = self.state, self.model.config.window, 0
        while len(tokens) - slept >= window:
            state = self._slept(tokens[slept : slept + window], state, self.passes)
            slept += window
        self.read += len(tokens) - len(self.pending)
        self.sleeps += slept // window
        self.state, self.pending = state, tokens[slept:].clone()

    def sleep(self, passes: int | None = None) -> None:
        """Sleep now on what is pending, `passes` times (by default the session's N); nothing pending, nothing slept."""
        passes = self.passes if passes is None else passes
        _whole("passes", passes)
        if len(self.pending):
            self.state = self._slept(self.pending, self.state, passes)
            self.pending, self.sleeps = self.pending[:0], self.sleeps + 1

    def ask(self, tokens: Tensor | list[int]) -> Tensor:
        """Logits ``[T, vocab]`` for a question of T tokens, asked of the present state; it leaves no trace.

        The answer is what follows the last token: ``session.ask(task.encode_question(...))[-1].argmax()``.
        What is pending stands in front of the question, as what was just read and not yet slept on.
        """
        tokens = self._tokens(tokens)
        with torch.no_grad():
            logits, _ = self.model.wake(torch.cat([self.pending, tokens])[None].to(self._device), self.state)
        return logits[0, len(self.pending) :]

    def fork(self) -> Session:
        """Another session that remembers the same and goes its own way."""
        other = Session(self.model, self.passes, state=self.state)
        other.pending, other.read, other.sleeps, other.parent = self.pending, self.read, self.sleeps, self.parent
        return other

    def save(self, path: str | Path) -> None:
        """Write the session into a file, beside `path` first and then in its place.

        Raises ValueError for a memory with NaN or infinity in it, and leaves the file that is there.
        """
        write_sealed(Path(path), self._sealed())

    @staticmethod
    def load(path: str | Path, model: SleepLM) -> Session:
        """Go on with a saved session.

        Raises FileNotFoundError or ValueError, in a sentence, when there is no such file, it is cut short or was
        changed, or it was made with another model.
        """
        _of_kind("model", model, SleepLM)
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no session file {path}; save one with session.save(path).")
        return _opened(path.read_bytes(), str(path), model)

    def promote(self, store: Store, note: str = "") -> Entry:
        """Keep what this session remembers in a long-term store; later sessions may start from it.

        What is pending is slept on first, in the copy that is kept; this session itself goes on as it was. The entry
        names the one that the memory grew out of as its parent, if that is in the same store.
        """
        _of_kind("store", store, Store)
        kept = self.fork()
        kept.sleep()
        provenance: dict[str, Any] = {"passes": self.passes, "tokens": kept.read, "windows": kept.sleeps}
        parent = None
        if self.parent is not None:
            digest, number = self.parent
            if store.holds(number, digest):
                parent = number
            else:
                provenance["grew out of"] = f"memory {digest} of another store"
        entry = store.promote(
            kept._sealed(), model=fingerprint(self.model), note=note, parent=parent, provenance=provenance
        )
        assert entry.memory is not None
        self.parent = (entry.memory, entry.number)
        return entry

    @staticmethod
    def start(model: SleepLM, store: Store, entry: int | None = None, *, passes: int | None = None) -> Session:
        """A new session that remembers what a store holds, or held at an entry.

        Args:
            passes: N of the new session; by default that of the one that was promoted.

        Raises ValueError, in a sentence, when the store holds nothing, the memory was made with another model, or its
        file is damaged.
        """
        _of_kind("store", store, Store)
        found, data = store.read(entry)
        session = _opened(data, f"Entry {found.number} of {store.folder}", model)
        assert found.memory is not None
        session.parent = (found.memory, found.number)
        if passes is not None:
            _whole("passes", passes)
            session.passes = passes
        return session

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _slept(self, tokens: Tensor, state: SleepState, passes: int) -> SleepState:
        with torch.no_grad():
            return self.model.sleep(tokens[None].to(self._device), state, passes)

    def _tokens(self, tokens: Any) -> Tensor:
        """Tokens as int64 ``[T]``, looked at before anything is done with them."""
        try:
            found = torch.as_tensor(tokens if len(tokens) else torch.empty(0, dtype=torch.int64))
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"Tokens are whole numbers in a list or a tensor, but these are {tokens!r}.") from error
        whole = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
        if found.ndim != 1 or found.dtype not in whole:
            raise TypeError(
                f"Tokens are whole numbers of the shape [T], but these are {found.dtype} of shape {list(found.shape)}."
            )
        vocab = self.model.config.vocab
        if found.numel() and (int(found.min()) < 0 or int(found.max()) >= vocab):
            wrong = int(found[(found < 0) | (found >= vocab)][0])
            raise ValueError(f"Token {wrong} is not in the vocabulary of {vocab} ids, 0 to {vocab - 1}.")
        return found.to("cpu", torch.int64)

    def _sealed(self) -> bytes:
        tensors, header = self.state.parts()
        told = {"passes": self.passes, "read": self.read, "sleeps": self.sleeps, "parent": self.parent}
        header |= {name: json.dumps(value) for name, value in told.items()} | {"model": fingerprint(self.model)}
        return seal({**tensors, "pending": self.pending}, header, FORMAT, "The session")


def _opened(data: bytes, where: str, model: SleepLM) -> Session:
    tensors, header = unseal(data, FORMAT, where, "session")
    if header.get("model") != fingerprint(model):
        raise ValueError(
            f"{where} was made with another model: its weights or settings are not those given. Load the one it was "
            "made with."
        )
    state = SleepState.from_parts(tensors, header).to(next(model.parameters()).device)
    told = {name: json.loads(header[name]) for name in ("passes", "read", "sleeps", "parent")}
    session = Session(model, told["passes"], state=state)
    session.pending, session.read, session.sleeps = tensors["pending"], told["read"], told["sleeps"]
    session.parent = tuple(told["parent"]) if told["parent"] else None
    return session


def _of_kind(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, but it is {value!r}.")


def _whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number of at least 0, but it is {value!r}.")
    if value < 0:
        raise ValueError(f"{name} must be at least 0, but it is {value}.")
