"""The sleep lab: language models that think about what they have read before they forget it.

>>> import labkit
>>> model, card = labkit.load("depo-elastic", seed=0)                      # doctest: +SKIP
>>> state = model.sleep(tokens, model.init_state(1), passes=4)             # doctest: +SKIP
>>> logits, state = model.wake(question, state)                            # doctest: +SKIP

Names are loaded when they are first used, so ``import labkit`` costs nothing and a kernel can be used
without the models, the tasks or the widgets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from labkit import explore, kernels, memory, models, tasks
    from labkit.checkpoints import load
    from labkit.models import SleepConfig, SleepLM, SleepState
    from labkit.session import Session
    from labkit.store import Store

__all__ = [
    "Session",
    "SleepConfig",
    "SleepLM",
    "SleepState",
    "Store",
    "__version__",
    "explore",
    "kernels",
    "load",
    "memory",
    "models",
    "tasks",
]

_HOME = {
    "Session": "labkit.session",
    "SleepConfig": "labkit.models",
    "SleepLM": "labkit.models",
    "SleepState": "labkit.models",
    "Store": "labkit.store",
    "load": "labkit.checkpoints",
}
_SUBPACKAGES = frozenset({"explore", "kernels", "memory", "models", "tasks"})


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use (PEP 562)."""
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in _SUBPACKAGES:
        value = import_module(f"labkit.{name}")
    else:
        raise AttributeError(f"labkit has no {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
