"""The training clock: it times every way it is asked for, and refuses to time a wrong one."""

from __future__ import annotations

import pytest

from labkit import speed
from labkit.recipes import Recipe

TINY = {
    "name": "tiny",
    "description": "for the clock",
    "seeds": [0],
    "task": {"kind": "depo", "nodes": 4, "hops": 2, "queries": 2},
    "model": {"dim": 16, "repeat": 1},
    "training": {"steps": 4, "batch_size": 4},
}


def test_every_way_is_timed_against_the_first() -> None:
    rows = speed.measure(Recipe.from_dict(TINY), passes=(1, 2), repeats=4, compiled=(False,))
    ways = [("float32", True), ("float32", False), ("bfloat16", True), ("bfloat16", False)]
    assert [(r.precision, r.fused, r.passes) for r in rows] == [(*way, n) for n in (1, 2) for way in ways]
    assert rows[0].ratio == 1.0 and rows[4].ratio == 1.0
    assert all(0 < r.slowest <= r.steps_per_second <= r.fastest for r in rows)


def test_a_wrong_step_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = speed._prepared

    def broken(recipe, batch, passes, way):  # type: ignore[no-untyped-def]
        step, loss = honest(recipe, batch, passes, way)
        return step, loss * (1.1 if way.precision == "bfloat16" else 1.0)

    monkeypatch.setattr(speed, "_prepared", broken)
    with pytest.raises(ArithmeticError, match="a wrong step is not timed"):
        speed.measure(Recipe.from_dict(TINY), passes=(1,), repeats=3, compiled=(False,))
