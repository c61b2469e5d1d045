"""What the lab promises about its numbers, measured: ``labkit check`` prints the table.

Relative error is ``‖a − b‖ / ‖b‖``. The reference is the token-by-token form in float64, given the very
numbers that the other form was given: inputs are drawn in float32, or rounded to bfloat16, and widened, so that
rounding them is not counted as an error of the arithmetic. While a form is measured, memory that nobody has written to
reads as NaN, so that none can rely on it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from labkit.kernels import gated_delta_rule
from labkit.kernels.backends import why_no_triton

__all__ = [
    "CASES", "CHUNKS", "LENGTHS", "LIMITS", "OWN_LIMITS", "FormError", "errors_on", "gated_delta_errors", "kept",
    "limit_of", "poisoned", "relative_error", "summary",
]  # fmt: skip

Limits = Mapping[torch.dtype, float]
Drawn = tuple[dict[str, Tensor], tuple[Tensor, Tensor]]
"""Inputs by name, and the weights of outputs and of state in a loss."""

Results = dict[str, Tensor]
"""Outputs, final state and gradients, by name."""

CPU = torch.device("cpu")
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
KERNEL_DTYPES = (torch.float32, torch.bfloat16)

LIMITS: Limits = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""The largest relative error that is promised, by the dtype of the inputs; `OWN_LIMITS` has the exceptions."""

OWN_LIMITS: Mapping[tuple[str, torch.dtype, str, str], float] = {
    ("recurrent", torch.float32, "keys in turn", "values"): 1e-4,
    ("recurrent", torch.float32, "keys in turn", "gradients"): 1e-4,
    ("chunked", torch.float32, "keys in turn", "gradients"): 3e-5,
    ("triton", torch.bfloat16, "keys in turn", "gradients"): 3e-2,
    ("triton", torch.bfloat16, "nothing written", "gradients"): 3e-2,
}
"""What is promised instead for one form, in one dtype, in one case, of values or of gradients.

With next to no decay float32 carries the rounding of every write, token by token, on to the next look-up under the same
key. The chunked form solves for the errors of a chunk in float64, and its values keep 1e-5. The gradient of g, from an
empty start, is what is left of terms that nearly cancel, so there it loses more. The Triton kernels keep the states
between chunks in bfloat16 when inputs are, and the gradient of g is made from these.
"""

CHUNKS = (1, 16, 64, 128)
KERNEL_CHUNKS = (16, 64)  # of the Triton form, whose products take 16 tokens or more
LENGTHS = (0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200, 1000)
"""Nothing, one token, and one below, at and above every chunk size; 200 and 1,000 are ragged for most of them."""

# Few lengths where each operation of a recurrence is a launch of its own, and where Triton's interpreter takes half a
# second for 20 tokens; one chunk size, because a compiler makes every kernel anew for each.
CUDA_LENGTHS = (0, 1, 65, 200)
KERNEL_PLAN: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "cuda": (CUDA_LENGTHS, (64,)),
    "cpu": ((0, 1, 20), (16,)),
}

CASES = {
    "random": "unit keys, betas from 0 to 2, slow and fast decay mixed",
    "equal keys": "one key at every token, beta 2, no decay: the memory is mirrored again and again",
    "near keys": "keys that differ by a thousandth, beta 2, no decay",
    "all forgotten": "g = -10,000 at every token",
    "some forgotten": "g = -10,000 at every fifth token or so, no decay elsewhere",
    "nothing written": "beta 0, slow decay",
    "keys in turn": "three keys again and again, beta 1, g = -1e-6",
}
"""The inputs that the forms are compared on."""


@dataclass(frozen=True)
class FormError:
    """How far one result of one form of an operator lies from the reference.

    Attributes:
        backend: the form that was measured: "chunked", "recurrent" or "triton".
        dtype: of its inputs.
        case: one of `CASES`, or of those of another operator.
        length, chunk: T, and the chunk size (0 for the recurrence).
        filled: whether there was an initial state.
        what: "o", "state", or the input whose gradient it is, as in "gradient of k".
        error: the relative error; infinite where the reference is 0 and the result is not.
    """

    backend: str
    dtype: torch.dtype
    case: str
    length: int
    chunk: int
    filled: bool
    what: str
    error: float


def relative_error(a: Tensor, b: Tensor) -> float:
    """``‖a − b‖ / ‖b‖`` in float64; 0 when both are 0, infinite when only `b` is, or `a` is not finite."""
    a, b = a.detach().double(), b.detach().double()
    difference, size = (a - b).norm().item(), b.norm().item()
    if difference == 0:
        return 0.0
    return difference / size if size > 0 and difference < float("inf") else float("inf")


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Memory that nobody has written to reads as NaN (integers: their largest) while this is open.

    PyTorch has it as a part of its deterministic mode, so that is on too. Where an operation has no deterministic form
    the usual one is taken, without the warning.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # a module that hides this setting from type checkers
    fill = settings.fill_uninitialized_memory
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic")
        torch.use_deterministic_algorithms(True, warn_only=True)
        settings.fill_uninitialized_memory = True
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
            settings.fill_uninitialized_memory = fill


def errors_on(device: torch.device, *, progress: bool = False) -> list[FormError]:
    """All that ``labkit check`` measures of the gated delta rule on one device, the Triton form where it runs."""
    name = "Gated delta rule"
    lengths: tuple[int, ...] = CUDA_LENGTHS if device.type == "cuda" else LENGTHS
    rows = gated_delta_errors(lengths=lengths, device=device, progress=name if progress else "")
    if why_no_triton(device) is None:
        lengths, chunks = KERNEL_PLAN["cuda" if device.type == "cuda" else "cpu"]
        rows += gated_delta_errors(
            (), lengths=lengths, device=device, kernels=KERNEL_DTYPES, kernel_chunks=chunks, batch=1,
            progress=f"{name}, Triton" if progress else "",
        )  # fmt: skip
    return rows


def gated_delta_errors(
    dtypes: Iterable[torch.dtype] = DTYPES,
    cases: Iterable[str] = tuple(CASES),
    lengths: Iterable[int] = LENGTHS,
    chunks: Iterable[int] = CHUNKS,
    seed: int = 0,
    *,
    device: torch.device = CPU,
    kernels: Iterable[torch.dtype] = (),
    kernel_chunks: Iterable[int] = KERNEL_CHUNKS,
    batch: int = 2,
    progress: str = "",
) -> list[FormError]:
    """Compare the forms of the gated delta rule with the float64 recurrence, gradients included.

    Args:
        dtypes: dtypes of the inputs. In float64 the recurrence is the reference itself and is left out.
        cases: names out of `CASES`.
        lengths: values of T.
        chunks: chunk sizes of the chunked form.
        seed: of the inputs.
        device: where the forms are computed; the reference always on the CPU, which is no part of what is measured.
        kernels: dtypes of the inputs of the Triton form; see `labkit.kernels.backends.why_no_triton` for where it runs.
        kernel_chunks: its chunk sizes.
        batch: rows of the inputs, each of two heads.
        progress: what a bar is called that appears after two seconds; empty for none.
    """
    dtypes, chunks, cases, kernel_chunks = tuple(dtypes), tuple(chunks), tuple(cases), tuple(kernel_chunks)
    forms = [(dtype, "chunked", chunk) for dtype in dtypes for chunk in chunks]
    forms += [(dtype, "recurrent", 0) for dtype in dtypes if dtype != torch.float64]
    forms += [(dtype, "triton", chunk) for dtype in kernels for chunk in kernel_chunks]
    roundings = sorted({rounding_of(dtype) for dtype, _, _ in forms}, key=str)
    inputs = list(product(lengths, (False, True))) if forms and cases else []
    rows: list[FormError] = []
    tokens = sum(length for length, _ in inputs) * len(cases) * len(forms)
    with tqdm(total=tokens, desc=progress, unit="token", unit_scale=True, delay=2.0, disable=not progress) as bar:
        for length, filled in inputs:
            drawn: dict[tuple[str, torch.dtype], Drawn] = {}
            for case in cases:
                exact = draw(case, length, filled, torch.Generator().manual_seed(seed), batch=batch)
                drawn |= {(case, rounding): _rounded(exact, rounding) for rounding in roundings}
            wanted = _references(drawn, batch)
            for (case, rounding), given in drawn.items():
                there = {name: t.to(device) for name, t in given[0].items()}
                weights = given[1][0].to(device), given[1][1].to(device)
                for dtype, backend, chunk in forms:
                    if rounding_of(dtype) != rounding:
                        continue
                    with poisoned():
                        found = results(there, weights, dtype, backend, max(1, chunk))
                    for what, right in wanted[case, rounding].items():
                        error = relative_error(found[what].cpu(), right)
                        rows.append(FormError(backend, dtype, case, length, chunk, filled, what, error))
                    bar.update(length)
    return rows


def rounding_of(dtype: torch.dtype) -> torch.dtype:
    """What inputs are rounded to before a form and its reference are given them."""
    return torch.bfloat16 if dtype == torch.bfloat16 else torch.float32


def _rounded(drawn: Drawn, rounding: torch.dtype) -> Drawn:
    """Inputs and weights as numbers of a shorter format; the state is kept in float32, whatever comes in."""
    inputs, weights = drawn
    inputs = {name: t if name == "initial_state" else t.to(rounding).float() for name, t in inputs.items()}
    return inputs, (weights[0].to(rounding).float(), weights[1])


def _references(drawn: Mapping[tuple[str, torch.dtype], Drawn], batch: int) -> dict[tuple[str, torch.dtype], Results]:
    """The float64 recurrence of all of them: rows of one batch, which do not meet, so that it is run once."""
    several = list(drawn.values())
    inputs = {name: torch.cat([given[name] for given, _ in several]) for name in several[0][0]}
    weights = torch.cat([outer[0] for _, outer in several]), torch.cat([outer[1] for _, outer in several])
    right = {what: t.split(batch) for what, t in results(inputs, weights, torch.float64, "recurrent", 1).items()}
    return {key: {what: parts[i] for what, parts in right.items()} for i, key in enumerate(drawn)}


def draw(
    case: str,
    length: int,
    filled: bool,
    generator: torch.Generator,
    *,
    batch: int = 2,
    heads: int = 2,
    key_dim: int = 8,
    value_dim: int = 6,
) -> Drawn:
    """Inputs of one of `CASES` in float32, and the weights of outputs and of state in a loss."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    if case not in CASES:
        raise ValueError(f"There is no case {case!r}; there are {', '.join(CASES)}.")
    gate = (batch, length, heads)
    q = torch.nn.functional.normalize(normal(*gate, key_dim), dim=-1)
    k = torch.nn.functional.normalize(normal(*gate, key_dim), dim=-1)
    g, beta = -torch.exp(4 * normal(*gate) - 3), 2 * uniform(*gate)
    if case in ("equal keys", "near keys"):
        spread = 0.0 if case == "equal keys" else 1e-3
        one = normal(batch, 1, heads, key_dim)
        k = torch.nn.functional.normalize(one + spread * normal(*gate, key_dim), dim=-1)
        g, beta = torch.zeros(gate), torch.full(gate, 2.0)
    elif case == "all forgotten":
        g = torch.full(gate, -1e4)
    elif case == "some forgotten":
        g = torch.where(uniform(*gate) < 0.2, -1e4, 0.0)
    elif case == "keys in turn":
        k = k[:, torch.arange(length) % 3]
        g, beta = torch.full(gate, -1e-6), torch.ones(gate)
    elif case == "nothing written":
        g, beta = g.clamp(min=-0.1), torch.zeros(gate)  # a state that fades below 1e-38 is 0 in float32
    inputs = {"q": q, "k": k, "v": normal(*gate, value_dim), "g": g, "beta": beta}
    if filled:
        inputs["initial_state"] = normal(batch, heads, key_dim, value_dim)
    return inputs, (normal(*gate, value_dim), normal(batch, heads, key_dim, value_dim))


def results(
    inputs: dict[str, Tensor], weights: tuple[Tensor, Tensor], dtype: torch.dtype, backend: str, chunk: int
) -> Results:
    """Output, final state and the gradient of every input, with `inputs` cast to `dtype`, a state at least float32."""
    wide = torch.promote_types(dtype, torch.float32)
    leaves = {
        name: t.detach().to(wide if name == "initial_state" else dtype).requires_grad_() for name, t in inputs.items()
    }
    o, state = gated_delta_rule(**leaves, backend=backend, chunk_size=chunk)  # type: ignore[arg-type]
    loss = (o * weights[0].to(dtype)).sum() + (state * weights[1].to(wide)).sum()
    loss = loss + sum(0 * t.sum() for t in leaves.values())  # no token and no state: nothing to follow
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    named = {f"gradient of {name}": t for name, t in zip(leaves, gradients, strict=True)}
    return {"o": o.detach(), "state": state.detach(), **named}


def kind_of(row: FormError) -> str:
    """Whether a row is of "values" or of "gradients"."""
    return "gradients" if row.what.startswith("gradient") else "values"


def limit_of(row: FormError, limits: Limits) -> float:
    """What is promised for a row: the exception in `OWN_LIMITS` if there is one, else what its dtype is held to."""
    return OWN_LIMITS.get((row.backend, row.dtype, row.case, kind_of(row)), limits[row.dtype])


def kept(rows: list[FormError], limits: Limits) -> bool:
    """Whether no error is above what is promised for it."""
    return all(row.error <= limit_of(row, limits) for row in rows)


def summary(rows: list[FormError], limits: Limits) -> Iterator[str]:
    """The worst value and the worst gradient of each form and dtype, a line each; exceptions have their own lines."""
    groups: dict[tuple[str, str, str, str], list[FormError]] = {}
    for row in rows:
        kind = kind_of(row)
        own = row.case if (row.backend, row.dtype, row.case, kind) in OWN_LIMITS else ""
        groups.setdefault((row.backend, str(row.dtype).removeprefix("torch."), kind, own), []).append(row)
    for (backend, dtype, kind, own), here in sorted(groups.items()):
        worst = max(here, key=lambda row: row.error)
        yield (
            f"{backend:9} {dtype:8} {kind:9} {worst.error:.1e}, at most {limit_of(worst, limits):.0e} is promised"
            + (f" for {own} alone" if own else "")
            + f"; the worst of {len(here)}: {worst.what}, {worst.case}, T = {worst.length}"
            + (f", chunk {worst.chunk}" if worst.chunk else "")
        )
