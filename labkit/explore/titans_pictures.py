"""The still pictures of notebook 03: how each panel is made, and the words for one who cannot see it."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as W

from labkit.explore import (
    chunks,
    dataflow,
    divergence,
    haystacks,
    long_runs,
    needles,
    order,
    pairs_and_bytes,
    surprise,
    titans_ablations,
)
from labkit.explore.panel import Panel

__all__ = ["TITANS"]


def _needle() -> Panel:
    panel = needles.explore("titans-mac", 0)
    if isinstance(panel, W.HTML):
        raise FileNotFoundError("There is no titans-mac, seed 0; `labkit train titans-mac --seed 0` trains it.")
    return panel


def _by_length() -> Panel:
    panel = haystacks.by_length()
    panel.controls["what was measured"].value = True  # who cannot ask for it here is to see it all the same
    return panel


#: Like `labkit.explore.gallery.PICTURES`: by name, how to make the panel, and its words.
TITANS: dict[str, tuple[Callable[[], Panel], str]] = {
    "surprise": (
        surprise.strip,
        "A text letter by letter, each on a cell that is darker the more the letter surprised the memory, and under "
        "each letter the one that was expected: blue where it came, red where it did not.",
    ),
    "chunk-size": (
        chunks.sizes,
        "Two plots against the size of a chunk, 1 to 64 tokens. Left, the distance of the answers to those of chunk "
        "size 1: it rises from zero. Right, the milliseconds for 128 tokens.",
    ),
    "runaway": (
        divergence.runaway,
        "Loss of a memory along 1,024 tokens, on a logarithmic scale, by the paper's rule, with norms held, and with "
        "norms held and short steps, beside a dashed line for knowing nothing.",
    ),
    "dataflow": (
        dataflow.dataflow,
        "Memory as context, drawn as boxes and arrows: the segment asks the memory, attention reads the segment, what "
        "was retrieved and persistent tokens, its output is written into the memory, and a gate joins it with what the "
        "memory says of it.",
    ),
    "needle": (
        _needle,
        "Left, a bar for each token of a text: how far it moved the memories; bars of facts have another colour. "
        "Right, for each fact the probability of the answer, named beside the true value.",
    ),
    "needle-by-length": (
        _by_length,
        "Share of needles found against the length of the haystack, one line with its interval for each model, the "
        "longest length of training as a dotted line, guessing as a dashed one, and an open diamond for a guess.",
    ),
    "needles-by-number": (
        haystacks.by_number,
        "Share of facts recalled against how many facts stand in one haystack, one line with its interval for each "
        "model.",
    ),
    "stream-by-age": (
        haystacks.by_age,
        "Share of right answers about a document against how many documents were read since, one line with its "
        "interval for each memory, and one for an archive with look-ups.",
    ),
    "long-run": (
        long_runs.long_run,
        "Two plots against the tokens that one session has read. Left, the share of right answers about facts of its "
        "start and about facts just read. Right, the size of its state, resident memory and tokens per second, each "
        "over its first value.",
    ),
    "pairs-by-window": (
        pairs_and_bytes.pairs_by_window,
        "Share of pairs recalled against how many windows of pairs were read since, one line with its interval for "
        "each model.",
    ),
    "bits-by-length": (
        pairs_and_bytes.bits_by_length,
        "Bits per byte of held-out text against how many bytes were read before, one line with its interval for each "
        "model, and a dashed one for a compressor.",
    ),
    "write-order": (
        order.order,
        "Share of facts recalled by a memory that stores what attention gave and by one that stores its input, side by "
        "side for each number of facts and tokens: the mean of the seeds with its interval, and each seed.",
    ),
    "titans-ablations": (
        titans_ablations.ablations,
        "Two columns of dots beside the names of what was left out. Left, the share of facts recalled, with intervals; "
        "right, the perplexity that the paper gives for the same omission.",
    ),
}
