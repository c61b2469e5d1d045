"""The gated delta rule: every form against the float64 recurrence, and the recurrence against the paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

from labkit import checks, checks_titans
from labkit.cli import app
from labkit.kernels import gated_delta_rule

NAMES = ("q", "k", "v", "g", "beta")
FORMS = ("recurrent", "chunked")
each_form = pytest.mark.parametrize("backend", FORMS)


def drawn(case: str = "random", length: int = 21, filled: bool = True, **sizes: int) -> dict[str, Tensor]:
    inputs, _ = checks.draw(case, length, filled, torch.Generator().manual_seed(3), **sizes)
    return inputs


def rule(inputs: dict[str, Tensor], **options: Any) -> tuple[Tensor, Tensor]:
    return gated_delta_rule(**inputs, **options)  # type: ignore[arg-type]


def in_dtype(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: t.to(dtype) for name, t in inputs.items()}


# ------------------------------------------------------------------------------------ values and gradients


@pytest.mark.parametrize("case", checks.CASES)
def test_every_form_equals_the_reference_in_values_and_gradients(case: str) -> None:
    """Nothing to ragged lengths, chunks of 1 to 128, with and without a state, float64, float32 and bfloat16."""
    rows = checks.gated_delta_errors(cases=[case])
    bad = [row for row in rows if not row.error <= checks.limit_of(row, checks.LIMITS)]
    assert bad == []
    # nothing was left out: outputs and state, and the gradients of five inputs, of six with a state
    found = {(r.backend, r.dtype, r.length, r.chunk, r.filled, r.what) for r in rows}
    forms = 3 * len(checks.CHUNKS) + 2
    assert len(found) == len(rows) == len(checks.LENGTHS) * forms * (7 + 8)
    compared = {row.what for row in rows if row.filled}
    assert compared == {"o", "state", *(f"gradient of {name}" for name in (*NAMES, "initial_state"))}


def test_the_comparison_would_see_an_error() -> None:
    b = torch.tensor([3.0, 4.0])
    assert checks.relative_error(b * 1.001, b) == pytest.approx(1e-3, rel=1e-3)
    assert checks.relative_error(0 * b, 0 * b) == 0
    assert checks.relative_error(b, 0 * b) == math.inf
    assert checks.relative_error(b * torch.nan, b) == math.inf
    assert checks.relative_error(b[:0], b[:0]) == 0


def test_the_printed_summary_names_the_worst_of_each_kind() -> None:
    rows = checks.gated_delta_errors(cases=["random"], lengths=[3], chunks=[2])
    lines = list(checks.summary(rows, checks.LIMITS))
    assert len(lines) == 10  # three dtypes chunked, two recurrent; values and gradients of each
    worst = max(r.error for r in rows if r.dtype == torch.float32 and r.what in ("o", "state"))
    assert any(f"{worst:.1e}" in line for line in lines)


@pytest.mark.parametrize("promise", [1.0, 0.0], ids=["kept", "broken"])
def test_the_command_prints_the_summary_and_says_when_it_is_worse_than_promised(
    monkeypatch: pytest.MonkeyPatch, promise: float
) -> None:
    rows = checks.gated_delta_errors(cases=["random"], lengths=[3], chunks=[2])
    others = checks_titans.neural_memory_errors(layers=[1], lengths=[3], chunks=[2])
    monkeypatch.setattr(checks, "errors_on", lambda device, **options: rows)
    monkeypatch.setattr(checks_titans, "errors_on", lambda device, **options: others)
    monkeypatch.setattr(checks_titans, "chunk_distances", lambda: ["far", "farther"])
    monkeypatch.setattr(checks, "LIMITS", {dtype: promise * limit for dtype, limit in checks.LIMITS.items()})
    told = CliRunner().invoke(app, ["check"])
    assert told.exit_code == (0 if promise else 1)
    lines = ["Gated delta rule", *(f"  {line}" for line in checks.summary(rows, checks.LIMITS))]
    lines += ["Neural memory", *(f"  {line}" for line in checks.summary(others, checks_titans.LIMITS))]
    assert told.output.splitlines() == [*lines, "far", "farther"]


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(0, 3),
    length=st.integers(0, 70),
    heads=st.integers(1, 3),
    key_dim=st.integers(1, 9),
    value_dim=st.integers(1, 9),
    chunk=st.integers(1, 128),
    case=st.sampled_from(sorted(checks.CASES)),
    filled=st.booleans(),
)
def test_any_shape(
    batch: int, length: int, heads: int, key_dim: int, value_dim: int, chunk: int, case: str, filled: bool
) -> None:
    # in one channel all keys are one, beta 1 erases everything at every token, and most gradients are 0
    assume(case != "keys in turn" or key_dim > 1)
    sizes = {"batch": batch, "heads": heads, "key_dim": key_dim, "value_dim": value_dim}
    inputs, weights = checks.draw(case, length, filled, torch.Generator().manual_seed(1), **sizes)
    wanted = checks.results(inputs, weights, torch.float64, "recurrent", 1)
    assert wanted["o"].shape == (batch, length, heads, value_dim)
    assert wanted["state"].shape == (batch, heads, key_dim, value_dim)
    for dtype in (torch.float64, torch.float32):
        limit = checks.LIMITS[dtype]
        found = checks.results(inputs, weights, dtype, "chunked", chunk)
        for what, right in wanted.items():
            # a gradient may be nothing but rounding (along a key of one channel, say) and has no digits then
            # to compare; so a bound that goes with the size of the inputs stands in where that is larger
            slack = 1e-6 if dtype == torch.float32 else 1e-12
            assert found[what].shape == right.shape
            assert (found[what].double() - right).norm() <= limit * right.norm() + slack, (what, dtype)


def written_from_the_paper(inputs: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Equation 10 of 2412.06464 as printed, ``S_t = S_{t-1} (α (I − β k kᵀ)) + β v kᵀ`` with S of [V, K]."""
    q, k, v, g, beta = (inputs[name].double().numpy() for name in NAMES)
    batch, length, heads, key_dim = q.shape
    o = np.zeros((batch, length, heads, v.shape[-1]))
    last = np.zeros((batch, heads, key_dim, v.shape[-1]))
    for b in range(batch):
        for h in range(heads):
            S = inputs["initial_state"][b, h].double().numpy().T if "initial_state" in inputs else last[b, h].T
            for t in range(length):
                alpha, strength, key = math.exp(g[b, t, h]), beta[b, t, h], k[b, t, h]
                S = S @ (alpha * (np.eye(key_dim) - strength * np.outer(key, key)))
                S = S + strength * np.outer(v[b, t, h], key)
                o[b, t, h] = S @ q[b, t, h] / math.sqrt(key_dim)
            last[b, h] = S.T
    return o, last


@each_form
@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
@pytest.mark.parametrize("case", checks.CASES)
def test_both_forms_are_the_equation_of_the_paper(case: str, filled: bool, backend: str) -> None:
    inputs = in_dtype(drawn(case, 21, filled), torch.float64)
    o, state = rule(inputs, backend=backend, chunk_size=8)
    wanted_o, wanted_state = written_from_the_paper(inputs)
    np.testing.assert_allclose(o.numpy(), wanted_o, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(state.numpy(), wanted_state, rtol=1e-10, atol=1e-12)


@each_form
def test_what_one_token_does(backend: str) -> None:
    """Beta 1 stores the value under its key, 0 writes nothing, 2 mirrors; the decay comes first."""
    k = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2).double()
    v = torch.tensor([5.0, -1.0, 2.0]).view(1, 1, 1, 3).double()
    old = torch.full((1, 1, 2, 3), 8.0).double()
    half = torch.full((1, 1, 1), math.log(0.5)).double()
    for beta, row in ((1.0, [5, -1, 2]), (0.0, [4, 4, 4]), (2.0, [6, -6, 0])):
        gate = torch.full((1, 1, 1), beta).double()
        o, state = gated_delta_rule(k, k, v, half, gate, initial_state=old, scale=1.0, backend=backend)
        torch.testing.assert_close(state[0, 0], torch.tensor([row, [4, 4, 4]]).double())
        torch.testing.assert_close(o.flatten(), torch.tensor(row).double())


@pytest.mark.parametrize("options", [{"backend": "recurrent"}, {"backend": "chunked", "chunk_size": 2}], ids=FORMS)
def test_gradients_equal_finite_differences(options: dict[str, Any]) -> None:
    inputs = in_dtype(drawn(length=5, batch=1, heads=1, key_dim=3, value_dim=2), torch.float64)
    leaves = [t.requires_grad_() for t in inputs.values()]
    assert torch.autograd.gradcheck(lambda *args: gated_delta_rule(*args[:5], initial_state=args[5], **options), leaves)


# ------------------------------------------------------------------------------------- what a state is


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@each_form
@pytest.mark.parametrize("length", [0, 1, 9])
def test_dtypes_of_state_and_output(dtype: torch.dtype, backend: str, length: int) -> None:
    inputs = in_dtype(drawn(length=length), dtype)
    for filled in (True, False):
        if not filled:
            del inputs["initial_state"]
        o, state = rule(inputs, backend=backend)
        assert o.dtype == dtype
        assert state.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@each_form
def test_half_precision_inputs_are_worked_on_in_float32(backend: str) -> None:
    inputs = in_dtype(drawn(), torch.bfloat16)
    o, state = rule(inputs, backend=backend)
    wanted_o, wanted_state = rule(in_dtype(inputs, torch.float32), backend=backend)
    assert torch.equal(state, wanted_state) and torch.equal(o, wanted_o.bfloat16())


def test_autocast_does_not_touch_the_memory() -> None:
    inputs = drawn()
    wanted = rule(inputs, backend="chunked")
    with torch.autocast("cpu", torch.bfloat16):
        found = rule(inputs, backend="chunked")
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@each_form
def test_no_tokens_leave_the_state(backend: str) -> None:
    inputs = drawn(length=0)
    o, state = rule(inputs, backend=backend)
    assert o.shape == (2, 0, 2, 6) and torch.equal(state, inputs["initial_state"])
    del inputs["initial_state"]
    o, state = rule(inputs, backend=backend)
    assert state.shape == (2, 2, 8, 6) and not state.any()


@pytest.mark.parametrize("case", checks.CASES)
@each_form
def test_splitting_anywhere_changes_nothing(case: str, backend: str) -> None:
    inputs = in_dtype(drawn(case, 19), torch.float64)
    whole_o, whole_state = rule(inputs, backend=backend, chunk_size=4)
    for cut in range(20):
        state, parts = inputs["initial_state"], []
        for piece in (slice(0, cut), slice(cut, 19)):
            some = {name: inputs[name][:, piece] for name in NAMES}
            o, state = rule({**some, "initial_state": state}, backend=backend, chunk_size=4)
            parts.append(o)
        torch.testing.assert_close(torch.cat(parts, dim=1), whole_o, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(state, whole_state, rtol=1e-11, atol=1e-12)


@each_form
def test_inputs_are_left_as_they_were(backend: str) -> None:
    inputs = drawn()
    before = {name: t.clone() for name, t in inputs.items()}
    rule(inputs, backend=backend)
    assert all(torch.equal(t, before[name]) for name, t in inputs.items())


def test_auto_and_scale() -> None:
    for length, backend in ((1, "recurrent"), (2, "chunked"), (70, "chunked")):
        inputs = drawn(length=length)
        found, wanted = rule(inputs), rule(inputs, backend=backend)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    inputs = in_dtype(drawn(), torch.float64)
    for backend in FORMS:
        plain, _ = rule(inputs, backend=backend, scale=1.0)
        default, _ = rule(inputs, backend=backend)
        torch.testing.assert_close(default, plain / math.sqrt(8), rtol=1e-12, atol=1e-12)
        assert not rule(inputs, backend=backend, scale=0.0)[0].any()


# ------------------------------------------------------------------------------ isolation, unwritten memory


def result_of_the_first_row(inputs: dict[str, Tensor], backend: str) -> list[Tensor]:
    """Values, and the gradients of a loss that looks at the first row alone."""
    leaves = {name: t.clone().requires_grad_() for name, t in inputs.items()}
    o, state = rule(leaves, backend=backend, chunk_size=8)
    grads = torch.autograd.grad(o[0].sum() + state[0].square().sum(), list(leaves.values()))
    return [o[0].detach(), state[0].detach(), *(g[0] for g in grads)]


@each_form
@pytest.mark.parametrize("poison", [7.0, 1e30, math.inf, math.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_other_rows_of_the_batch_do_not_matter(backend: str, poison: float, dtype: torch.dtype) -> None:
    inputs = in_dtype(drawn(batch=3), dtype)
    wanted = result_of_the_first_row(inputs, backend)
    assert all(t.isfinite().all() for t in wanted)
    for names in ([name] for name in inputs), [list(inputs)]:
        for changed in names:
            others = {name: t.clone() for name, t in inputs.items()}
            for name in changed:
                others[name][1:] = -poison if name == "g" else poison
            found = result_of_the_first_row(others, backend)
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)), changed


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 21])
@each_form
def test_nothing_is_read_that_was_not_written(backend: str, length: int, request: pytest.FixtureRequest) -> None:
    inputs, weights = checks.draw("random", length, True, torch.Generator().manual_seed(0))
    wanted = checks.results(inputs, weights, torch.float32, backend, 8)
    request.getfixturevalue("poisoned_empty")
    assert torch.empty(3).isnan().all()  # the poison works
    found = checks.results(inputs, weights, torch.float32, backend, 8)
    assert all(torch.equal(found[what], wanted[what]) for what in wanted)


# ------------------------------------------------------------------------------------------- refusals


def changed(name: str, change: Callable[[Tensor], Any]) -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    return lambda inputs: {**inputs, name: change(inputs[name])}


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "a list": (changed("k", lambda t: t.tolist()), TypeError, "k must be a torch tensor, but it is a list"),
    "whole numbers": (
        changed("v", lambda t: t.long()),
        TypeError,
        "v must hold floating-point numbers.*int64",
    ),
    "complex": (
        changed("q", lambda t: t.cfloat()),
        TypeError,
        "q must hold floating-point numbers.*complex64",
    ),
    "three axes": (
        changed("q", lambda t: t[0]),
        ValueError,
        r"q must have shape \[B, T, H, D\].*\[9, 2, 8\]",
    ),
    "key width": (changed("k", lambda t: t[..., :5]), ValueError, r"k must have shape \[2, 9, 2, 8\]"),
    "value length": (changed("v", lambda t: t[:, 1:]), ValueError, r"v must have shape \[2, 9, 2, 6\]"),
    "gate axes": (changed("g", lambda t: t[..., None]), ValueError, r"g must have shape \[2, 9, 2\]"),
    "beta heads": (changed("beta", lambda t: t[..., :1]), ValueError, r"beta must have shape \[2, 9, 2\]"),
    "state turned": (
        changed("initial_state", lambda t: t.mT),
        ValueError,
        r"initial_state must have shape \[2, 2, 8, 6\]",
    ),
    "state batch": (
        changed("initial_state", lambda t: t[:1]),
        ValueError,
        r"initial_state must have shape \[2, 2, 8, 6\]",
    ),
    "device": (changed("g", lambda t: t.to("meta")), ValueError, "g is on meta and q is on cpu"),
    "chunk 0": (
        lambda x: {**x, "chunk_size": 0},
        ValueError,
        "chunk_size must be a whole number from 1 to 128",
    ),
    "chunk 129": (lambda x: {**x, "chunk_size": 129}, ValueError, "chunk_size must be a whole number.*129"),
    "chunk True": (
        lambda x: {**x, "chunk_size": True},
        ValueError,
        "chunk_size must be a whole number.*True",
    ),
    "chunk 8.0": (lambda x: {**x, "chunk_size": 8.0}, ValueError, r"chunk_size must be a whole number.*8\.0"),
    "scale a word": (lambda x: {**x, "scale": "a"}, ValueError, "scale must be a finite number.*'a'"),
    "scale NaN": (lambda x: {**x, "scale": float("nan")}, ValueError, "scale must be a finite number.*nan"),
    "keys of nothing": (
        lambda x: {**x, **{name: x[name][..., :0] for name in "qk"}, "initial_state": x["initial_state"][:, :, :0]},
        ValueError,
        "q and k must be at least 1 wide",
    ),
    "backend": (
        lambda x: {**x, "backend": "chunk"},
        ValueError,
        "'chunk' is not known; take one of auto, recurr",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_in_a_sentence(what: str) -> None:
    spoil, error, sentence = REFUSED[what]
    with pytest.raises(error, match=sentence) as caught:
        rule(spoil(drawn(length=9)))
    assert str(caught.value).endswith(".")


def test_look_alike_arguments_are_keyword_only() -> None:
    inputs = drawn(length=3)
    with pytest.raises(TypeError, match="positional"):
        gated_delta_rule(*inputs.values())  # type: ignore[call-arg]


# ---------------------------------------------------------------------------------- the written derivation


def test_the_derivation_quotes_the_code_as_it_is(repo: Path) -> None:
    folder = repo / "kernels" / "gated_delta"
    readme = (folder / "README.md").read_text()
    for name in ("recurrent", "plain", "chunked"):
        table = readme.split(f"line of `{name}.py` |\n")[1].split("\n\n")[0]
        quoted = [line.split("| `")[-1].removesuffix("` |") for line in table.splitlines()[1:]]
        code = (folder / f"{name}.py").read_text()
        assert len(quoted) >= 5
        assert [line for line in quoted if f"    {line}" not in code] == []
