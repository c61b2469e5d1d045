"""What every operator asks of its tensors, whatever their shapes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def check_tensors(named: Mapping[str, Tensor]) -> None:
    """Refuse what is no floating-point tensor, or not on the device of ``q``, in a sentence that names the argument."""
    q = named["q"]
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch tensor, but it is a {type(tensor).__name__}.")
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must hold floating-point numbers, but its dtype is {tensor.dtype}.")
        if tensor.device != q.device:
            raise ValueError(f"{name} is on {tensor.device} and q is on {q.device}; move them to one device.")
