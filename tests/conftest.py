"""What every test stands on: one thread, fixed seeds, tests that may be run side by side."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

import chromium

# Before a kernel is made: where there is no GPU, Triton's interpreter runs them.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

try:
    import fcntl
except ImportError:  # no such locks on Windows, where the tests therefore run one by one
    fcntl = None  # type: ignore[assignment]

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository's root."""
    return REPO


@pytest.fixture(autouse=True)
def _same_every_time() -> None:
    torch.set_num_threads(1)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _alone_if_serial(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A test marked ``serial`` runs while no other test does, also under ``pytest -n``.

    Two locks, shared by all workers: everybody passes the gate and then enters the room, a serial test alone,
    the others together. Whoever waits for the room holds the gate, so a serial test is not overtaken forever.
    """
    if fcntl is None or "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    shared = tmp_path_factory.getbasetemp().parent
    alone = request.node.get_closest_marker("serial") is not None
    with open(shared / "gate.lock", "w") as gate, open(shared / "room.lock", "w") as room:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@pytest.fixture
def no_gradients_unless_asked() -> Iterator[None]:
    """No graph is kept, but where a test turns gradients on for itself."""
    with torch.no_grad():
        yield


@pytest.fixture
def poisoned_empty() -> Iterator[None]:
    """Memory nobody has written to reads as NaN (integers: their largest), so no operator can rely on it."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser the browser tests, and they alone, are reported as not run."""
    if chromium.find() is None:
        reason = f"not run: no Chromium here; {chromium.command()}"
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(pytest.mark.skip(reason=reason))
