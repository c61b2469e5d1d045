"""Which form of an operator runs where: shared by the operators that have a Triton form."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Choice(NamedTuple):
    """The form that ``backend="auto"`` takes, and a sentence that says why."""

    backend: str
    why: str


def why_no_triton(device: torch.device) -> str | None:
    """None where Triton's kernels run on tensors of this device, else a sentence that says what is missing."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; pip install -e '.[kernels]' installs it, on Linux."
    from triton import knobs

    if device.type != "cuda" and not knobs.runtime.interpret:
        return (
            "Triton's kernels run on a GPU. Elsewhere its interpreter runs them, slowly, where TRITON_INTERPRET=1 is "
            "set before they are imported."
        )
    return None


def agree(
    what: str, forms: Sequence[Callable[..., tuple[Tensor, ...]]], inputs: Sequence[Tensor], device: torch.device
) -> bool:
    """Whether two forms of an operator give the same to 1e-4, values and gradients of all inputs; if not, a warning.

    Asked before kernels are used unasked: they are compiled for a GPU that they were not tested on. What the caller has
    switched on (inference mode, autocast) does not reach them here.
    """
    results = []
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        try:
            for form in forms:
                own = [t.to(device, copy=True).requires_grad_() for t in inputs]
                found = form(*own)
                gradients = torch.autograd.grad(torch.stack([t.square().sum() for t in found]).sum(), own)
                results.append([t.detach() for t in (*found, *gradients)])
            wrong = f"{farthest(*results):.1e} from the chunked form" if farthest(*results) > 1e-4 else ""
        except Exception as why:  # a kernel that cannot be compiled or launched is not to stop what asked for any form
            wrong = f"not to be run ({type(why).__name__}: {str(why)[:200]})"
    if wrong:
        warnings.warn(
            f"The Triton form of {what} is {wrong} on {device}, so it is not used; please report it, with the versions "
            'that "labkit doctor" prints.',
            stacklevel=3,
        )
    return not wrong


def farthest(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest relative error ``‖a − b‖ / ‖b‖`` of several tensors; NaN counts as infinite."""
    errors = ((a.double() - b.double()).norm() / b.double().norm() for a, b in zip(found, wanted, strict=True))
    return max(error.nan_to_num(nan=torch.inf).item() for error in errors)
