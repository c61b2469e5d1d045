"""A trained memory of four layers over 8,192 tokens: finite, and never much worse than one that knows nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from labkit.checkpoints import load
from labkit.haystack import needle_task
from labkit.kernels.titans import read_memory


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("facts", [1, 256])
@pytest.mark.parametrize("variant", ["passkey", "number"])
def test_four_trained_layers_stay_bounded_over_8192_tokens(variant: str, facts: int, seed: int) -> None:
    """Of every 64 tokens, just written: how far the memory misses them, over how far an empty one would."""
    model, card = load("ablation-deep", seed)
    memory = model.blocks[0].mixer.memory
    assert len(memory.initial) == 4
    exam = needle_task(card).at_length(8192, facts, variant).exam(1, torch.Generator().manual_seed(5))
    missed: list[float] = []

    def look(_: Any, given: Any, told: Any) -> None:
        (x, before), (y, after) = given, told
        assert y.isfinite().all() and all(t.isfinite().all() for t in (*after.weights, *after.velocity))
        _, k, v, *_ = memory._project(x, before.tail)
        loss = (read_memory(after.weights, k) - v).square().sum(-1).mean()
        missed.append(float(loss / v.square().sum(-1).mean()))

    memory.register_forward_hook(look)
    state = model.init_state(1)
    for window in exam.context.split(64, dim=1):
        state = model.sleep(window, state, 1)
    assert len(missed) == 128 and max(missed) < 1.3, missed
