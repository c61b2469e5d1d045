"""Which form of an operator runs where: shared by the operators that have a Triton form."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

MOST_ROWS = 65_535
"""Rows times heads that kernels take, which number them along the second axis of a grid: no more fit there in CUDA."""

_kept_out: ContextVar[bool] = ContextVar("_kept_out", default=False)


class Choice(NamedTuple):
    """The form that ``backend="auto"`` takes, and a sentence that says why."""

    backend: str
    why: str


def why_no_triton(device: torch.device) -> str | None:
    """None where Triton's kernels run on tensors of this device, else a sentence that says what is missing."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; pip install -e '.[kernels]' installs it, on Linux."
    if _kept_out.get():
        return "What happens inside Triton's kernels cannot be counted."
    from triton import knobs

    if device.type != "cuda" and not knobs.runtime.interpret:
        return (
            "Triton's kernels run on a GPU. Elsewhere its interpreter runs them, slowly, where TRITON_INTERPRET=1 is "
            "set before they are imported."
        )
    return None


def why_too_many(q: Tensor) -> str | None:
    """None if a grid of Triton programs holds the heads of all rows of ``q [B, T, H, D]``, else a sentence."""
    batch, _, heads, _ = q.shape
    if batch * heads <= MOST_ROWS:
        return None
    return (
        f"The Triton form takes up to {MOST_ROWS:,} heads of all rows together, not {batch:,} rows times {heads:,}; "
        "give it fewer rows at a time."
    )


@contextlib.contextmanager
def without_triton() -> Iterator[None]:
    """``backend="auto"`` takes forms of PyTorch while this is open, so that their operations can be counted."""
    token = _kept_out.set(True)
    try:
        yield
    finally:
        _kept_out.reset(token)


def agree(
    what: str,
    kernels: Callable[..., tuple[Tensor, ...]],
    chunks: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    device: torch.device,
) -> bool:
    """Whether kernels give what the chunked form gives in float64, values and gradients of all inputs, or a warning.

    Asked before kernels are used unasked: they are compiled for a GPU that they were not tested on, and for widths that
    it may not hold. What the caller has switched on (inference mode, autocast, TF32) does not reach the answer here.

    Args:
        what: the operator, for the warning.
        kernels, chunks: the two forms.
        inputs: what both are given, in the formats that the kernels are to be used with; some may be float32, where
            1e-4 is allowed, and in shorter formats 3e-2.
    """
    allowed = 1e-4 if all(t.dtype == torch.float32 for t in inputs) else 3e-2
    given = [t.to(device) for t in inputs]
    results = []
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        try:
            for form, wide in ((kernels, False), (chunks, True)):
                own = [t.to(torch.float64 if wide else t.dtype, copy=True).requires_grad_() for t in given]
                found = form(*own)
                gradients = torch.autograd.grad(torch.stack([t.double().square().sum() for t in found]).sum(), own)
                results.append([t.detach() for t in (*found, *gradients)])
            wrong = f"{farthest(*results):.1e} from the chunked form" if farthest(*results) > allowed else ""
        except Exception as why:  # a kernel that cannot be compiled or launched is not to stop what asked for any form
            wrong = f"not to be run ({type(why).__name__}: {str(why)[:200]})"
    if wrong:
        warnings.warn(
            f"The Triton form of {what} in {inputs[0].dtype} is {wrong} on {device}, so it is not used; please report "
            'it, with the versions that "labkit doctor" prints.',
            stacklevel=3,
        )
    return not wrong


def farthest(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest relative error ``‖a − b‖ / ‖b‖`` of several tensors; NaN counts as infinite."""
    errors = ((a.double() - b.double()).norm() / b.double().norm() for a, b in zip(found, wanted, strict=True))
    return max(error.nan_to_num(nan=torch.inf).item() for error in errors)
