"""Training: what a kill interrupts goes on as if nothing had been, and what goes wrong loses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_training import Lessons, card, half_done, recipe, run

import labkit
import labkit.train
from labkit.models import SleepLM
from labkit.recipes import Recipe
from labkit.train import compiler, train


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> Lessons:
    return Lessons(monkeypatch)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the tiny recipe, trained without a stop."""
    return run(recipe(), tmp_path_factory.mktemp("unbroken"))


def same_training(a: Path, b: Path) -> None:
    """Fails unless two checkpoints agree in every bit of their weights and all of their cards but the time."""
    assert a.read_bytes() == b.read_bytes()
    cards = card(a), card(b)
    for one in cards:
        del one["train_seconds"]
    assert cards[0] == cards[1]


# ------------------------------------------------------------------------------------------------ results


def test_a_recipe_becomes_a_checkpoint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = recipe()
    path = train(made, 3, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny-s3.json", "tiny-s3.safetensors"]
    assert path == tmp_path / "tiny-s3.safetensors"
    depth = card(path)["metrics"]["depth"]
    assert "12/12 [00:" in (bar := capfd.readouterr().err) and f"depth {depth}/4 accuracy ." in bar
    model, told = labkit.load("tiny", seed=3, folder=tmp_path)
    assert Recipe.from_dict(told["recipe"]) == made and told["command"] == "labkit train tiny --seed 3"
    assert told["steps"] == 12 and told["train_flops"] > 0 and told["train_seconds"] > 0
    metrics = told["metrics"]
    assert len(metrics["lesson_accuracy"]) == 4 and len(metrics["opened"]) == depth > 1
    lesson = made.make_task().lesson(made.training.batch_size, torch.Generator(), 1)
    assert told["train_tokens"] == 12 * lesson.tokens.numel()
    curve = metrics["curve"]
    assert [row[0] for row in curve] == list(range(1, 13)) and len(curve[-1]) == 1 + depth
    torch.manual_seed(3)
    fresh = SleepLM(made.make_config(made.make_task()))
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, fresh.state_dict()[key])}
    assert moved == set(fresh.state_dict())  # every parameter was trained


def test_the_seed_decides_every_bit(tmp_path: Path, unbroken: Path) -> None:
    torch.manual_seed(99)  # the global generator is not part of it
    same_training(run(recipe(), tmp_path), unbroken)
    assert run(recipe(), tmp_path, seed=1).read_bytes() != unbroken.read_bytes()


def test_without_a_folder_the_data_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    path = train(recipe(training={"steps": 1}), 0, progress=False)
    assert path == tmp_path / "checkpoints" / "tiny-s0.safetensors" and path.is_file()


def test_a_small_task_is_learned_and_the_next_depth_opens(tmp_path: Path) -> None:
    made = recipe(
        task={"kind": "depo", "nodes": 4, "hops": 2, "queries": 4},
        training={"steps": 260, "batch_size": 32, "passes": [1, 2], "warmup": 10, "checkpoint_every": 1000},
        curriculum={"threshold": 0.7, "memory": 0.9},
    )
    path = run(made, tmp_path)
    metrics = card(path)["metrics"]
    assert metrics["depth"] == 2 and 10 < metrics["opened"][1] < 260
    # graphs it has not seen, each question asked alone from the slept state
    model, _ = labkit.load("tiny", folder=tmp_path)
    exam = made.make_task().exam(100, torch.Generator().manual_seed(10**6))
    with torch.no_grad():
        slept = model.sleep(exam.context, model.init_state(100), 2)
        one_hop = exam.depth[0].tolist().index(1)
        logits, _ = model.wake(exam.questions[:, one_hop], slept)
    right = (logits[:, -1].argmax(-1) == exam.answers[:, one_hop]).double().mean().item()
    assert right > 0.75  # guessing among the other nodes gives 1/3


# ------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("stops", [[2], [5], [9, 2], [6, 6, 3]], ids=str)
def test_a_stopped_training_ends_bit_equal_to_an_unbroken_one(
    tmp_path: Path, unbroken: Path, lessons: Lessons, stops: list[int]
) -> None:
    made = recipe()
    assert card(unbroken)["metrics"]["opened"][1] < 8  # the curriculum moved before and after a stop
    folder, saved = tmp_path / "stopped", 0
    for before in stops:
        lessons.stopped(made, folder, before)
        saved = (saved + before - 1) // 4 * 4
        assert half_done(folder).exists() == (saved > 0) and not (folder / "tiny-s0.safetensors").exists()
    again = run(made, folder)
    assert len(lessons.depths) == 12 - saved  # it went on where it was saved, not from the start
    same_training(again, unbroken)
    assert not half_done(folder).exists()


CHILD = """
import json, os, signal, sys
import labkit.train
from labkit.recipes import Recipe
from labkit.tasks import Depo

table, folder, place, last = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
home = Depo if place == "lesson" else labkit.train
original, calls = getattr(home, place), 0

def deadly(*args, **options):
    global calls
    calls += 1
    result = original(*args, **options)
    if calls == last:
        if place == "save_file":  # the file is half written when the end comes
            os.truncate(args[1], os.path.getsize(args[1]) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(home, place, deadly)
labkit.train.train(Recipe.from_dict(table), 0, folder, progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL to die from")
@pytest.mark.parametrize(
    ("place", "last", "saved"), [("lesson", 7, 4), ("save_file", 2, 4)], ids=["in a step", "while saving"]
)
def test_a_killed_training_ends_bit_equal_to_an_unbroken_one(
    tmp_path: Path, unbroken: Path, lessons: Lessons, place: str, last: int, saved: int
) -> None:
    made, folder = recipe(), tmp_path / "killed"
    arguments = [json.dumps(made.to_dict()), str(folder), place, str(last)]
    killed = subprocess.run([sys.executable, "-c", CHILD, *arguments], timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert half_done(folder).exists() and not (folder / "tiny-s0.safetensors").exists()
    again = run(made, folder)
    assert len(lessons.depths) == 12 - saved
    same_training(again, unbroken)


COMPILER = compiler()


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="torch.compile needs a C++ compiler, and none was found")
def test_a_compiled_training_resumes_within_tolerance_and_its_gradients_are_the_eager_ones(
    tmp_path: Path, lessons: Lessons
) -> None:
    """Compiling costs most of a minute, so the model is the smallest with a memory: two graphs in all."""
    changes: dict[str, dict[str, Any]] = {
        "task": {"kind": "mqar", "pairs": 3, "keys": 6, "values": 6, "queries": 3},
        "model": {"dim": 8, "heads": 1, "pattern": ["delta"], "conv": 1, "reinject": False},
        "training": {"passes": 1, "compile": True},
        "curriculum": {"fixed": True},
    }
    made = recipe(**changes)
    path = run(made, tmp_path)
    lessons.stopped(made, tmp_path / "stopped", 7)
    again = load_file(run(made, tmp_path / "stopped"))
    assert len(lessons.depths) == 8
    torch.manual_seed(0)
    start = SleepLM(made.make_config(made.make_task())).state_dict()
    for key, value in load_file(path).items():
        # Relative to the way it went in twelve steps. Muon works in bfloat16, which has three digits.
        way = (value - start[key]).norm()
        assert way > 0 or key == "between.weight"  # with one pass nothing re-enters
        assert (again[key] - value).norm() <= 1e-2 * way

    # the same loss and gradients, compiled and not
    model = labkit.load("tiny", folder=tmp_path)[0].requires_grad_().train()
    batch = made.make_task().lesson(4, torch.Generator().manual_seed(5), 1)

    def step() -> list[torch.Tensor]:
        loss = model(batch.tokens, context=batch.context, labels=batch.labels).loss
        assert loss is not None
        used = [p for name, p in model.named_parameters() if name != "between.weight"]
        return [loss, *torch.autograd.grad(loss, used)]

    eager = step()
    model.read = torch.compile(model.read, dynamic=False)  # type: ignore[method-assign]
    for found, wanted in zip(step(), eager, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_another_recipe_does_not_go_on_with_a_half_done_training(tmp_path: Path, lessons: Lessons) -> None:
    lessons.stopped(recipe(), tmp_path, 6)
    kept = half_done(tmp_path).read_bytes()
    other = recipe(training={"muon_lr": 0.02})
    with pytest.raises(ValueError, match=r"another version of the recipe 'tiny'\. .*--no-resume"):
        run(other, tmp_path)
    assert half_done(tmp_path).read_bytes() == kept and lessons.depths == []
    run(recipe(), tmp_path, seed=1)  # another seed is another training
    assert half_done(tmp_path).read_bytes() == kept
    lessons.depths = []
    same_training(run(other, tmp_path, resume=False), run(other, tmp_path / "elsewhere"))
    assert len(lessons.depths) == 24


def test_a_finished_seed_is_left_as_it_is(tmp_path: Path, lessons: Lessons) -> None:
    first = run(recipe(), tmp_path)
    kept, trained = first.read_bytes(), len(lessons.depths)
    assert run(recipe(), tmp_path) == first and len(lessons.depths) == trained
    with pytest.raises(ValueError, match=r"another version of the recipe 'tiny'\. .*--no-resume"):
        run(recipe(training={"muon_lr": 0.02}), tmp_path)
    assert first.read_bytes() == kept and len(lessons.depths) == trained
    run(recipe(training={"muon_lr": 0.02}), tmp_path, resume=False)
    assert first.read_bytes() != kept


@pytest.mark.parametrize("seed", [-1, 1_000_000, 0.5, True, "0"])
def test_what_is_no_seed_is_told_before_any_work(tmp_path: Path, lessons: Lessons, seed: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="A seed must be a whole number from 0 to 999,999"):
        run(recipe(), tmp_path, seed)
    assert lessons.depths == [] and not list(tmp_path.iterdir())


def test_a_device_that_is_not_here_is_told_before_any_work(tmp_path: Path) -> None:
    for name in ("abacus", "xpu:7"):
        with pytest.raises(ValueError, match=f"There is no device '{name}' here; cpu is everywhere"):
            train(recipe(), 0, tmp_path, device=name)
    assert not list(tmp_path.iterdir())


def test_what_was_compiled_for_another_model_is_forgotten_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After eight shapes of one function torch compiles no further: a worker's fourth model was trained eagerly."""
    order: list[str] = []
    monkeypatch.setattr("labkit.train.compiler", lambda: "c++")
    monkeypatch.setattr(torch.compiler, "reset", lambda: order.append("reset"))
    monkeypatch.setattr(torch, "compile", lambda function, **_: order.append("compile") or function)
    run(recipe(training={"compile": True}), tmp_path)
    assert order == ["reset", "compile"]


def test_without_a_compiler_nothing_is_compiled(
    tmp_path: Path, lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"no C\+\+ compiler was found\. Install g\+\+"):
        run(recipe(training={"compile": True}), tmp_path)
    assert lessons.depths == []


def test_a_half_done_training_from_before_a_key_was_known_goes_on(
    tmp_path: Path, unbroken: Path, lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(Recipe, "to_dict", lambda self: self.model_dump(mode="json", exclude_defaults=True))
        lessons.stopped(recipe(), tmp_path, 6)
    same_training(run(recipe(), tmp_path), unbroken)
    assert len(lessons.depths) == 8


def test_a_damaged_half_done_training_is_refused(tmp_path: Path, unbroken: Path, lessons: Lessons) -> None:
    lessons.stopped(recipe(), tmp_path, 6)
    whole = half_done(tmp_path).read_bytes()
    for length in (0, 5, 200, len(whole) - 1):
        half_done(tmp_path).write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"is not whole .*Remove the file to begin anew, or train with --no-re"):
            run(recipe(), tmp_path)
    half_done(tmp_path).write_bytes(whole)
    tensors = load_file(half_done(tmp_path))
    with safe_open(half_done(tmp_path), framework="pt") as file:
        header = file.metadata()
    fewer = {name: t for name, t in tensors.items() if not name.startswith("model.head")}
    for kept, told in ((tensors, None), (fewer, header), (tensors, {**header, "progress": "{\"next\": 1}"})):
        save_file(kept, half_done(tmp_path), metadata=told)
        with pytest.raises(ValueError, match=r"is not whole .*no-resume"):
            run(recipe(), tmp_path)
    half_done(tmp_path).write_bytes(whole)
    same_training(run(recipe(), tmp_path), unbroken)


# -------------------------------------------------------------------------------------------- a bad end


def test_a_loss_that_is_not_a_number_stops_and_what_was_saved_is_kept(
    tmp_path: Path, unbroken: Path, lessons: Lessons, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = SleepLM.forward

    def spoiled(self: SleepLM, *args: Any, **options: Any) -> Any:
        out = honest(self, *args, **options)
        return out._replace(loss=out.loss * torch.nan) if len(lessons.depths) >= 7 else out

    with monkeypatch.context() as patch:
        patch.setattr(SleepLM, "forward", spoiled)
        with pytest.raises(FloatingPointError, match="The loss of tiny is nan at step 6; lower muon_lr or adamw_lr"):
            run(recipe(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [half_done(tmp_path).name]
    lessons.depths = []
    same_training(run(recipe(), tmp_path), unbroken)
    assert len(lessons.depths) == 8


def test_a_learning_rate_beyond_reason_ends_in_a_sentence(tmp_path: Path) -> None:
    wild = recipe(training={"adamw_lr": 1e30, "muon_lr": 1e30, "warmup": 0, "checkpoint_every": 1})
    with pytest.raises(FloatingPointError, match=r"The loss of tiny is .*; lower muon_lr or adamw_lr"):
        run(wild, tmp_path)
    assert not (tmp_path / "tiny-s0.safetensors").exists()
