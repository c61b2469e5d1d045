"""The curriculum: when questions go one deeper, and what a stop leaves of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_training import Lessons, card, recipe, run

import labkit.train
from labkit.models import SleepLM


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> Lessons:
    return Lessons(monkeypatch)


def test_the_curriculum_goes_one_deeper_at_a_time_and_never_too_deep(tmp_path: Path, lessons: Lessons) -> None:
    opened = card(run(recipe(), tmp_path))["metrics"]["opened"]
    assert len(opened) > 2 and opened[0] == 0
    assert lessons.depths == [sum(step <= i for step in opened) for i in range(12)]


@pytest.mark.parametrize(
    ("curriculum", "depths"),
    [
        ({"threshold": 1.0}, [1] * 12),
        ({"threshold": 1.0, "start": 3}, [3] * 12),
        ({"fixed": True}, [4] * 12),
        ({"fixed": True, "threshold": 0.0}, [4] * 12),
        ({"threshold": 1.0, "patience": 5}, [1] * 5 + [2] * 5 + [3] * 2),
        ({"threshold": 1.0, "patience": 2}, [1, 1, 2, 2, 3, 3] + [4] * 6),
    ],
    ids=str,
)
def test_a_curriculum_can_stand_still_or_go_on_by_itself(
    tmp_path: Path, lessons: Lessons, curriculum: dict[str, Any], depths: list[int]
) -> None:
    run(recipe(curriculum=curriculum), tmp_path)
    assert lessons.depths == depths


def test_the_running_accuracy_of_the_larger_passes_opens_the_next_depth(
    tmp_path: Path, lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were every answer right, the running accuracy after n counted batches would be 1 - memory^n."""
    monkeypatch.setattr(labkit.train, "_share", lambda *_: 1.0)
    drawn: list[int] = []
    honest = SleepLM.forward

    def watched(self: SleepLM, *args: Any, **options: Any) -> Any:
        if len(drawn) < len(lessons.depths):  # not when operations are counted
            drawn.append(options["passes"])
        return honest(self, *args, **options)

    monkeypatch.setattr(SleepLM, "forward", watched)
    opened = card(run(recipe(curriculum={"threshold": 0.8}, training={"steps": 25}), tmp_path))["metrics"]["opened"]
    assert set(drawn) == {1, 2, 3} and len(drawn) == 25
    counted = [step for step, passes in enumerate(drawn, start=1) if passes >= 2]
    assert opened == [0, counted[2], counted[5], counted[8]]  # 1 - 0.5^3 is the first above 0.8


def test_the_running_accuracy_outlives_a_stop(
    tmp_path: Path, lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labkit.train, "_share", lambda *_: 1.0)
    made = recipe(curriculum={"threshold": 0.8}, training={"passes": 1})
    lessons.stopped(made, tmp_path, 6)  # saved after 4, one batch into depth 2
    assert card(run(made, tmp_path))["metrics"]["opened"] == [0, 3, 6, 9]
