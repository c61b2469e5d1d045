"""The sleeping hybrid (arXiv 2605.26099): attention over a window, fast weights that outlive it.

Sleep reads one window N times. Each pass starts from the fast weights the last one left, and from its hidden states;
then the hidden states and the key-value cache are dropped, and the fast weights alone cross into what comes next.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.memory import GatedDelta, NeuralMemory, associate
from labkit.models.config import TITANS, SleepConfig
from labkit.models.layers import Attention, SwiGLU
from labkit.models.state import Memories, SleepState
from labkit.models.titans import Titans


class Output(NamedTuple):
    """What `SleepLM.forward` returns: the loss or None, logits of the tokens after the context, the final state."""

    loss: Tensor | None
    logits: Tensor
    state: SleepState


class Block(nn.Module):
    """A mixer over time (attention, a memory, or Titans' union of both) and one over channels, normalised and added."""

    def __init__(self, kind: str, config: SleepConfig) -> None:
        super().__init__()
        assert config.key_dim is not None and config.value_dim is not None
        self.kind = kind
        self.mixer: Attention | GatedDelta | Titans
        if kind == "attention":
            reach = config.window if config.eviction == "sliding" else None
            self.mixer = Attention(config.dim, config.heads, reach, config.attention_conv)
        elif kind in TITANS:
            self.mixer = Titans(kind, config)
        else:
            self.mixer = GatedDelta(
                config.dim, config.heads, config.key_dim, config.value_dim, config.conv, conv_gates=config.conv_gates
            )
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)
        self.mlp_norm = nn.RMSNorm(config.dim, eps=1e-6)
        self.mlp = SwiGLU(config.dim, int(config.mlp_ratio * config.dim))
        self.holds = [len(several) for several in self.init_state(0)]

    def init_state(self, batch_size: int) -> Memories:
        """This block's part of an empty state."""
        if isinstance(self.mixer, Attention):
            cache, tails = self.mixer.init_state(batch_size)
            return Memories((), (cache,), tails)
        if isinstance(self.mixer, GatedDelta):
            fast, tail = self.mixer.init_state(batch_size)
            return Memories((fast,), (), (tail,))
        return self.mixer.init_state(batch_size)

    def forward(self, h: Tensor, before: Memories, position: int) -> tuple[Tensor, Memories]:
        """``h [B, T, dim]`` and this block's part of a state; both anew."""
        x = self.norm(h)
        if isinstance(self.mixer, Attention):
            y, cache, tails = self.mixer(x, before.cache[0], before.tails)
            after = Memories((), (cache,), tails)
        elif isinstance(self.mixer, GatedDelta):
            y, fast, tail = self.mixer(x, before.fast[0], before.tails[0])
            after = Memories((fast,), (), (tail,))
        else:
            y, after = self.mixer(x, before, position)
        h = h + y
        return h + self.mlp(self.mlp_norm(h)), after


class SleepLM(nn.Module):
    """A language model that sleeps, and by its configuration also each rival it is measured against.

    The state is an argument and a result, never an attribute. ``eviction="keep"`` with attention blocks only is the
    transformer that keeps its cache; "sliding" with attention only is the sliding-window transformer; a larger
    ``repeat`` read with one pass is the deeper hybrid.
    """

    def __init__(self, config: SleepConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.dim)
        self.blocks = nn.ModuleList(Block(kind, config) for kind in config.blocks)
        self.between = nn.RMSNorm(config.dim, eps=1e-6)  # on the hidden states that re-enter
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)
        self.head = nn.Linear(config.dim, config.vocab, bias=False)
        self.apply(_initialise)
        for module in self.modules():
            if isinstance(module, NeuralMemory) or (isinstance(module, GatedDelta) and config.associative):
                associate(module.query, module.key, module.taps)  # once more: all layers were drawn anew
            elif isinstance(module, Attention) and module.taps is not None and config.associative:
                associate(module.query, module.key, module.taps)

    # ---------------------------------------------------------------- the face every model of the lab has

    def init_state(self, batch_size: int) -> SleepState:
        """The state before anything was read: empty memories, an empty cache."""
        _whole_number("batch_size", batch_size, at_least=0)
        memories = self._empty(batch_size)
        return SleepState(*memories, position=0, batch_size=batch_size)

    def sleep(self, tokens: Tensor, state: SleepState, passes: int) -> SleepState:
        """Read one window `passes` times, keep the fast weights, evict the rest (2605.26099, algorithm 1).

        Args:
            tokens: ``[B, T]`` ids, T at most ``config.window``.
            state: what was known before; it is left as it was.
            passes: N. 1 leaves the fast weights that `wake` would leave; 0 does not read the window at all, keeps
                the fast weights and clears everything else.

        Returns:
            The state to wake with. "hard" eviction leaves the fast weights alone, "sliding" also the last pass's
            newest L - 1 keys and values and the convolution tails, "keep" the whole cache.

        Raises:
            TypeError, ValueError: a sentence, for a wrong dtype, shape, token id, state or number of passes.
        """
        final: Memories | None = None
        for final in self._passes(tokens, state, passes):  # noqa: B007
            pass
        return self._cleared(state) if final is None else self._evict(final, state, tokens.shape[1])

    def sleep_steps(self, tokens: Tensor, state: SleepState, passes: int) -> Iterator[SleepState]:
        """The states that ``sleep(tokens, state, n)`` would leave, for n = 1, 2, ..., `passes`, in one go.

        Args and errors are those of `sleep`; the errors come with the first state that is asked for.
        """
        for memories in self._passes(tokens, state, passes):
            yield self._evict(memories, state, tokens.shape[1])

    def wake(self, tokens: Tensor, state: SleepState, loops: int = 0) -> tuple[Tensor, SleepState]:
        """One ordinary pass over ``tokens [B, T]``, which also writes the fast weights.

        Args:
            loops: R further passes over the same tokens before anything is answered. Each begins from the hidden states
                of the last, as in sleep, but from the memories in `state`: fast weights of the last pass have seen the
                tokens that are still to be predicted.

        Returns:
            Logits ``[B, T, vocab]``, where ``logits[:, t]`` predicts what follows token t, and the state after the
            last token, of the last pass. Without loops waking with a, then with b, equals waking with a and b joined.
        """
        _whole_number("loops", loops, at_least=0)
        self._check(tokens, state)
        before = Memories(state.fast, state.cache, state.tails)
        embedded = h = self.embed(tokens)
        for loop in range(loops + 1):
            if loop and self.config.reinject:
                h = self.between(h) + embedded
            h, memories = self.read(h, before, self._phase(state))
        if self.config.eviction == "sliding":
            memories = memories._replace(cache=self._newest(memories.cache))
        awake = SleepState(*memories, position=state.position + tokens.shape[1], batch_size=state.batch_size)
        return self.head(self.norm(h)), awake

    def forward(
        self, tokens: Tensor, *, context: int = 0, labels: Tensor | None = None, passes: int = 1, loops: int = 0
    ) -> Output:
        """Sleep on the first `context` tokens in windows, then wake on the rest.

        Args:
            tokens: ``[B, T]``.
            context: C; windows of ``config.window`` tokens are slept on one after another, the last may be shorter.
            labels: ``[B, T]``, not shifted: ``labels[:, t]`` is the target of the logits at t; -100 asks nothing, and
                neither does a label in the context, which has no logits.
            passes: N for every window.
            loops: R of `wake`.

        Returns:
            `Output` with the mean cross-entropy over the asked positions (None without labels), the logits
            ``[B, T - C, vocab]`` and the state.
        """
        _whole_number("context", context, at_least=0)
        _whole_number("passes", passes, at_least=0)
        self._check_tokens(tokens)
        if context > tokens.shape[1]:
            raise ValueError(f"context={context} is more than the {tokens.shape[1]} tokens that came.")
        if labels is not None:
            self._check_labels(labels, tokens, context)
        state = self.init_state(tokens.shape[0])
        for first in range(0, context, self.config.window):
            last = min(first + self.config.window, context)
            state = self.sleep(tokens[:, first:last], state, passes)
        logits, state = self.wake(tokens[:, context:], state, loops)
        loss = None
        if labels is not None:
            asked = labels[:, context:]
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))  # whatever precision the rest is in
            loss = F.cross_entropy(wide.flatten(0, 1), asked.flatten(), ignore_index=-100)
        return Output(loss, logits, state)

    def with_config(self, **changes: Any) -> SleepLM:
        """The same weights under another habit of sleeping (``carry``, ``reinject``); nothing is copied."""
        fixed = set(changes) - {"carry", "reinject"}
        if fixed:
            raise ValueError(
                f"{sorted(fixed)[0]} cannot be changed on trained weights; only carry and reinject can."
            )
        other = copy.copy(self)
        other.config = dataclasses.replace(self.config, **changes)
        return other

    # ---------------------------------------------------------------- the work

    def _passes(self, tokens: Tensor, state: SleepState, passes: int) -> Iterator[Memories]:
        """What is remembered after each of `passes` passes over one window, before anything is evicted."""
        _whole_number("passes", passes, at_least=0)
        self._check(tokens, state)
        if tokens.shape[1] > self.config.window:
            raise ValueError(
                f"One sleep reads at most window={self.config.window} tokens, but {tokens.shape[1]} came; "
                "split them, or pass them through the model's forward with context=."
            )
        embedded = self.embed(tokens)
        h, fast = embedded, state.fast
        for n in range(passes):
            if n > 0 and self.config.carry == "state":
                h = embedded
            elif n > 0 and self.config.reinject:
                h = self.between(h) + embedded
            if self.config.carry == "hidden":
                fast = state.fast
            tails = self._renewed(fast, state.tails) if n > 0 else state.tails
            h, memories = self.read(h, Memories(fast, state.cache, tails), self._phase(state))
            fast = memories.fast
            yield memories

    def read(self, h: Tensor, memories: Memories, phase: int = 0) -> tuple[Tensor, Memories]:
        """One pass of all blocks over ``h [B, T, dim]``: what sleep repeats and wake does once.

        `phase` is how many tokens of a segment came before; attention and gated delta blocks do without it.
        """
        fast, cache, tails = (iter(memories.fast), iter(memories.cache), iter(memories.tails))
        left: list[Memories] = []
        for block in self._blocks:
            own = Memories(
                tuple(islice(fast, block.holds[0])),
                tuple(islice(cache, block.holds[1])),
                tuple(islice(tails, block.holds[2])),
            )
            h, after = block(h, own, phase)
            left.append(after)
        return h, _joined(left)

    @property
    def _blocks(self) -> list[Block]:
        """The blocks, first to last, as what they are and not as any modules."""
        return cast(list[Block], self.blocks)

    def _empty(self, batch_size: int) -> Memories:
        return _joined([block.init_state(batch_size) for block in self._blocks])

    def _renewed(self, fast: tuple[Tensor, ...], tails: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Tails for a pass that begins with other fast weights than these tails were left with."""
        weights, old = iter(fast), iter(tails)
        out: list[Tensor] = []
        for block in self._blocks:
            own, tail = tuple(islice(weights, block.holds[0])), tuple(islice(old, block.holds[2]))
            out += block.mixer.renewed(own, tail) if isinstance(block.mixer, Titans) else tail
        return tuple(out)

    def _phase(self, state: SleepState) -> int:
        """How many tokens of the open segment were read; 0 for models without segments, which compile only once so."""
        assert self.config.segment is not None
        return state.position % self.config.segment if set(self.config.blocks) & set(TITANS) else 0

    def _cleared(self, state: SleepState) -> SleepState:
        empty = self._empty(state.batch_size)
        return SleepState(state.fast, empty.cache, empty.tails, position=0, batch_size=state.batch_size)

    def _evict(self, memories: Memories, before: SleepState, length: int) -> SleepState:
        if self.config.eviction == "hard":
            return self._cleared(SleepState(*memories, position=0, batch_size=before.batch_size))
        if self.config.eviction == "sliding":
            memories = memories._replace(cache=self._newest(memories.cache))
        return SleepState(*memories, position=before.position + length, batch_size=before.batch_size)

    def _newest(self, cache: tuple[tuple[Tensor, Tensor], ...]) -> tuple[tuple[Tensor, Tensor], ...]:
        """What a sliding window of L tokens still sees when the next token comes: the last L - 1 positions."""
        return tuple(
            (k[:, max(0, k.shape[1] - self.config.window + 1) :], v[:, max(0, v.shape[1] - self.config.window + 1) :])
            for k, v in cache
        )

    def _check(self, tokens: Tensor, state: SleepState) -> None:
        self._check_tokens(tokens)
        self._check_state(state)
        if tokens.shape[0] != state.batch_size:
            raise ValueError(f"The state is for {state.batch_size} sequences, but {tokens.shape[0]} came.")

    def _check_tokens(self, tokens: Tensor) -> None:
        if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
            kind = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
            raise TypeError(f"tokens must be a tensor of whole numbers (torch.int64), but they are {kind}.")
        if tokens.ndim != 2:
            raise ValueError(f"tokens must have shape [B, T], but their shape is {list(tokens.shape)}.")
        if not tokens.numel() or _recorded(tokens):
            return
        if int(tokens.min()) < 0 or int(tokens.max()) >= self.config.vocab:
            wrong = tokens[(tokens < 0) | (tokens >= self.config.vocab)][0]
            raise ValueError(
                f"Token {int(wrong)} is not in the vocabulary of {self.config.vocab} ids, 0 to "
                f"{self.config.vocab - 1}."
            )

    def _check_labels(self, labels: Tensor, tokens: Tensor, context: int) -> None:
        if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
            kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
            raise TypeError(f"labels must be a tensor of torch.int64, but they are {kind}.")
        if labels.shape != tokens.shape:
            raise ValueError(
                f"labels must have the shape of tokens, {list(tokens.shape)}, but have {list(labels.shape)}."
            )
        if _recorded(labels):
            return
        asked = labels[:, context:][labels[:, context:] != -100]
        if not asked.numel():
            raise ValueError(f"labels ask nothing after the {context} tokens of context, so there is no loss.")
        if int(asked.min()) < 0 or int(asked.max()) >= self.config.vocab:
            wrong = asked[(asked < 0) | (asked >= self.config.vocab)][0]
            raise ValueError(
                f"Label {int(wrong)} is neither -100 nor in the vocabulary of {self.config.vocab} ids, 0 to "
                f"{self.config.vocab - 1}."
            )

    def _check_state(self, state: SleepState) -> None:
        if not isinstance(state, SleepState):
            raise TypeError(
                f"state must be a SleepState, as init_state, sleep and wake return it, but it is a "
                f"{type(state).__name__}."
            )
        own = _layout(self._empty(0))
        for what, found in _layout(state).items():
            if found != own[what]:
                raise ValueError(
                    f"The state belongs to another model: its {what} is {found} per sequence, this model's "
                    f"{own[what]}. Use it with the model that made it, or begin with init_state."
                )
        weight = self.embed.weight
        for t in (*state.fast, *state.tails, *(t for pair in state.cache for t in pair)):
            if t.shape[0] != state.batch_size:
                raise ValueError(f"The state is for {state.batch_size} sequences, but holds {t.shape[0]}.")
            if t.device != weight.device:
                raise ValueError(f"The state is on {t.device}, the model on {weight.device}; see state.to.")
        small = [t for t in state.tails if t.ndim == 3]  # of convolutions; others are weights, kept in float32
        for t in (*small, *(t for pair in state.cache for t in pair)):
            if torch.promote_types(t.dtype, weight.dtype) != weight.dtype:
                raise ValueError(f"The state is {t.dtype}, the model {weight.dtype}; see state.to.")


def _joined(parts: list[Memories]) -> Memories:
    """The parts of all blocks, one after another."""
    return Memories(
        tuple(t for part in parts for t in part.fast),
        tuple(pair for part in parts for pair in part.cache),
        tuple(t for part in parts for t in part.tails),
    )


def _layout(memories: Memories | SleepState) -> dict[str, list[list[int]]]:
    """The shapes a model's state must have: of one sequence, and without the length of the cache."""
    return {
        "fast": [list(t.shape[1:]) for t in memories.fast],
        "cache": [list(t.shape[2:]) for pair in memories.cache for t in pair],
        "tails": [list(t.shape[1:]) for t in memories.tails],
    }


def _recorded(t: Tensor) -> bool:
    """Whether work on a GPU is being recorded for replays, when nothing is computed yet that could be looked at."""
    return t.is_cuda and torch.cuda.is_current_stream_capturing()


def _whole_number(name: str, value: object, *, at_least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, but it is {value!r} ({type(value).__name__}).")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, but it is {value}.")


def _initialise(module: nn.Module) -> None:
    """Small normal weights for embeddings, fan-in scaled ones for matrices; biases are set by their owners."""
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.5)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
