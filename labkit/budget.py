"""What sleeping, waking and training cost, in floating-point operations counted on the real calls.

Counted are matrix products, attention and triangular solves, a multiplication and an addition as two. As is
usual, element-wise operations, normalisations and table look-ups are left out, and attention counts every
pair of positions, masked or not.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from labkit.kernels.backends import without_triton
from labkit.models import SleepLM, SleepState
from labkit.tasks import Batch

__all__ = ["flops_of", "question_flops", "sleep_flops", "training_flops"]

aten = torch.ops.aten


def _attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


def _triangular_solve(a: Any, b: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """n^2 per right-hand side: half a matrix, a multiplication and an addition for each of its entries."""
    return a[-1] * math.prod(out_shape)


def _added_in_place(_: Any, a: Any, b: Any, *__: Any, **___: Any) -> int:
    return int(a[0] * a[1] * a[2] * b[2] * 2)


# torch's own table knows attention's GPU kernels only, and no product that is added in place
CPU_KERNELS = {
    aten.baddbmm_: _added_in_place,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten.linalg_solve_triangular: _triangular_solve,
}


@contextlib.contextmanager
def _counted(model: SleepLM, training: bool) -> Iterator[FlopCounterMode]:
    was = model.training
    model.train(training)
    try:
        with without_triton(), _counter() as counter:
            yield counter
    finally:
        model.train(was)


def _counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=cast(Any, CPU_KERNELS))


def flops_of(run: Callable[[], object]) -> int:
    """FLOPs of everything that `run` runs, backward passes included."""
    with without_triton(), _counter() as counter:
        run()
    return counter.get_total_flops()


def sleep_flops(model: SleepLM, context: torch.Tensor, passes: int) -> int:
    """FLOPs of sleeping on one context ``[C]``, each of its windows read `passes` times.

    They depend on shapes alone, so a window that finds a state of known shapes is not read again to be counted.
    """
    state, total = model.init_state(1), 0
    known: dict[object, tuple[int, SleepState]] = {}
    for window in context[None].split(model.config.window, dim=1):
        phase = state.position % (model.config.segment or 1)
        shapes = (window.shape[1], phase, tuple(k.shape[1] for k, _ in state.cache))
        if shapes not in known:
            with torch.inference_mode(), _counted(model, False) as counter:
                after = model.sleep(window, state, passes)
            known[shapes] = (counter.get_total_flops(), after)
        flops, state = known[shapes]
        total += flops
    return total


def question_flops(model: SleepLM, question: torch.Tensor, state: SleepState) -> int:
    """FLOPs of waking to one question.

    Args:
        question: [1, Tq] tokens.
        state: a state for one sequence. What sleep left of the cache makes a question dearer; how many passes
            sleep made does not.
    """
    with torch.inference_mode(), _counted(model, False) as counter:
        model.wake(question, state)
    return counter.get_total_flops()


def training_flops(model: SleepLM, batch: Batch, passes: int | tuple[int, int]) -> int:
    """FLOPs of one training step on `batch`, forward and backward; the optimiser is left out.

    Attention is counted as PyTorch's fused kernel, whose backward pass makes one product more than the plain
    attention that training uses: 0.6% more for the hybrids, 1.9% for the transformers.

    They are counted on the first sequence and multiplied by the number of sequences. With `passes` = (lowest,
    highest), of which one is drawn for every step, it is the mean over them all.
    """
    lowest, highest = passes if isinstance(passes, tuple) else (passes, passes)
    weights = [p for p in model.parameters() if p.requires_grad]
    counts = []
    for n in range(lowest, highest + 1):
        with torch.enable_grad(), _counted(model, True) as counter:
            out = model(batch.tokens[:1], context=batch.context, labels=batch.labels[:1], passes=n, loops=batch.loops)
            torch.autograd.grad(out.loss, weights, allow_unused=True)
        counts.append(counter.get_total_flops())
    return sum(counts) * batch.tokens.shape[0] // len(counts)
