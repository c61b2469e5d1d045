"""The interaction of task and knob against a plain computation, and what must be refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from labkit import contrasts
from labkit.cli import app
from labkit.evaluate import Evaluation
from labkit.files import data_dir
from labkit.results import store

SEEDS, N, PASSES = 3, 40, (1, 2, 4, 8)
Chances = dict[tuple[str, int, int], float]


def chances(k_mqar: float, n_mqar: float, k_depo: float, n_depo: float) -> Chances:
    """Chances of a right answer that rise by this much from the smallest to the largest K, and N from 1 to 4."""
    steps = {4: 0.0, 8: 0.5, 16: 1.0}
    more = {1: 0.0, 2: 0.5, 4: 1.0, 8: 1.0}
    rise = {"mqar": (k_mqar, n_mqar), "depo": (k_depo, n_depo)}
    return {
        (task, k, p): 0.2 + by_k * steps[k] + by_n * more[p]
        for task, (by_k, by_n) in rise.items()
        for k in steps
        for p in PASSES
    }


def write(folder: Path, table: Chances, *, n: int = N, seeds: int = SEEDS) -> None:
    """Stored answers, drawn with these chances."""
    generator = np.random.default_rng(1)
    for task, k in dict.fromkeys((t, k) for t, k, _ in table):
        questions = 8 if task == "mqar" else 3
        found = []
        for seed in range(seeds):
            correct = np.stack([generator.random((n, questions)) < table[task, k, p] for p in PASSES])
            found.append(
                Evaluation(
                    checkpoint=f"grid-{task}-{k}",
                    seed=seed,
                    weights=f"{seed}" * 64,
                    exam=seed,
                    passes=PASSES,
                    depth=np.arange(questions) % 3 + 1,
                    group=np.arange(questions),
                    correct=correct.astype(np.uint8),
                    floors={1: 0.1, 2: 0.1, 3: 0.1},
                    flops_sleep=(1,) * 4,
                    flops_wake=(1,) * 4,
                    seconds_sleep=(1.0,) * 4,
                    seconds_wake=(1.0,) * 4,
                )
            )
        store(found, folder / f"grid-{task}-{k}.csv")


@pytest.fixture
def clear(tmp_path: Path) -> Path:
    """Answers in which K cures MQAR and N cures Depo."""
    write(tmp_path, chances(0.6, 0.05, 0.1, 0.5))
    return tmp_path


def share(folder: Path, task: str, k: int, passes: int, seed: int | None = None) -> float:
    """The share right, straight from the file."""
    with np.load(folder / f"grid-{task}-{k}.npz") as file:
        correct = file["correct"][:, file["passes"].tolist().index(passes)]
    return float((correct if seed is None else correct[seed]).mean())


def test_effects_and_interaction_are_differences_of_mean_shares(clear: Path) -> None:
    found = contrasts.contrast(clear)
    assert found["levels"] == {"K": [4, 8, 16], "N": [1, 2, 4]} and found["n"] == N
    plain = {}
    for task in ("mqar", "depo"):
        by_k = [share(clear, task, 16, p) - share(clear, task, 4, p) for p in (1, 2, 4)]
        by_n = [share(clear, task, k, 4) - share(clear, task, k, 1) for k in (4, 8, 16)]
        plain[task] = (np.mean(by_k), np.mean(by_n))
        assert np.allclose([e["value"] for e in found["effects"][task]["K"]["at"]], by_k)
        assert np.allclose([e["value"] for e in found["effects"][task]["N"]["at"]], by_n)
        assert [e["N"] for e in found["effects"][task]["K"]["at"]] == [1, 2, 4]
        assert np.isclose(found["effects"][task]["K"]["value"], plain[task][0])
        assert np.isclose(found["effects"][task]["N"]["value"], plain[task][1])
    leads = {"K": plain["mqar"][0] - plain["depo"][0], "N": plain["depo"][1] - plain["mqar"][1]}
    assert all(np.isclose(found["leads"][knob]["value"], lead) for knob, lead in leads.items())
    interaction = sum(leads.values())
    assert np.isclose(found["interaction"]["value"], interaction)
    assert np.isclose(np.mean(found["interaction"]["by_seed"]), interaction)
    for e in found["cells"]:
        assert np.isclose(e["value"], share(clear, e["task"], e["K"], e["N"]))
        assert e["low"] <= e["value"] <= e["high"]
    assert len(found["cells"]) == 2 * 3 * 4


@pytest.mark.parametrize(
    ("table", "word"),
    [
        (chances(0.6, 0.05, 0.1, 0.5), "Supported"),
        (chances(0.05, 0.6, 0.5, 0.1), "Refuted"),
        (chances(0.6, 0.2, 0.0, 0.0), "Refuted"),  # the sum is far above zero, but half of the statement is false
        (chances(0.3, 0.3, 0.3, 0.3), "Undecided"),
    ],
)
def test_the_verdict_follows_the_numbers(tmp_path: Path, table: Chances, word: str) -> None:
    write(tmp_path, table)
    found = contrasts.contrast(tmp_path)
    assert contrasts.verdict(found).startswith(word)
    e = found["interaction"]
    assert f"{e['value']:+.2f} [{e['low']:+.2f}, {e['high']:+.2f}]" in contrasts.verdict(found)


def test_seeds_that_differ_widen_the_interval(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write(one, chances(0.3, 0.3, 0.3, 0.3), n=400)
    write(other, chances(0.3, 0.3, 0.3, 0.3), n=400)
    with np.load(other / "grid-mqar-16.npz") as file:
        parts = dict(file)
    parts["correct"][0] = 1  # a lucky seed
    parts["correct"][1] = 0
    np.savez_compressed(other / "grid-mqar-16.npz", **parts)
    width = [f["high"] - f["low"] for f in (contrasts.contrast(p)["interaction"] for p in (one, other))]
    assert width[1] > 5 * width[0]


def test_only_common_sizes_enter_the_effects(clear: Path) -> None:
    (clear / "grid-depo-4.csv").unlink()
    found = contrasts.contrast(clear)
    assert found["levels"]["K"] == [8, 16]
    assert {(e["task"], e["K"]) for e in found["cells"]} >= {("mqar", 4), ("mqar", 8), ("depo", 8)}
    assert np.isclose(
        found["effects"]["mqar"]["K"]["at"][0]["value"], share(clear, "mqar", 16, 1) - share(clear, "mqar", 8, 1)
    )


def test_what_cannot_be_compared_is_refused(clear: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"at least two K of both tasks.*mqar: none; depo: none"):
        contrasts.contrast(clear / "nowhere")
    few = clear / "few"
    write(few, {key: c for key, c in chances(0, 0, 0, 0).items() if key[1] == 4}, n=10)
    with pytest.raises(FileNotFoundError, match=r"mqar: \[4\]; depo: \[4\]"):
        contrasts.contrast(few)
    write(clear, {key: 0.5 for key in chances(0, 0, 0, 0) if key[:2] == ("depo", 8)}, n=N // 2)
    with pytest.raises(ValueError, match=r"grid-depo-8 was asked 20 instances.*give both one --n"):
        contrasts.contrast(clear)
    write(clear, {key: 0.5 for key in chances(0, 0, 0, 0) if key[:2] == ("depo", 8)}, seeds=2)
    with pytest.raises(ValueError, match=r"grid-depo-8 was evaluated on seeds \[0, 1\], but.*\[0, 1, 2\]"):
        contrasts.contrast(clear)


def test_written_and_read_back(clear: Path) -> None:
    path = contrasts.write(clear)
    assert path == clear / "capacity-versus-compute.json" and not list(clear.glob(".*"))
    found, first = contrasts.read(clear), path.read_bytes()
    assert np.isclose(found["interaction"]["low"], contrasts.contrast(clear)["interaction"]["low"], atol=1e-6)
    assert contrasts.write(clear).read_bytes() == first, "the numbers must not depend on the moment"
    path.write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        contrasts.read(clear)
    path.write_text(json.dumps({"format": "another"}))
    with pytest.raises(ValueError, match="not of the format"):
        contrasts.read(clear)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="labkit contrast"):
        contrasts.read(clear)


def test_the_command(clear: Path) -> None:
    done = CliRunner().invoke(app, ["contrast", "--folder", str(clear)])
    assert done.exit_code == 0 and "Supported" in done.output and (clear / contrasts.FILE).is_file()
    refused = CliRunner().invoke(app, ["contrast", "--folder", str(clear / "nowhere")])
    assert refused.exit_code == 2 and "at least two K" in refused.output


def test_the_stored_contrast_is_that_of_the_stored_answers() -> None:
    folder = data_dir() / "results"
    grid = contrasts.grid_files(folder)
    if not (folder / contrasts.FILE).is_file():
        common = set(grid["mqar"]) & set(grid["depo"])
        assert len(common) < 2, "the grid is evaluated: run `labkit contrast`"
        return
    stored, fresh = contrasts.read(folder), contrasts.contrast(folder)
    assert stored["weights"] == fresh["weights"]
    assert np.isclose(stored["interaction"]["value"], fresh["interaction"]["value"], atol=1e-6)
    assert np.isclose(stored["interaction"]["low"], fresh["interaction"]["low"], atol=1e-6)
