"""One step of training: forward, backward, clipping, both optimisers; on a GPU recorded once and then replayed."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from labkit.memory import NeuralMemory
from labkit.models import Output, SleepLM
from labkit.recipes import Training
from labkit.tasks import Batch

__all__ = ["Outcome", "Step", "harden", "learning_rate", "lesson_forward", "make_optimisers"]

READ = ("tokens", "labels", "depth")
"""The tensors of a batch."""


class Outcome(NamedTuple):
    """What one step found before it moved the weights.

    Attributes:
        loss: mean cross-entropy over the asked positions.
        right, asked: positions answered right, and positions asked, of depth 1, 2, ...
    """

    loss: float
    right: list[int]
    asked: list[int]


class Step:
    """Takes training steps of one model.

    A step of a small model is thousands of short kernels, which a GPU computes faster than Python can ask for them. So
    on a GPU the first step of each shape of batch and each number of passes is taken as on a CPU, the second is
    recorded as a CUDA graph, and every later one is a replay. A recording holds the numbers that were not tensors when
    it was made. So batches are copied to where the recording reads them, and the learning rates' factor is applied to
    how far the optimisers moved the weights, which both do in proportion to their rates.

    Models with neural memories, whose gates are hardened as training goes on, are not recorded. Each recording holds
    the memory of a step for good, so many numbers of passes and loops take as many times that memory.

    Args:
        model: what is trained, on its device.
        optimisers: from `make_optimisers`.
        settings: clipping, precision, learning rates.
        depths: the deepest question of the task.
        record: whether to record on a GPU.
    """

    def __init__(
        self,
        model: SleepLM,
        optimisers: tuple[torch.optim.Optimizer, ...],
        settings: Training,
        depths: int,
        *,
        record: bool = True,
    ) -> None:
        self.model, self.optimisers, self.settings, self.depths = model, optimisers, settings, depths
        self.place = model.embed.weight.device
        hardened = any(isinstance(module, NeuralMemory) for module in model.modules())
        self.record = record and self.place.type == "cuda" and not hardened
        self.factor = torch.ones((), device=self.place)
        self.recorded: dict[tuple[object, ...], tuple[torch.cuda.CUDAGraph, Batch, Tensor] | None] = {}

    def __call__(self, batch: Batch, passes: int, factor: float) -> Outcome:
        """Take one step.

        Args:
            batch: the lesson, on any device.
            passes: N.
            factor: of the learning rates, from `learning_rate`.

        Where the loss is not finite, the weights stay as they are, but on a GPU that records: there nobody looks before
        they are moved, and what was last saved is what is left.
        """
        self.factor.fill_(factor)
        if not self.record:
            return self._told(self._taken(batch.to(self.place), passes))
        key = (tuple(batch.tokens.shape), batch.context, batch.loops, passes)
        if key not in self.recorded:
            self.recorded[key] = None
            return self._told(self._warm(batch.to(self.place), passes))
        held = self.recorded[key] or self._recorded(batch, passes)
        self.recorded[key] = held
        graph, own, found = held
        for name in READ:
            getattr(own, name).copy_(getattr(batch, name))
        graph.replay()
        return self._told(found)

    def _warm(self, batch: Batch, passes: int) -> Tensor:
        """A step on a stream of its own, as recordings need it: kernels are compiled, and optimisers have states."""
        beside = torch.cuda.Stream(self.place)
        beside.wait_stream(torch.cuda.current_stream(self.place))
        with torch.cuda.stream(beside):
            found = self._taken(batch, passes)
        torch.cuda.current_stream(self.place).wait_stream(beside)
        return found

    def _recorded(self, batch: Batch, passes: int) -> tuple[torch.cuda.CUDAGraph, Batch, Tensor]:
        """The recording of a step, what it reads, and what it writes; nothing is computed yet."""
        own = dataclasses.replace(batch, **{n: getattr(batch, n).to(self.place, copy=True) for n in READ})
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = self._taken(own, passes)
        return graph, own, found

    def _taken(self, batch: Batch, passes: int) -> Tensor:
        """All of a step. Returns the loss, and for each depth how many positions were right and asked, in float64."""
        out = lesson_forward(self.model, batch, passes, self.settings.precision, fused=self.place.type == "cuda")
        assert out.loss is not None
        found = _counted(out.logits, batch, self.depths, out.loss)
        if not self.record and not math.isfinite(found[0].item()):
            return found
        out.loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        weights = list(self.model.parameters())
        with torch.no_grad():
            before = [w.clone() for w in weights]
            for optimiser in self.optimisers:
                optimiser.step()
                optimiser.zero_grad()
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old.lerp(weight, self.factor))
        return found

    def _told(self, found: Tensor) -> Outcome:
        loss, *counts = found.tolist()
        whole = [int(count) for count in counts]
        return Outcome(loss, whole[: self.depths], whole[self.depths :])


def _counted(logits: Tensor, batch: Batch, depths: int, loss: Tensor) -> Tensor:
    labels, depth = (t[:, batch.context :].flatten() for t in (batch.labels, batch.depth))
    right = logits.detach().argmax(-1).flatten() == labels
    counts = torch.zeros(2, depths + 1, dtype=torch.float64, device=logits.device)
    counts.scatter_add_(1, depth.expand(2, -1), torch.stack([right, torch.ones_like(right)]).double())
    return torch.cat([loss.detach().double()[None], counts[:, 1:].flatten()])


def make_optimisers(model: nn.Module, settings: Training) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside the blocks, AdamW for everything else."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and _inside(name)]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and _inside(name))]
    muon = torch.optim.Muon(
        matrices, lr=settings.muon_lr, momentum=settings.muon_momentum, weight_decay=settings.weight_decay
    )
    adamw = torch.optim.AdamW(
        others,
        lr=settings.adamw_lr,
        betas=settings.betas,
        weight_decay=0.0,
        capturable=others[0].is_cuda,  # its count of steps lies on the GPU then, where a recording can move it
    )
    return muon, adamw


def _inside(name: str) -> bool:
    """Whether a parameter is a matrix between two hidden spaces; gates, taps and persistent tokens are not."""
    return name.startswith("blocks.") and not name.endswith((".gates.weight", ".taps", ".persistent"))


def lesson_forward(model: SleepLM, batch: Batch, passes: int, precision: str, *, fused: bool = False) -> Output:
    """The forward pass of one training step.

    Attention is made of plain matrix products: in a profile of a compiled step over 32 tokens, PyTorch's fused kernel
    for CPUs took a sixth of the time backwards. ``fused=True`` leaves the choice to PyTorch; `labkit.speed` times both.
    """
    attention = contextlib.nullcontext() if fused else sdpa_kernel(SDPBackend.MATH)
    kind = batch.tokens.device.type
    with attention, torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
        return model(batch.tokens, context=batch.context, labels=batch.labels, passes=passes, loops=batch.loops)


def learning_rate(step: int, settings: Training) -> float:
    """Factor on both learning rates: a linear rise over `warmup` steps, then flat, then a linear fall to zero."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup))
    left = (settings.steps - step) / max(1.0, settings.cooldown * settings.steps)
    return min(rise, left, 1.0)


def harden(model: nn.Module, progress: float) -> None:
    """Neural memories learn with plain sigmoids in the first half, and are as in use from three quarters on."""
    for module in model.modules():
        if isinstance(module, NeuralMemory):
            module.harden(min(1.0, max(0.0, 4 * progress - 2)))
