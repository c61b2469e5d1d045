"""Sleeping models for the tests, one of every kind, with weights that leave nothing neutral."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from labkit import SleepConfig, SleepLM, SleepState

VOCAB, WINDOW = 11, 5
BASE: dict[str, Any] = {"vocab": VOCAB, "window": WINDOW, "dim": 8, "heads": 2, "repeat": 1}
CONFIGS: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "hybrid twice": {"repeat": 2},
    "deeper": {"repeat": 3},
    "no reinjection": {"reinject": False},
    "carries the state": {"carry": "state"},
    "carries the hidden": {"carry": "hidden"},
    "odd sizes": {"key_dim": 3, "value_dim": 5, "conv": 1, "mlp_ratio": 0.7},
    "long convolution": {"conv": 5, "pattern": ("delta", "attention", "delta")},
    "gates that see the convolution": {"conv_gates": True, "repeat": 2},
    "memory alone": {"pattern": ("delta",), "repeat": 2},
    "attention alone": {"pattern": ("attention",), "repeat": 2},
    "sliding": {"eviction": "sliding", "repeat": 2},
    "sliding, state": {"eviction": "sliding", "carry": "state"},
    "sliding attention": {"eviction": "sliding", "pattern": ("attention",), "repeat": 2},
    "sliding window of 1": {"eviction": "sliding", "window": 1},
    "keep": {"eviction": "keep", "repeat": 2},
    "keep, convolved attention": {"eviction": "keep", "attention_conv": 3, "associative": True},
    "sliding convolved attention": {
        "eviction": "sliding",
        "pattern": ("attention",),
        "repeat": 2,
        "attention_conv": 4,
    },
    "keep, looped transformer": {"eviction": "keep", "pattern": ("attention",), "repeat": 2},
    "keep, no reinjection": {"eviction": "keep", "reinject": False},
}
every_config = pytest.mark.parametrize("name", CONFIGS)
with_memory = pytest.mark.parametrize(
    "name", [name for name, changes in CONFIGS.items() if changes.get("pattern") != ("attention",)]
)


def built(name: str, dtype: torch.dtype = torch.float64, **changes: Any) -> SleepLM:
    """A model whose every weight is random: no gate is neutral, no norm is one, memories forget visibly."""
    torch.manual_seed(5)
    model = SleepLM(SleepConfig(**{**BASE, **CONFIGS[name], **changes})).to(dtype)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
            if key.endswith("gates.bias"):
                parameter.mul_(0.3)
    return model


def text(length: int, batch: int = 3, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def lived(model: SleepLM, batch: int = 3) -> SleepState:
    """A state with something in all of its parts: after a sleep and a few tokens awake."""
    with torch.no_grad():
        state = model.sleep(text(model.config.window, batch, 21), model.init_state(batch), 2)
        return model.wake(text(3, batch, 22), state)[1]


def tensors(state: SleepState) -> list[Tensor]:
    return [*state.fast, *(t for pair in state.cache for t in pair), *state.tails]


def same(a: SleepState, b: SleepState, *, bits: bool = False) -> None:
    """Fails unless the two states are equal: in every bit, or up to rounding in float64."""
    assert (a.position, a.batch_size) == (b.position, b.batch_size)
    assert [t.shape for t in tensors(a)] == [t.shape for t in tensors(b)]
    for x, y in zip(tensors(a), tensors(b), strict=True):
        if bits:
            assert x.dtype == y.dtype and torch.equal(x, y)
        else:
            torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-11)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def refused(call: Callable[[], object], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value).endswith(".")
