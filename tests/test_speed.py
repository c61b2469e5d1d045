"""The training clock: it times every way it is asked for, and refuses to time a wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit import speed
from labkit.cli import app
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


def test_fewer_than_two_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats must be at least 2"):
        speed.measure(Recipe.from_dict(TINY), repeats=1)


def test_the_command_stores_what_was_timed_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = speed.measure(Recipe.from_dict(TINY), passes=(2,), repeats=2, compiled=(False,))
    monkeypatch.setattr(speed, "measure", lambda recipe, passes: rows if passes == (2,) else [])
    path = tmp_path / "speed.json"
    done = CliRunner().invoke(app, ["speed", "depo-n1", "--passes", "2", "--out", str(path)])
    assert done.exit_code == 0, done.output
    found = json.loads(path.read_text())
    assert found["command"] == "labkit speed depo-n1 --passes 2" and len(found["rows"]) == 4
    assert found["machine"]["cores"] >= 1 and found["machine"]["processor"] and "torch" in found["versions"]
    assert found["rows"][0]["ratio"] == 1.0 and found["rows"][0]["compiled"] is False
