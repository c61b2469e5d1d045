"""A training step: what it tells, that its factor is one of the learning rates, and that a replay is the same step."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_training import recipe

from labkit.models import SleepLM
from labkit.recipes import Recipe
from labkit.step import Step, lesson_forward, make_optimisers
from labkit.tasks import Batch

GPU = torch.cuda.is_available()


def begun(made: Recipe, device: str = "cpu", **options: bool) -> Step:
    """A step of a model that is always drawn alike."""
    torch.manual_seed(0)
    task = made.make_task()
    model = SleepLM(made.make_config(task)).to(device)
    return Step(model, make_optimisers(model, made.training), made.training, task.max_depth, **options)


def lessons(made: Recipe, count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [made.make_task().lesson(4, generator, 3) for _ in range(count)]


def test_a_step_tells_the_loss_and_the_answers_of_the_model_before_it() -> None:
    made = recipe()
    step, (batch,) = begun(made), lessons(made, 1)
    out = lesson_forward(copy.deepcopy(step.model), batch, 2, "float32")
    asked = batch.depth[:, batch.context :]
    right = out.logits.argmax(-1) == batch.labels[:, batch.context :]
    found = step(batch, 2, 1.0)
    assert out.loss is not None and found.loss == pytest.approx(out.loss.item(), rel=1e-6)
    assert found.asked == [int((asked == d).sum()) for d in (1, 2, 3, 4)] and found.asked[3] == 0
    assert found.right == [int((right & (asked == d)).sum()) for d in (1, 2, 3, 4)]


@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0])
def test_the_factor_is_one_of_both_learning_rates(factor: float) -> None:
    """The same steps with optimisers whose rates were lowered instead."""
    made = recipe(training={"weight_decay": 0.1})
    step, other = begun(made), begun(made)
    start = copy.deepcopy(step.model.state_dict())
    for batch in lessons(made, 4):
        step(batch, 2, factor)
        for optimiser, rate in zip(other.optimisers, (made.training.muon_lr, made.training.adamw_lr), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
        other(batch, 2, 1.0)
    wanted = other.model.state_dict()
    for name, value in step.model.state_dict().items():
        way = (wanted[name] - start[name]).norm()
        assert (way > 0) == (factor > 0), name
        assert (value - wanted[name]).norm() <= 5e-2 * way, name  # Muon works in bfloat16


def test_where_the_loss_is_not_finite_the_weights_stay() -> None:
    made = recipe()
    step, (batch,) = begun(made), lessons(made, 1)
    with torch.no_grad():
        step.model.head.weight[0, 0] = torch.nan
    start = copy.deepcopy(step.model.state_dict())
    assert step(batch, 1, 1.0).loss != step(batch, 1, 1.0).loss  # NaN
    for name, value in step.model.state_dict().items():
        assert torch.equal(value.nan_to_num(7), start[name].nan_to_num(7)), name


@pytest.mark.skipif(not GPU, reason="only a GPU records")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_recorded_steps_are_the_steps_that_are_not_recorded(precision: str) -> None:
    """Numbers of passes change from step to step, and so do the lessons and the factor."""
    made = recipe(training={"precision": precision}, model={"dim": 32, "repeat": 2})
    recorded, plain = begun(made, "cuda"), begun(made, "cuda", record=False)
    assert recorded.record and not plain.record
    limit = {"float32": 1e-2, "bfloat16": 5e-2}[precision]
    start = copy.deepcopy(plain.model.state_dict())
    for i, batch in enumerate(lessons(made, 12)):
        found, wanted = (step(batch, 1 + i % 3, 1 / (1 + i)) for step in (recorded, plain))
        assert found.loss == pytest.approx(wanted.loss, rel=limit) and found.asked == wanted.asked
    assert len(recorded.recorded) == 3 and all(recorded.recorded.values())
    moved = plain.model.state_dict()
    for name, value in recorded.model.state_dict().items():
        way = (moved[name] - start[name]).norm()
        assert (value - moved[name]).norm() <= 5e-2 * way, name  # Muon works in bfloat16
