"""The still pictures of notebook 08: how each panel is made, and the words for one who cannot see it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from labkit.bench import delta, measure_roof
from labkit.explore import kernel_live, kernel_speed
from labkit.explore.panel import Panel

__all__ = ["KERNELS"]


def _roofline() -> Panel:
    device, threads = torch.device("cpu"), torch.get_num_threads()
    roof = measure_roof(device, threads)
    rows, _ = delta.measure(256, device=device, repeats=3, threads=threads, roof=roof, quiet=True)
    return kernel_live.roofline(roof, rows)


def _speed() -> Panel:
    panel = kernel_speed.speed()
    panel.controls["what was measured"].value = True  # who cannot ask for it here is to see it all the same
    return panel


#: Like `labkit.explore.gallery.PICTURES`: by name, how to make the panel, and its words.
KERNELS: dict[str, tuple[Callable[[], Panel], str]] = {
    "kernel-speed": (
        _speed,
        "Left, milliseconds against the number of tokens, both in powers, one line for each of five ways to compute "
        "the gated delta rule: token by token lies far above, the fast chunks lowest. Right, how many times as long "
        "each takes at the chosen length. Open diamonds stand where token by token was guessed to lie.",
    ),
    "kernel-chunks": (
        kernel_speed.chunk_sizes,
        "Two plots against the chunk size, one line for plain and one for fast chunks: microseconds a token, which are "
        "least in the middle, and memory a token.",
    ),
    "kernel-inverse": (
        kernel_live.inverse,
        "Relative error of two ways to invert against the writing strength, on a logarithmic axis: squaring and "
        "substitution lie together near the last digit while keys are random.",
    ),
    "kernel-time": (
        kernel_live.where_time_goes,
        "Three bars, one for each form: milliseconds of matrix products, triangular solves, copies, operations number "
        "by number, and all else. The bar of token by token is the longest, and little of it is matrix products.",
    ),
    "kernel-roofline": (
        _roofline,
        "Operations a second against operations for each byte, on logarithmic axes: a roof that rises and then is "
        "flat, and below it one dot for each form, token by token the lowest.",
    ),
}
