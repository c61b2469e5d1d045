"""The command `labkit`: train, figures, evaluate, haystack, stream, long-run, bits, speed, contrast,
bench, sweep, verdict, laws, recover, search, lookups, nights, idle, list, check, doctor.

What goes wrong with what was typed, or with a file, is told in a sentence, and the exit code is 2. Commands import what
is heavy (torch) when they run, so that `labkit --help` answers at once.
"""

from . import training, measuring, timing, sweeping, looking  # noqa: I001 (in the order of `labkit --help`)
from .shared import app

__all__ = ["app", "looking", "measuring", "sweeping", "timing", "training"]
