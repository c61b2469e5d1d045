"""A race: candidates are checked, then timed in turn in one run, and told as ratios."""

from __future__ import annotations

import math
import os
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer
from tqdm import tqdm

from labkit.checks import relative_error

BLOCK = 0.02  # seconds: what is shorter is timed several times in a row


@dataclass(frozen=True)
class Candidate:
    """One way of computing something.

    Attributes:
        name: how it is called in tables.
        run: computes everything that is timed, and returns it: values first, then gradients.
        own: whether it is this lab's; only then is a mistake of it a failure of the race.
        other: why it need not agree with the reference ("" if it must): what else it computes.
        limit: its own largest relative error, where that of the race is not for it: for shorter numbers, say.
    """

    name: str
    run: Callable[[], Sequence[Tensor]]
    own: bool = True
    other: str = ""
    limit: float | None = None


class Roof(NamedTuple):
    """What this machine can do at most, measured.

    Attributes:
        flops: floating-point operations a second in a product of two square matrices of the format that is timed,
            1,024 wide on a CPU and 8,192 on a GPU.
        bytes: bytes a second, read and written, in a copy of 256 MiB.
    """

    flops: float
    bytes: float

    def seconds(self, flops: float, moved: float) -> float:
        """The shortest time for so many operations and so many bytes (Williams, Waterman, Patterson 2009)."""
        return max(flops / self.flops, moved / self.bytes)

    def higher(self, other: Roof) -> Roof:
        """The better of two measurements, part by part."""
        return Roof(max(self.flops, other.flops), max(self.bytes, other.bytes))


def measure_roof(device: torch.device, threads: int, dtype: torch.dtype = torch.float32) -> Roof:
    """Time a matrix product of this dtype and a copy, the best of five."""
    side = 1024 if device.type == "cpu" else 8192
    a = torch.randn(side, side, device=device).to(dtype)
    source = torch.ones(2**26, device=device)
    target = torch.empty_like(source)
    best = [
        min(Timer("run()", globals={"run": run}, num_threads=threads).timeit(4).mean for _ in range(5))
        for run in (lambda: a @ a, lambda: target.copy_(source))
    ]
    return Roof(2 * side**3 / best[0], 2 * 4 * source.numel() / best[1])


def race(
    candidates: Sequence[Candidate],
    wanted: Sequence[Tensor],
    *,
    limit: float,
    repeats: int,
    threads: int,
    seed: int = 0,
    title: str = "",
    quiet: bool = False,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Check every candidate against `wanted`, then time those that are right, in turn and in changing order.

    Returns:
        A row for each candidate that was timed: ``candidate``, ``own``, ``other``, ``error`` (the largest relative
        error of any result), ``seconds`` with its quartiles ``low`` and ``high``, ``ratio`` (how many times as long as
        the first candidate in the same round: median, and quartiles ``ratio_low``, ``ratio_high``), ``peak_mib`` (most
        memory that tensors took at once beyond its inputs), ``threads``, ``repeats``. And a sentence for each refused.

    Raises:
        ArithmeticError: one of the lab's own candidates is wrong. Nothing is timed then.
        ValueError: fewer than 2 repeats, which have no quartiles.
    """
    if repeats < 2:
        raise ValueError(f"repeats must be at least 2, for quartiles to be told, but it is {repeats}.")
    right, errors, refused = [], {}, []
    for candidate in candidates:
        try:
            error, where = _farthest(candidate.run(), wanted)
        except Exception as why:
            if candidate.own:
                raise
            refused.append(f"{candidate.name} is not timed, it fails: {type(why).__name__}: {str(why)[:200]}")
            continue
        allowed = limit if candidate.limit is None else candidate.limit
        if error <= allowed or (candidate.other and error < math.inf):
            right.append(candidate)
            errors[candidate.name] = error
            continue
        sentence = (
            f"{candidate.name} is not timed: its result {where} is {error:.1e} from the float64 reference, where "
            f"{allowed:.0e} is allowed."
        )
        if candidate.own:
            raise ArithmeticError(sentence)
        refused.append(sentence)
    bar = tqdm(total=repeats, desc=title, leave=False, disable=quiet or None)
    seconds = _in_turn(right, repeats, threads, seed, bar)
    rows = []
    for candidate in right:
        own = seconds[candidate.name]
        ratios = [a / b for a, b in zip(own, seconds[right[0].name], strict=True)]
        low, middle, high = _quartiles(own)
        ratio = _quartiles(ratios)
        rows.append(
            {
                "candidate": candidate.name, "own": candidate.own, "other": candidate.other,
                "error": errors[candidate.name],
                "seconds": middle, "low": low, "high": high,
                "ratio": ratio[1], "ratio_low": ratio[0], "ratio_high": ratio[2],
                "peak_mib": peak_bytes(candidate.run, wanted[0].is_cuda) / 2**20, "threads": threads,
                "repeats": repeats,
            }
        )  # fmt: skip
    return rows, refused


def beside_roof(rows: Sequence[dict[str, Any]], roof: Roof, flops: float, moved: float) -> list[dict[str, Any]]:
    """Rows of `race` with ``flops``, ``bytes``, ``floor`` and ``roofline``, the share of the roof that was reached.

    `flops` are operations of one form, and `moved` the bytes that none can do without: one floor for all, so that it
    compares as times do.
    """
    floor = roof.seconds(flops, moved)
    told = {"flops": flops, "bytes": moved, "floor": floor}
    return [{**row, **told, "roofline": floor / row["seconds"]} for row in rows]


def _quartiles(values: Sequence[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive")


def _farthest(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> tuple[float, int]:
    errors = [relative_error(a, b) for a, b in zip(found, wanted, strict=True)]
    return max((error, where) for where, error in enumerate(errors))


def _in_turn(
    candidates: Sequence[Candidate], repeats: int, threads: int, seed: int, bar: tqdm[Any]
) -> dict[str, list[float]]:
    """Seconds of every candidate in every round; what else the machine does falls on all of them."""
    timers = {c.name: Timer("run()", globals={"run": c.run}, num_threads=threads) for c in candidates}
    number = {name: max(1, round(BLOCK / timer.timeit(1).mean)) for name, timer in timers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    order, chance = list(timers), random.Random(seed)
    for _ in range(repeats):
        chance.shuffle(order)
        for name in order:
            seconds[name].append(timers[name].timeit(number[name]).mean)
        bar.update()
    bar.close()
    return seconds


def profiler(**options: Any) -> profile:
    """PyTorch's profiler of the CPU, which does not write to the terminal when it starts and stops."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # above its highest level
    return profile(activities=[ProfilerActivity.CPU], **options)


def peak_bytes(run: Callable[[], Any], on_gpu: bool = False) -> int:
    """The most memory that tensors take at once while `run` runs, and what it returns, as PyTorch's allocator tells."""
    run()
    if on_gpu:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profiler(profile_memory=True) as told:
        kept = run()
    events = sorted(
        (e for e in told.profiler.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()
    )
    del kept
    now = most = 0
    for event in events:
        now += event.nbytes()
        most = max(most, now)
    return most
