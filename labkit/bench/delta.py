"""The gated delta rule, ours and others', on the same tokens."""

from __future__ import annotations

import fnmatch
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from labkit import checks
from labkit.bench.racing import Candidate, Roof, beside_roof, race
from labkit.budget import flops_of
from labkit.kernels import gated_delta_rule
from labkit.kernels.backends import why_no_triton
from labkit.kernels.gated_delta import choose_backend, plain
from labkit.kernels.gated_delta.chunked import SHORTEST_CHUNK, WIDEST_CHUNK

RIVAL_LIMIT = 5e-2  # of kernels that keep all they work out in bfloat16: right, with fewer digits than ours
NAMES = ("q", "k", "v", "g", "beta", "initial_state")
RIVAL_CHUNKS = (16, 32)  # tried besides, since ours takes chunks of 32
SEGMENT = 64  # tokens of the reference between two kept states
LONGEST_RECURRENCE = 1024  # beyond, the token-by-token form is no candidate: it takes seconds
Form = Callable[..., tuple[Tensor, Tensor]]


def typical(batch: int, length: int, heads: int, width: int, seed: int = 0) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Inputs like those of a trained layer, in float32: unit queries and keys, decay of some percent, beta in [0, 2].

    Returns them by name, K and V both `width`, and the weights of output and state in a loss.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens, gates, state = (batch, length, heads, width), (batch, length, heads), (batch, heads, width, width)
    q, k, v = (torch.randn(tokens, generator=generator) for _ in range(3))
    g, beta = (torch.rand(gates, generator=generator) for _ in range(2))
    drawn = (normalize(q, dim=-1), normalize(k, dim=-1), v, -0.1 * g, 2 * beta, torch.randn(state, generator=generator))
    weights = [torch.randn(shape, generator=generator) for shape in (tokens, state)]
    return dict(zip(NAMES, drawn, strict=True)), weights


def reference(inputs: dict[str, Tensor], weights: Sequence[Tensor], quiet: bool = True) -> list[Tensor]:
    """Output, state and the six gradients of the float64 recurrence, segment by segment to fit in memory.

    A bar tells how far it has come, unless `quiet`: a thousand tokens take seconds.
    """
    *tokens, state = (t.double() for t in inputs.values())
    parts = list(zip(*(t.split(SEGMENT, dim=1) for t in tokens), strict=True))
    outer, grad_state = weights[0].double().split(SEGMENT, dim=1), weights[1].double()
    outputs, states = [], [state]
    bar = tqdm(total=2 * len(parts), desc="float64 reference", unit="segment", leave=False, disable=quiet or None)
    for part in parts:
        o, state = _called(gated_delta_rule, (*part, states[-1]), backend="recurrent")
        outputs.append(o)
        states.append(state)
        bar.update()
    slopes = []
    for part, start, grad_o in zip(parts[::-1], states[-2::-1], outer[::-1], strict=True):
        leaves = [t.detach().requires_grad_() for t in (*part, start)]
        with torch.enable_grad():
            found = _called(gated_delta_rule, leaves, backend="recurrent")
            *own, grad_state = torch.autograd.grad(found, leaves, (grad_o, grad_state))
        slopes.append(own)
        bar.update()
    bar.close()
    gradients = [torch.cat(each, dim=1) for each in zip(*slopes[::-1], strict=True)]
    return [torch.cat(outputs, dim=1), states[-1], *gradients, grad_state]


def candidates(
    inputs: dict[str, Tensor],
    weights: Sequence[Tensor],
    *,
    gradients: bool = True,
    chunks: Sequence[int] = (),
    only: Sequence[str] = (),
) -> tuple[list[Candidate], list[str]]:
    """Our forms and those of others that are installed and run on this device; a sentence for each that does not.

    Args:
        inputs: as of `typical`, on the device and in the dtype to be timed.
        weights: of output and state in the loss.
        gradients: whether to take gradients of all inputs too, or values only.
        chunks: further chunk sizes of the lab's own forms, beside the default; the fast one takes 16 to 32.
        only: names, or patterns of them with ``*``, of what is wanted beside our first form. Nothing means everything.

    Raises ValueError where a pattern fits no name.
    """

    named = set[str]()

    def asked_for(name: str) -> bool:
        named.add(name)
        return not only or any(fnmatch.fnmatchcase(name, pattern) for pattern in only)

    q = inputs["q"]
    own: dict[str, Form] = {"labkit": _option(), "labkit plain": _plain()}
    taken = [size for size in chunks if SHORTEST_CHUNK <= size <= WIDEST_CHUNK[torch.float32]]
    own |= {f"labkit, chunks of {size}": _option(chunk_size=size) for size in taken}
    own |= {f"labkit plain, chunks of {size}": _plain(size) for size in chunks}
    if q.shape[1] <= LONGEST_RECURRENCE:
        own["labkit recurrent"] = _option(backend="recurrent")
    if q.device.type == "cuda" and why_no_triton(q.device) is None:
        own["labkit chunked"] = _option(backend="chunked")
    own = {name: form for name, form in own.items() if asked_for(name) or name == "labkit"}
    found = [Candidate(name, _step(form, inputs, weights, gradients)) for name, form in own.items()]
    missing = []
    for name, load in _rivals(q.device):
        sized = {f"{name}, chunks of {size}": size for size in RIVAL_CHUNKS if "Triton" not in name}
        wanted = [each for each in (name, *sized) if asked_for(each)]  # unasked they take 64
        if not wanted:
            continue
        try:
            form = load()
        except ImportError as why:
            missing.append(f"{name} is not timed: {why}. pip install -e '.[bench]' installs it.")
        else:
            limit = RIVAL_LIMIT if q.dtype == torch.bfloat16 and "Triton" in name else None
            for each in wanted:
                chunks_of = functools.partial(form, chunk_size=sized[each]) if each in sized else form
                found.append(Candidate(each, _step(chunks_of, inputs, weights, gradients), own=False, limit=limit))
    for pattern in only:
        if not fnmatch.filter(named, pattern):
            raise ValueError(f"Nothing here is called {pattern!r}; there are {', '.join(sorted(named))}.")
    return found, missing


def measure(
    length: int,
    *,
    batch: int = 4,
    heads: int = 4,
    width: int = 64,
    gradients: bool = True,
    chunks: Sequence[int] = (),
    case: str = "typical",
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    repeats: int,
    threads: int,
    roof: Roof,
    only: Sequence[str] = (),
    quiet: bool = False,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Race all forms at one length: rows as of `race`, with sizes and share of the roofline; and sentences.

    They say what was not timed, and which form ours took.

    ``roofline`` is the time that `roof` allows for the operations of our chunked form, all as if in `dtype`, and for
    reading every input and writing every result once, over the time taken: one floor for all, so that it compares as
    times do. Operations are counted by `labkit.budget`. `only` is as of `candidates`.

    Raises ValueError for a case that is neither "typical" nor one of `labkit.checks.CASES`.
    """
    if case == "typical":
        inputs, weights = typical(batch, length, heads, width)
    else:
        sizes = {"batch": batch, "heads": heads, "key_dim": width, "value_dim": width}
        inputs, drawn = checks.draw(case, length, True, torch.Generator().manual_seed(0), **sizes)
        weights = list(drawn)
    # rounding the inputs is no error of a form: the reference is given what the forms are given
    inputs = {name: t.to(device, torch.float32 if name == "initial_state" else dtype) for name, t in inputs.items()}
    weights = [t.to(device) for t in weights]
    wanted = reference(inputs, weights, quiet)[: None if gradients else 2]
    racing, told = candidates(inputs, weights, gradients=gradients, chunks=chunks, only=only)
    taken = choose_backend(inputs["q"], inputs["v"])
    told.append(f"labkit takes its {taken.backend} form. {taken.why}")
    chunked = _step(_option(backend="chunked"), inputs, weights, gradients)
    flops = flops_of(chunked)
    moved = sum(t.nbytes for t in (*inputs.values(), *chunked(), *(weights if gradients else ())))
    racing = [_held_to(each, taken.backend, dtype, case) for each in racing]
    how: dict[str, Any] = {"limit": checks.LIMITS[dtype], "repeats": repeats, "threads": threads, "quiet": quiet}
    rows, refused = race(racing, wanted, title=f"{length} tokens", **how)
    shape: dict[str, Any] = {"length": length, "batch": batch, "heads": heads, "width": width, "case": case}
    shape |= {"gradients": gradients, "dtype": str(dtype).removeprefix("torch."), "device": device.type}
    return [{**shape, **row} for row in beside_roof(rows, roof, flops, moved)], told + refused


def _held_to(candidate: Candidate, taken: str, dtype: torch.dtype, case: str) -> Candidate:
    """An own form under the exceptions that `labkit.checks` makes for it in this case, the widest of them."""
    backend = {"labkit recurrent": "recurrent", "labkit": taken}.get(candidate.name, "chunked")
    own = [limit for (name, *of, _), limit in checks.OWN_LIMITS.items() if [name, *of] == [backend, dtype, case]]
    return replace(candidate, limit=max(own)) if candidate.own and own else candidate


def _step(
    form: Form, inputs: dict[str, Tensor], weights: Sequence[Tensor], gradients: bool
) -> Callable[[], list[Tensor]]:
    leaves = {name: t.detach().clone().requires_grad_(gradients) for name, t in inputs.items()}

    def run() -> list[Tensor]:
        found = form(**leaves)
        return _with_gradients(found, leaves, weights) if gradients else list(found)

    return run


def _with_gradients(
    found: tuple[Tensor, Tensor], leaves: dict[str, Tensor], weights: Sequence[Tensor]
) -> list[Tensor]:
    outer = [w.to(t.dtype) for t, w in zip(found, weights, strict=True)]
    return [*(t.detach() for t in found), *torch.autograd.grad(found, list(leaves.values()), outer)]


def _option(**options: Any) -> Form:
    return lambda **inputs: gated_delta_rule(**inputs, **options)


def _called(form: Form, parts: Sequence[Tensor], **options: Any) -> tuple[Tensor, Tensor]:
    return form(**dict(zip(NAMES, parts, strict=True)), **options)


def _plain(chunk_size: int = 64) -> Form:
    def form(**inputs: Tensor) -> tuple[Tensor, Tensor]:
        return plain.chunked_gated_delta_rule(**inputs, scale=inputs["q"].shape[-1] ** -0.5, chunk_size=chunk_size)

    return form


def _rivals(device: torch.device) -> Iterator[tuple[str, Callable[[], Form]]]:
    """The forms of other packages: a name, and a function that imports it."""

    def of_transformers() -> Form:
        from transformers.models.qwen3_next import modeling_qwen3_next

        # unwrapped: the fallback itself, also where a faster package is installed
        return _final(inspect.unwrap(modeling_qwen3_next.torch_chunk_gated_delta_rule))

    def naive() -> Form:
        from fla.ops.gated_delta_rule.naive import naive_chunk_gated_delta_rule

        return _final(naive_chunk_gated_delta_rule)

    def kernels() -> Form:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule

        return _final(chunk_gated_delta_rule)

    yield "transformers fallback", of_transformers
    yield "flash-linear-attention naive", naive
    if device.type == "cuda":
        yield "flash-linear-attention Triton", kernels


def _final(form: Callable[..., Any]) -> Form:
    """A rival by our names; all of them take K ** -0.5 for scale unasked."""

    def called(*, q: Tensor, k: Tensor, v: Tensor, **named: Any) -> tuple[Tensor, Tensor]:
        return form(q, k, v, **named, output_final_state=True)

    return called
