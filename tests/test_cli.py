"""The command line, as it is typed; mistakes end with a sentence, exit code 2 and nothing lost."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from labkit import results
from labkit.checkpoints import load, save_checkpoint
from labkit.cli import app
from labkit.models import SleepLM
from labkit.recipes import load_recipe

TOML = """
description = "Six nodes, for tests"
seeds = [0, 1]
[task]
kind = "depo"
nodes = 6
hops = 2
[model]
dim = 16
repeat = 1
[training]
steps = 4
batch_size = 4
passes = [1, 2]
compile = false
"""

Run = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of our own: the recipe and the untrained checkpoints `tiny` s0 and s1."""
    for room in ("recipes", "checkpoints"):
        (tmp_path / room).mkdir()
    (tmp_path / "recipes" / "tiny.toml").write_text(TOML)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    recipe = load_recipe("tiny")
    for seed in recipe.seeds:
        torch.manual_seed(seed)
        model = SleepLM(recipe.make_config(recipe.make_task()))
        card = {"task": recipe.task, "recipe": recipe.to_dict(), "steps": 0}
        save_checkpoint(model, card, "tiny", seed)
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Run `labkit` with the words of a line."""
    return lambda line: CliRunner().invoke(app, line.split())


def refused(result: Any, sentence: str) -> None:
    """The command ended with exit code 2 and one sentence, not with a traceback."""
    assert result.exit_code == 2, result.output
    assert re.search(sentence, result.stderr), result.stderr
    assert "Traceback" not in result.output and isinstance(result.exception, SystemExit)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_evaluate_takes_many_passes_after_one_option(data: Path, run: Run) -> None:
    result = run("evaluate tiny --passes 0 1 2 4 8 16 --n 20")
    assert result.exit_code == 0, result.output
    rows = results.read(data / "results" / "tiny-s0.csv")
    assert sorted(rows["passes"].unique()) == [0, 1, 2, 4, 8, 16] and (rows["n"] == 20).all()
    accuracy = rows[(rows["passes"] == 16) & (rows["depth"] == 2)]["accuracy"].iloc[0]
    assert f"{accuracy:.3f}" in result.output and "tiny-s0.csv" in result.output
    answers = results.load_answers(data / "results" / "tiny-s0.npz")
    assert answers["correct"].shape == (1, 6, 20, 2)
    assert str(answers["weights"][0]) == load("tiny", 0)[1]["sha256"]


@pytest.mark.parametrize(
    "line",
    [
        "evaluate --passes 0 1 3 tiny --n 5",
        "evaluate tiny --n 5 --passes 0 --passes 1 --passes 3",
        "evaluate --passes=0 1 3 --n 5 tiny",
        "evaluate --passes 3 0 --n 5 --passes 1 1 -- tiny",
    ],
)
def test_the_numbers_may_stand_anywhere(data: Path, run: Run, line: str) -> None:
    result = run(line)
    assert result.exit_code == 0, result.output
    assert sorted(results.read(data / "results" / "tiny-s0.csv")["passes"].unique()) == [0, 1, 3]


def test_all_seeds_are_pooled(data: Path, run: Run) -> None:
    result = run("evaluate tiny --passes 0 2 --n 10 --all-seeds")
    assert result.exit_code == 0 and "seed 0, 1" in result.output, result.output
    rows = results.read(data / "results" / "tiny.csv")
    assert list(rows["seed"].unique()) == ["0", "1", "all"]
    assert rows[rows["seed"] == "1"]["exam"].eq(1).all()  # every seed sits an exam of its own
    assert run("evaluate tiny --passes 0 --n 3 --seed 0 1 --exam 5 --out tiny2.csv --folder x").exit_code == 2
    refused(run(f"evaluate tiny --folder {data / 'checkpoints'}"), "no place in data/results; name a table with --out")
    refused(run("evaluate tiny --device moon"), "There is no device 'moon' here; cpu is everywhere.")
    out = data / "other" / "two.csv"
    assert run(f"evaluate tiny --passes 0 --n 3 --seed 1 0 --exam 5 --out {out}").exit_code == 0
    assert results.read(out)["exam"].dropna().eq(5).all()


def test_a_table_that_holds_more_is_kept(data: Path, run: Run) -> None:
    assert run("evaluate tiny --passes 0 1 2 --n 10").exit_code == 0
    before = files(data)
    refused(run("evaluate tiny --passes 0 1 2 --n 9"), "holds more instances.*--replace")
    refused(run("evaluate tiny --passes 0 1 --n 10"), "other numbers of passes")
    assert files(data) == before
    assert run("evaluate tiny --passes 0 1 2 3 --n 10").exit_code == 0
    assert run("evaluate tiny --passes 0 --n 5 --replace").exit_code == 0
    assert (results.read(data / "results" / "tiny-s0.csv")["n"] == 5).all()
    assert run("evaluate tiny --passes 0 --n 5 --all-seeds").exit_code == 0
    refused(run(f"evaluate tiny --passes 0 --n 5 --seed 0 --out {data / 'results' / 'tiny.csv'}"), "or other seeds")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("evaluate tinny", "no checkpoint 'tinny'.*nearest known one is 'tiny'"),
        ("evaluate tiny --seed 9", "no seed 9 of 'tiny'"),
        ("evaluate tinny --all-seeds", "no checkpoint 'tinny'"),
        ("evaluate tiny --seed 0 --all-seeds", "contradict each other"),
        ("evaluate tiny --passes -1", "--passes"),
        ("evaluate tiny --passes 1 1.5", "--passes"),
        ("evaluate tiny --passes many", "--passes"),
        ("evaluate tiny --passes", "--passes"),
        ("evaluate tiny --n 0", "--n"),
        ("evaluate tiny --batch 0", "--batch"),
        ("evaluate tiny --seed -1", "--seed"),
        ("evaluate tiny --exam 1000000", "--exam"),
        ("train tiny --seed 1000000", "--seed"),
        ("evaluate tiny --pases 1", "--pases"),
        ("evaluate tiny 1 2", "unexpected extra argument"),
        ("evaluate tiny --out table.txt", "must end in .csv"),
        ("evaluate", "Missing argument"),
        ("train tinny", "no recipe 'tinny'.*nearest known one is 'tiny'"),
        ("train nowhere.toml", "no recipe file"),
        ("trian tiny", "No such command 'trian'"),
        ("train n", "no recipe 'n'.*nearest known one is 'tiny'"),  # which it is a part of
        ("figures depo", "no picture 'depo'.*nearest known one is 'depo-"),
        ("figures x", "no picture 'x'.*nearest known one is '.*x"),
        ("figures nosuch", "no picture 'nosuch'. Known: selfcheck, .*kernel-roofline"),
    ],
)
def test_what_was_mistyped_is_told(data: Path, run: Run, line: str, sentence: str) -> None:
    before = files(data)
    refused(run(line), sentence)
    assert files(data) == before


def test_damaged_files_are_told_before_any_work(data: Path, run: Run) -> None:
    weights = data / "checkpoints" / "tiny-s1.safetensors"
    whole = weights.read_bytes()
    for damage, sentence in ((whole[:-9], "cut short"), (whole[:-1] + b"\x7f", "the hash differs")):
        weights.write_bytes(damage)
        before = files(data)
        refused(run("evaluate tiny --all-seeds --passes 0 --n 3"), sentence)
        assert files(data) == before
    weights.write_bytes(whole)
    weights.with_suffix(".json").unlink()
    refused(run("evaluate tiny --seed 1"), r"tiny-s1\.json is missing")
    (data / "recipes" / "tiny.toml").write_text(TOML.replace("batch_size", "bach_size"))
    refused(
        run("train tiny"), r"Unknown key 'bach_size' in \[training\]. The nearest known one is 'batch_size'"
    )
    listed = run("list")
    assert (
        listed.exit_code == 0
        and "'bach_size'" in listed.output
        and "tiny-s1.json is missing" in listed.output
    )


def test_damaged_results_are_told(data: Path, run: Run) -> None:
    assert run("evaluate tiny --passes 0 1 --n 10").exit_code == 0
    answers = data / "results" / "tiny-s0.npz"
    whole = answers.read_bytes()
    for damage in (b"", b"not a zip", whole[: len(whole) // 2], whole[:200] + bytes(99) + whole[299:]):
        answers.write_bytes(damage)
        with pytest.raises(ValueError, match=r"tiny-s0\.npz is damaged .*make it again with `labkit evaluate`"):
            results.load_answers(answers)
    (data / "results" / "tiny-s0.csv").write_text("a,b\n1,2\n")
    refused(run("evaluate tiny --passes 0 1 --n 10"), "is no table of `labkit evaluate`: it has no column")


def test_train_then_evaluate(data: Path, run: Run) -> None:
    untrained = [load("tiny", seed)[0].head.weight for seed in (0, 1)]
    refused(run("train tiny --seed 1 --quiet"), r"another version of the recipe 'tiny'.*--no-resume")  # 0 of 4 steps
    result = run("train tiny --seed 1 --quiet --no-resume")
    assert result.exit_code == 0, result.output
    assert result.output == f"tiny, seed 1: {data / 'checkpoints' / 'tiny-s1.safetensors'}\n"
    model, card = load("tiny", 1)
    assert card["steps"] == 4 and card["command"] == "labkit train tiny --seed 1"
    assert not torch.equal(model.head.weight, untrained[1])
    assert torch.equal(load("tiny", 0)[0].head.weight, untrained[0])
    before, again = files(data), run("train tiny --seed 1 --quiet")
    assert again.exit_code == 0 and files(data) == before
    assert again.output.startswith("tiny, seed 1, is trained already; --no-resume trains it anew: ")
    assert run("train tiny --seed 1 --quiet --no-resume").output.startswith("tiny, seed 1: ")
    assert run("evaluate tiny --seed 1 --passes 0 1 --n 3 --quiet").exit_code == 0
    elsewhere = data / "elsewhere"
    assert run(f"train tiny --quiet --folder {elsewhere}").exit_code == 0
    assert sorted(p.name for p in elsewhere.glob("*.safetensors")) == [
        f"tiny-s{s}.safetensors" for s in (0, 1)
    ]
    assert torch.equal(load("tiny", 1, elsewhere)[0].head.weight, model.head.weight)


def test_the_curves_of_trainings_are_stored(data: Path, run: Run, tmp_path: Path) -> None:
    assert run(f"train tiny --quiet --folder {tmp_path}").exit_code == 0
    told = run(f"curves tiny --folder {tmp_path} --out {tmp_path / 'c.csv'}")
    assert told.exit_code == 0 and "Share right in the last lessons" in told.output
    assert set((tmp_path / "c.csv").read_text().splitlines()[-1].split(",")[:2]) == {"tiny", "1"}
    refused(run(f"curves tinny --out {tmp_path / 'd.csv'}"), "There is no checkpoint 'tinny'")
    refused(run(f"curves tiny --out {tmp_path / 'd.csv'}"), "The card of tiny, seed 0, holds no curve")


def test_a_stopped_training_says_how_to_go_on(data: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("labkit.train.train", stopped)
    result = run("train tiny --seed 0")
    assert result.exit_code == 130 and "The same command goes on" in result.stderr


def test_list_names_what_there_is(data: Path, run: Run) -> None:
    output = run("list").output
    parameters = load("tiny", 0)[1]["parameters"]
    assert "Six nodes, for tests" in output and f"{parameters:,} parameters" in output
    assert output.count("tiny") == 2 and f"  tiny  seeds 0, 1  {parameters:,} parameters, 0 steps" in output


def test_list_has_a_line_for_a_name(data: Path, run: Run) -> None:
    model, card = load("tiny", 0)
    for seed in (0, 1, 2, 4):
        save_checkpoint(model, card, "a-name-longer-than-twenty-letters", seed)
    save_checkpoint(model, {**card, "steps": 3}, "tiny", 7)
    lines = run("list").output.splitlines()
    told = f"{card['parameters']:,} parameters, "
    assert lines[lines.index("Checkpoints") + 1 :] == [
        f"  a-name-longer-than-twenty-letters  seeds 0 to 2, 4  {told}0 steps",
        f"  {'tiny':<33}  seeds 0, 1       {told}0 steps",
        f"  {'tiny':<33}  seed 7           {told}3 steps",
    ]
    assert lines[1] == f"  {'tiny':<33}  Six nodes, for tests"


@pytest.mark.parametrize(
    ("commands", "without"),
    [
        ("train", "those of the recipe"),
        ("evaluate", "0"),
        ("haystack stream long-run bits search lookups nights fine", "all there are"),
    ],
)
def test_help_says_which_seeds_are_taken(run: Run, commands: str, without: str) -> None:
    for command in commands.split():
        told = " ".join(run(f"{command} --help").output.split())
        assert f"One seed or several. [default: ({without});" in told, told


def test_doctor_finds_what_is_broken(data: Path, run: Run) -> None:
    well = run("doctor")
    assert well.exit_code == 0 and "WRONG" not in well.output, well.output
    assert f"torch {torch.__version__}" in well.output and "ipywidgets" in well.output
    assert "1 recipes and 2 checkpoints 0 are bad" in well.output
    weights = data / "checkpoints" / "tiny-s0.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (data / "recipes" / "tiny.toml").write_text(TOML + "sped = 1\n")
    broken = run("doctor")
    assert broken.exit_code == 1 and broken.output.count("WRONG") == 3
    assert "cut short" in broken.output and "'sped'" in broken.output


def test_doctor_misses_a_widget_package(data: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.doctor.WIDGETS", ("ipywidgets", "no-such-widgets"))
    result = run("doctor")
    assert result.exit_code == 1 and "no-such-widgets is not installed" in result.output


def test_help_needs_no_torch(run: Run) -> None:
    assert run("--help").exit_code == 0
    subprocess.run([sys.executable, "-c", "import sys, labkit.cli; sys.exit('torch' in sys.modules)"], check=True)
