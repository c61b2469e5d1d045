"""`labkit bench`: what is wrong is refused, what is right is timed, and what is told follows from the rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from labkit.bench import Candidate, Roof, delta, measure_roof, models, peak_bytes, race, subjects, titans
from labkit.bench.growth import exponent
from labkit.checkpoints import load
from labkit.checks import relative_error
from labkit.cli import app
from labkit.explore import kernel_speed
from labkit.kernels import gated_delta, gated_delta_rule
from labkit.kernels.gated_delta import chunked, plain
from labkit.machine import installed

HOW: dict[str, Any] = {"repeats": 2, "threads": 1, "quiet": True}
ROOF = Roof(1e11, 1e10)
CPU = torch.device("cpu")
SMALL = {"batch": 1, "heads": 2, "width": 16}


def constant(value: float, **options: Any) -> Candidate:
    return Candidate(f"always {value}", lambda: [torch.full((3,), value)], **options)


# ------------------------------------------------------------------------------------------- refusing


@pytest.mark.parametrize("spoilt", [1.1, float("nan")], ids=["wrong", "not a number"])
def test_a_wrong_form_of_our_own_stops_the_race(spoilt: float) -> None:
    wanted = [torch.ones(3)]
    with pytest.raises(ArithmeticError, match=r"is not timed: its result 0 is .* the float64 reference, where 1e-05"):
        race([constant(1.0), constant(spoilt)], wanted, limit=1e-5, **HOW)


def test_a_wrong_rival_is_refused_and_the_others_are_timed() -> None:
    rivals = [constant(1.1, own=False), constant(1.0, own=False), constant(9.0, own=False, other="another function")]
    rows, refused = race([constant(1.0), *rivals], [torch.ones(3)], limit=1e-5, **HOW)
    assert [row["candidate"] for row in rows] == ["always 1.0", "always 1.0", "always 9.0"]
    assert len(refused) == 1 and refused[0].startswith("always 1.1 is not timed")


def test_a_rival_that_fails_is_told_and_our_own_failure_stops_the_race() -> None:
    def fails() -> list[Tensor]:
        raise RuntimeError("needs another Triton")

    for own in (False, True):
        found = [constant(1.0), Candidate("broken", fails, own=own)]
        if own:
            with pytest.raises(RuntimeError, match="needs another Triton"):
                race(found, [torch.ones(3)], limit=1e-5, **HOW)
        else:
            rows, refused = race(found, [torch.ones(3)], limit=1e-5, **HOW)
            assert [row["candidate"] for row in rows] == ["always 1.0"]
            assert refused == ["broken is not timed, it fails: RuntimeError: needs another Triton"]


def test_a_candidate_may_have_a_limit_of_its_own() -> None:
    near = constant(1.01, limit=0.05)
    rows, _ = race([constant(1.0), near], [torch.ones(3)], limit=1e-5, **HOW)
    assert rows[1]["error"] == pytest.approx(0.01, rel=1e-4)


def broken(*args: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """Right in its values; the gradient of the keys is a thousandth too large."""
    q, k, *others = args
    return chunked.chunked_gated_delta_rule(q, 1.001 * k - 0.001 * k.detach(), *others, **options)


def test_a_broken_kernel_is_refused_by_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gated_delta, "chunked_gated_delta_rule", broken)
    monkeypatch.setattr(delta, "_rivals", lambda device: iter(()))
    out = tmp_path / "rows.csv"
    asked = ["bench", "delta", "--size", "40", "--repeats", "2", "--quiet", "--threads", "1", "--out", str(out)]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 2 and not out.exists()
    assert "labkit is not timed: its result 3 is 1.0e-03 from the float64 reference" in told.output


def test_a_rival_that_is_wrong_on_hard_inputs_is_refused_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that inverts in float32, as others do, on equal keys; and one that is not installed says so."""

    def short(q: Tensor, k: Tensor, v: Tensor, **named: Any) -> tuple[Tensor, Tensor]:
        named.pop("output_final_state")
        g, beta, state = (named[name] for name in ("g", "beta", "initial_state"))
        return recurrence_in_bfloat16(q, k, v, g, beta, state)

    def missing() -> Any:
        raise ImportError("No module named 'rival'")

    rivals = [("short", lambda: delta._final(short)), ("gone", missing)]
    monkeypatch.setattr(delta, "_rivals", lambda device: iter(rivals))
    rows, told = delta.measure(20, **SMALL, case="equal keys", device=CPU, roof=ROOF, **HOW)
    assert {row["candidate"] for row in rows} == {"labkit", "labkit plain", "labkit recurrent"}
    assert any(sentence.startswith("short is not timed: its result") for sentence in told)
    assert "gone is not timed: No module named 'rival'. pip install -e '.[bench]' installs it." in told


def recurrence_in_bfloat16(*tensors: Tensor) -> tuple[Tensor, Tensor]:
    q, k, v, g, beta, state = (t.bfloat16().float() for t in tensors)
    return gated_delta_rule(q, k, v, g, beta, initial_state=state, backend="recurrent")


# --------------------------------------------------------------------------------------------- timing


def test_the_slower_of_two_is_told_to_be_slower() -> None:
    def work(times: int) -> Candidate:
        a = torch.randn(200, 200)

        def run() -> list[Tensor]:
            for _ in range(times):
                a @ a
            return [torch.ones(3)]

        return Candidate(f"{times} products", run)

    rows, _ = race([work(10), work(80)], [torch.ones(3)], limit=0, repeats=5, threads=1, quiet=True)
    first, second = rows
    assert first["ratio"] == first["ratio_low"] == 1 and second["ratio"] > 3
    assert second["ratio_low"] <= second["ratio"] <= second["ratio_high"]
    assert 0 < first["low"] <= first["seconds"] <= first["high"] < second["seconds"]
    with pytest.raises(ValueError, match="at least 2"):
        race([work(1)], [torch.ones(3)], limit=0, repeats=1, threads=1)


def test_peak_memory_is_what_tensors_take_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    def run() -> Tensor:
        a = torch.zeros(1000, 1000)  # 4 MB
        b = a + 1  # 8 MB
        del a
        return b + 1  # 8 MB again

    assert peak_bytes(run) == pytest.approx(8e6, rel=0.01)
    assert capfd.readouterr().err == ""  # the profiler tells nothing by itself


def test_the_roof_of_this_machine() -> None:
    roof = measure_roof(CPU, 1)
    assert 1e8 < roof.flops < 1e14 and 1e8 < roof.bytes < 1e13
    assert Roof(100.0, 10.0).seconds(1000, 50) == 10 and Roof(100.0, 10.0).seconds(100, 50) == 5


# ---------------------------------------------------------------------------------- the gated delta rule


def test_the_reference_is_the_float64_recurrence_also_across_its_segments() -> None:
    inputs, weights = delta.typical(1, 2 * delta.SEGMENT + 3, 2, 8)
    leaves = {name: t.double().requires_grad_() for name, t in inputs.items()}
    found = gated_delta_rule(**leaves, backend="recurrent")  # type: ignore[arg-type]
    slopes = torch.autograd.grad(found, list(leaves.values()), [w.double() for w in weights])
    for a, b in zip(delta.reference(inputs, weights), (*found, *slopes), strict=True):
        assert relative_error(a, b) < 1e-13


@pytest.mark.parametrize("gradients", [True, False])
def test_rows_of_the_gated_delta_rule(monkeypatch: pytest.MonkeyPatch, gradients: bool) -> None:
    monkeypatch.setattr(delta, "_rivals", lambda device: iter(()))
    rows, told = delta.measure(
        40, **SMALL, gradients=gradients, chunks=(8, 16), device=CPU, roof=ROOF, **HOW
    )
    table, chosen = pd.DataFrame(rows), "Several tokens share their work in chunks."
    assert told == [f"labkit takes its chunked form. {chosen}"] and list(table["candidate"]) == [
        "labkit", "labkit plain", "labkit, chunks of 16", "labkit plain, chunks of 8", "labkit plain, chunks of 16",
        "labkit recurrent",
    ]  # fmt: skip
    assert (table["error"] < 1e-5).all() and (table["peak_mib"] > 0).all()
    np.testing.assert_allclose(table["roofline"], table["floor"] / table["seconds"])
    few = table.set_index("candidate")["peak_mib"]
    assert not gradients or few["labkit"] < few["labkit recurrent"]  # a state for each token is kept there


def test_only_what_is_asked_for_is_raced_with_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise AssertionError("what was not asked for was imported")

    monkeypatch.setattr(delta, "_rivals", lambda device: iter([("somebody's", absent)]))
    rows, _ = delta.measure(20, **SMALL, only=("*plain",), device=CPU, roof=ROOF, **HOW)
    assert [row["candidate"] for row in rows] == ["labkit", "labkit plain"]
    with pytest.raises(ValueError, match="Nothing here is called 'nobody'; there are labkit, labkit plain, "):
        delta.measure(20, **SMALL, only=("*plain", "nobody"), device=CPU, roof=ROOF, **HOW)


def test_kernels_of_others_may_have_fewer_digits_where_numbers_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 they may be 2% off and are timed; in float32 they are refused."""

    def load() -> Any:
        return lambda **inputs: tuple(1.02 * t for t in gated_delta_rule(**inputs, backend="chunked"))

    monkeypatch.setattr(delta, "_rivals", lambda device: iter([("somebody's Triton", load)]))
    raced = {"only": ("somebody's*",), "device": CPU, "roof": ROOF, "gradients": False, **HOW}
    rows, _ = delta.measure(20, **SMALL, dtype=torch.bfloat16, **raced)
    assert rows[-1]["candidate"] == "somebody's Triton" and 0.015 < rows[-1]["error"] < 0.025
    rows, told = delta.measure(20, **SMALL, **raced)
    assert len(rows) == 1 and "somebody's Triton is not timed" in told[1]


@pytest.mark.parametrize("form", [models.frozen, models.token_by_token])
def test_models_take_the_form_that_is_named_and_only_for_as_long(form: Any) -> None:
    inputs, _ = delta.typical(1, 40, 2, 16)
    usual = gated_delta_rule(**inputs)[0]  # type: ignore[arg-type]
    with form():
        other = gated_delta_rule(**inputs)[0]  # type: ignore[arg-type]
    assert relative_error(other, usual) < 1e-5 and not torch.equal(other, usual)
    assert torch.equal(gated_delta_rule(**inputs)[0], usual)  # type: ignore[arg-type]
    scale = {"scale": inputs["q"].shape[-1] ** -0.5, "chunk_size": 64}
    assert form is not models.frozen or torch.equal(plain.chunked_gated_delta_rule(**inputs, **scale)[0], other)


# --------------------------------------------------------------------------------- memories and models


def test_the_neural_memory_is_held_to_its_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    def theirs(data: Any, chunk: int) -> Any:
        if chunk == 4:
            raise ImportError("No module named 'titans_pytorch'")
        return lambda: [1.01 * t for t in titans.ours(data, chunk)()]

    monkeypatch.setattr(titans, "theirs", theirs)
    (row,), told = titans.measure(9, 4, batch=2, roof=ROOF, **HOW)
    assert row["candidate"] == "labkit" and row["error"] < 1e-5
    missing = "No module named 'titans_pytorch'. pip install -e '.[bench]' installs it."
    assert told == [f"titans-pytorch is not timed: {missing}"]
    (row,), told = titans.measure(9, 1, batch=2, roof=ROOF, **HOW)
    assert "titans-pytorch is not timed: its result" in told[0]
    rows, told = titans.measure(9, 3, batch=2, roof=ROOF, **HOW)  # another function in longer chunks, and marked so
    assert len(rows) == 2 and told == []


def test_a_case_with_a_limit_of_its_own_is_raced_under_it() -> None:
    raced = {"only": ("labkit recurrent",), "device": CPU, "roof": ROOF, "gradients": False, **HOW}
    rows, _ = delta.measure(1000, **SMALL, case="keys in turn", **raced)
    assert 1e-5 < rows[-1]["error"] < 1e-4, "refused, if held to what other cases are"
    wrong = Candidate("labkit", lambda: [torch.full((3,), 1.00005)])
    with pytest.raises(ArithmeticError, match="where 3e-05 is allowed"):
        race([delta._held_to(wrong, "chunked", torch.float32, "keys in turn")], [torch.ones(3)], limit=1e-5, **HOW)


def test_what_a_slider_asks_for_is_timed_plain_and_fast() -> None:
    rows, told = models.awake("depo-elastic", 2, roof=ROOF, **HOW)
    assert [row["candidate"] for row in rows] == ["fast", "plain"] and told == []
    assert all(row["error"] < 1e-4 and row["passes"] == 2 for row in rows)
    model, _ = load("depo-elastic", 0)
    weights = sum(p.nbytes for p in model.parameters())
    counted = {n: models.awake("depo-elastic", n, roof=ROOF, **HOW)[0][0] for n in (1, 3)} | {2: rows[0]}
    assert counted[3]["flops"] - counted[2]["flops"] == counted[2]["flops"] - counted[1]["flops"] > 0
    assert [counted[n]["bytes"] for n in (1, 2, 3)] == [2 * weights, 3 * weights, 4 * weights]


def test_a_training_step_is_timed_plain_and_fast() -> None:
    from labkit.recipes import load_recipe

    rows, told = models.training(load_recipe("depo-elastic"), 1, compiled=False, roof=ROOF, **HOW)
    assert [row["candidate"] for row in rows] == ["plain, eager", "fast, eager"] and told == []
    assert all(row["error"] < 1e-4 for row in rows)


# ---------------------------------------------------------------------------------------------- growth


def test_an_exponent_is_recovered_and_its_interval_covers_it() -> None:
    sizes, chance, covered = np.array([64, 128, 256, 512, 1024]), np.random.default_rng(0), 0
    for _ in range(400):
        slope = exponent(sizes, 3e-6 * sizes**1.5 * np.exp(0.05 * chance.standard_normal(5)))
        covered += slope.low <= 1.5 <= slope.high
    assert 0.92 <= covered / 400 <= 0.98
    with pytest.raises(ValueError, match="at least 3 sizes, but there are 2"):
        exponent([1, 2], [1, 2])


def test_growth_is_told_for_what_has_three_sizes() -> None:
    rows = [{"candidate": "a", "length": t, "seconds": t / 1e6} for t in (10, 20, 40)]
    rows += [{"candidate": "b", "length": t, "seconds": t / 1e6} for t in (10, 20)]
    grown = subjects.growth(pd.DataFrame(rows), "delta")
    assert list(grown["candidate"]) == ["a"] and grown["exponent"][0] == pytest.approx(1)


# --------------------------------------------------------------------------------------------- command


def test_the_command_writes_its_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(delta, "_rivals", lambda device: iter(()))
    out = tmp_path / "rows.csv"
    sizes = ["--size", "3", "20", "40", "--batch", "1", "--heads", "1", "--width", "8"]
    asked = ["bench", "delta", *sizes, "--repeats", "2", "--threads", "1", "--quiet", "--out", str(out)]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    assert "Roof:" in told.output and "Seconds grow with length to the power of:" in told.output
    table = pd.read_csv(out)
    assert sorted(table["length"].unique()) == [3, 20, 40] and {"processor", "torch", "roof_flops"} <= set(table)
    assert table["torch"][0] == torch.__version__ and installed("no-such-package") == {}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["gamma"], "There is no subject 'gamma' to time; there are delta, titans, training, awake."),
        (["awake", "--width", "32"], "width would do nothing to 'awake'; leave it out."),
        (["titans", "--values", "--case", "equal keys"], "case, gradients would do nothing to 'titans'; leave it out."),
        (["delta", "--dtype", "float16"], "dtype must be float32 or bfloat16, but it is 'float16'."),
        (["delta", "--out", "rows.txt"], "--out must end in .csv, but it is rows.txt."),
        (["delta", "--device", "meta2"], "There is no device 'meta2' here"),
        (["delta", "--size", "5", "--case", "odd", "--quiet"], "There is no case 'odd'"),
    ],
)
def test_mistakes_are_told_in_sentences(asked: list[str], sentence: str) -> None:
    told = CliRunner().invoke(app, ["bench", *asked])
    assert told.exit_code == 2 and f"labkit: {sentence}" in told.output


# ------------------------------------------------------------------------------------------ stored rows


def test_what_is_stored_keeps_what_is_promised(repo: Path) -> None:
    """At B = 4, H = 4, K = V = 64: 1.5 times faster than both rivals, forward and backward, with no more memory."""
    rows = pd.read_csv(repo / "data" / "results" / "bench-delta.csv")
    assert (rows[["batch", "heads", "width", "gradients"]].drop_duplicates().to_numpy() == [4, 4, 64, True]).all()
    longest = pd.read_csv(repo / "data" / "results" / "bench-delta-long.csv").set_index("candidate")
    assert (longest["length"] == 16384).all() and longest["error"].max() <= 1e-5
    assert longest["ratio"]["transformers fallback"] >= 1.5 and longest["peak_mib"].idxmin() == "labkit"
    for length in (256, 1024, 4096):
        at = rows[rows["length"] == length].set_index("candidate")
        for rival in ("transformers fallback", "flash-linear-attention naive"):
            assert at["ratio"][rival] >= 1.5, (length, rival)
            assert at["peak_mib"]["labkit"] <= at["peak_mib"][rival], (length, rival)
        assert (at["error"] <= 1e-5).all()


def test_the_commands_that_make_the_rows_are_told_alike(repo: Path) -> None:
    table = (repo / "data" / "README.md").read_text(encoding="utf-8")
    for command in (kernel_speed.GPU_COMMAND, kernel_speed.CHUNKS_COMMAND):
        rows = pd.read_csv(repo / command.split("--out ")[1])
        asked = re.search(r"--repeats (\d+)", command)
        assert f"| `{command}` |" in table and set(rows["repeats"]) == {int(asked[1]) if asked else 11}


def test_the_readme_tells_these_rows(repo: Path) -> None:
    """Milliseconds, and how many times as long each rival takes in the chunks that suit it best."""
    told = " ".join((repo / "README.md").read_text(encoding="utf-8").split())
    rows = pd.read_csv(repo / "data" / "results" / "bench-delta.csv")
    lengths, own = (256, 1024, 4096), rows[rows["candidate"] == "labkit"].set_index("length")["seconds"]
    first, second, third = (f"{1000 * own[t]:.0f}" for t in lengths)
    assert f"it takes {first}, {second} and {third} ms for 256, 1,024 and 4,096 tokens" in told
    for start, rival in (("transformers", "the fallback of `transformers`"), ("flash", "the naive form of")):
        least = rows[rows["candidate"].str.startswith(start)].groupby("length")["ratio"].min()
        first, second, third = (f"{least[t]:.1f}" for t in lengths)
        assert f"{first}, {second} and {third} times less than {rival}" in told
    kernels = pd.read_csv(repo / "data" / "results" / "bench-delta-cuda.csv")
    others = kernels[~kernels["own"]].set_index("length")
    assert f"take {others['ratio'][1024]:.1f} times less than those of flash-linear-attention for 1,024 tokens" in told
    low, high = (f"{others[side][4096]:.2f}" for side in ("ratio_low", "ratio_high"))
    assert f"quartiles {low.lstrip('0')} to {high}" in told and low < "1" < high
    steps = pd.read_csv(repo / "data" / "results" / "bench-training.csv")
    steps = steps[steps["passes"] == 4].set_index("candidate")
    assert f"is {1 / steps['ratio']['fast, compiled']:.1f} times as fast as with the plain form" in told


def test_what_a_slider_asks_for_stays_below_30_ms_on_one_core(repo: Path) -> None:
    told = " ".join((repo / "README.md").read_text(encoding="utf-8").split())
    rows = pd.read_csv(repo / "data" / "results" / "bench-awake.csv")
    fast = rows[rows["candidate"] == "fast"].set_index("passes")["seconds"]
    assert set(rows["threads"]) == {1} and fast[8] < 0.03
    assert f"takes {1000 * fast[8]:.0f} ms on one core" in told
    by_length = pd.read_csv(repo / "data" / "results" / "bench-delta.csv")
    for table, what, axis in ((by_length, "delta", "T"), (rows, "awake", "N")):
        own = subjects.growth(table, what).set_index("candidate").loc["labkit" if what == "delta" else "fast"]
        ends = ", ".join(f"{own[end]:.2f}".lstrip("0") for end in ("low", "high"))
        assert f"grows as {axis} to the power of {own['exponent']:.2f}".replace(" 0.", " .") + f" [{ends}]" in told


def test_short_texts_without_gradients_are_faster_than_in_the_plain_form(repo: Path) -> None:
    rows = pd.read_csv(repo / "data" / "results" / "bench-short.csv")
    ratios = rows[rows["candidate"] == "labkit plain"].set_index("length")["ratio"]
    assert set(ratios.index) == {4, 8, 16, 32} and not rows["gradients"].any() and ratios.min() > 1.1
    told = " ".join((repo / "data" / "LOG.md").read_text(encoding="utf-8").split())
    assert f"takes {ratios.min():.2f} to {ratios.max():.2f} times as long for 4 to 32 tokens" in told


def test_the_log_tells_how_long_a_step_takes_to_compile(repo: Path) -> None:
    rows = pd.read_csv(repo / "data" / "results" / "bench-training.csv").set_index(["candidate", "passes"])
    compiled = rows.loc["fast, compiled"]
    for file in ("README.md", "data/LOG.md"):
        assert f"({compiled['first_seconds'].sum():.0f} s " in (repo / file).read_text(encoding="utf-8")
    faster = [f"{1 / ratio:.1f}" for ratio in compiled["ratio"]]
    told = " ".join((repo / "data" / "LOG.md").read_text(encoding="utf-8").split())
    assert f"compiled {faster[0]}, {faster[1]}, {faster[2]} and {faster[3]} times as fast" in told
