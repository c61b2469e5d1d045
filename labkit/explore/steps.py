"""What a sleep holds while it runs, and what is left of it afterwards."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from labkit.models import SleepLM, SleepState

__all__ = ["changes", "kept"]


def kept(model: SleepLM, window: Tensor, passes: int = 1) -> pd.DataFrame:
    """How many numbers there are of each kind for one window ``[1, T]``: while a pass runs, and once sleep is over."""
    with torch.no_grad():
        _, running = model.wake(window, model.init_state(1))
        over = model.sleep(window, model.init_state(1), passes)
    rows = {"hidden states h, one vector a token": (window.shape[1] * model.config.dim, 0)}
    for name, count in (
        ("keys and values of attention", _cache),
        ("tails of the short convolutions", _tails),
        ("fast weights S", _fast),
    ):
        rows[name] = (count(running), count(over))
    return pd.DataFrame(rows, index=["during a pass", "after sleep"]).T.rename_axis("numbers held")


def changes(model: SleepLM, window: Tensor, passes: int) -> list[float]:
    """How far pass 1, 2, ... moved all fast weights, as a share of their length after it."""
    moved, before = [], model.init_state(1).fast
    with torch.no_grad():
        for state in model.sleep_steps(window, model.init_state(1), passes):
            step = torch.cat([(a - b).flatten() for a, b in zip(state.fast, before, strict=True)])
            now = torch.cat([a.flatten() for a in state.fast])
            moved.append(float(step.norm() / now.norm()))
            before = state.fast
    return moved


def _cache(state: SleepState) -> int:
    return sum(k.numel() + v.numel() for k, v in state.cache)


def _tails(state: SleepState) -> int:
    return sum(tail.numel() for tail in state.tails) if state.position else 0


def _fast(state: SleepState) -> int:
    return sum(f.numel() for f in state.fast)
