"""What the lab promises about its numbers, measured: ``labkit check`` prints the table.

Relative error is ``‖a − b‖ / ‖b‖``. The reference is the token-by-token form in float64, given the very
numbers that the other form was given: inputs are drawn in float32, or rounded to bfloat16, and widened, so that
rounding them is not counted as an error of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, product

import torch
from torch import Tensor

from labkit.kernels import gated_delta_rule

__all__ = ["CASES", "CHUNKS", "LENGTHS", "LIMITS", "FormError", "gated_delta_errors", "kept", "relative_error"]

Limits = Mapping[torch.dtype, float]
CPU = torch.device("cpu")

LIMITS: Limits = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""The largest relative error that is promised, by the dtype of the inputs."""

CHUNKS = (1, 16, 64, 128)
KERNEL_CHUNKS = (16, 64)  # of the Triton form, whose products take 16 tokens or more
LENGTHS = (0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 200, 1000)
"""Nothing, one token, and one below, at and above every chunk size; 200 and 1,000 are ragged for most of them."""

CASES = {
    "random": "unit keys, betas from 0 to 2, slow and fast decay mixed",
    "equal keys": "one key at every token, beta 2, no decay: the memory is mirrored again and again",
    "near keys": "keys that differ by a thousandth, beta 2, no decay",
    "all forgotten": "g = -10,000 at every token",
    "some forgotten": "g = -10,000 at every fifth token or so, no decay elsewhere",
    "nothing written": "beta 0, slow decay",
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


def gated_delta_errors(
    dtypes: Iterable[torch.dtype] = (torch.float64, torch.float32),
    cases: Iterable[str] = tuple(CASES),
    lengths: Iterable[int] = LENGTHS,
    chunks: Iterable[int] = CHUNKS,
    seed: int = 0,
    *,
    device: torch.device = CPU,
    kernels: Iterable[torch.dtype] = (),
) -> list[FormError]:
    """Compare the forms of the gated delta rule with the float64 recurrence, gradients included.

    Args:
        dtypes: dtypes of the inputs. In float64 the recurrence is the reference itself and is left out.
        cases: names out of `CASES`.
        lengths: values of T.
        chunks: chunk sizes of the chunked form.
        seed: of the inputs.
        device: where all of it is computed.
        kernels: dtypes of the inputs of the Triton form; see `labkit.kernels.backends.why_no_triton` for where it runs.
    """
    dtypes, chunks, lengths = tuple(dtypes), tuple(chunks), tuple(lengths)
    forms = [(dtype, "chunked", chunk) for dtype in dtypes for chunk in chunks]
    forms += [(dtype, "recurrent", 0) for dtype in dtypes if dtype != torch.float64]
    forms += [(dtype, "triton", chunk) for dtype in kernels for chunk in KERNEL_CHUNKS]
    rows = []
    for case, length, filled in product(cases, lengths, (False, True)):
        drawn, weights = draw(case, length, filled, torch.Generator().manual_seed(seed))
        for short, here in groupby(forms, key=lambda form: form[0] == torch.bfloat16):
            # the state is kept in float32, and rounding what comes in is no error of a form
            rounding = torch.bfloat16 if short else torch.float32
            inputs = {
                name: t.to(device, torch.float32 if name == "initial_state" else rounding).float()
                for name, t in drawn.items()
            }
            outer = weights[0].to(device, rounding).float(), weights[1].to(device)
            wanted = results(inputs, outer, torch.float64, "recurrent", 1)
            for dtype, backend, chunk in here:
                found = results(inputs, outer, dtype, backend, max(1, chunk))
                for what, right in wanted.items():
                    error = relative_error(found[what], right)
                    rows.append(FormError(backend, dtype, case, length, chunk, filled, what, error))
    return rows


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
) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
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
    elif case == "nothing written":
        g, beta = g.clamp(min=-0.1), torch.zeros(gate)  # a state that fades below 1e-38 is 0 in float32
    inputs = {"q": q, "k": k, "v": normal(*gate, value_dim), "g": g, "beta": beta}
    if filled:
        inputs["initial_state"] = normal(batch, heads, key_dim, value_dim)
    return inputs, (normal(*gate, value_dim), normal(batch, heads, key_dim, value_dim))


def results(
    inputs: dict[str, Tensor], weights: tuple[Tensor, Tensor], dtype: torch.dtype, backend: str, chunk: int
) -> dict[str, Tensor]:
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


def kept(rows: list[FormError], limits: Limits) -> bool:
    """Whether no error is above what is promised for its dtype."""
    return all(row.error <= limits[row.dtype] for row in rows)


def summary(rows: list[FormError], limits: Limits) -> Iterator[str]:
    """The worst value and the worst gradient of each form and dtype, a line each."""
    groups: dict[tuple[str, str, str], list[FormError]] = {}
    for row in rows:
        kind = "gradients" if row.what.startswith("gradient") else "values"
        groups.setdefault((row.backend, str(row.dtype).removeprefix("torch."), kind), []).append(row)
    for (backend, dtype, kind), here in sorted(groups.items()):
        worst = max(here, key=lambda row: row.error)
        yield (
            f"{backend:9} {dtype} {kind:9} {worst.error:.1e}, at most {limits[worst.dtype]:.0e} is promised; "
            f"the worst of {len(here)}: {worst.what}, {worst.case}, T = {worst.length}"
            + (f", chunk {worst.chunk}" if worst.chunk else "")
        )
