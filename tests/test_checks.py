"""What `labkit check` measures, and that it would see what it is there to see."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import pytest
import torch

from labkit import checks, checks_titans
from labkit.kernels.backends import why_no_triton

KEYS = ("random", "equal keys", "keys in turn")


def test_memory_that_nobody_has_written_to_is_nan_while_a_form_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A form that leaves its last output unwritten is seen, whatever lay there before."""
    real = checks.gated_delta_rule

    def careless(q: Any, k: Any, v: Any, g: Any, beta: Any, **options: Any) -> Any:
        o, state = real(q, k, v, g, beta, **options)
        if options["backend"] == "recurrent" and q.dtype == torch.float64:  # the reference
            return o, state
        return torch.cat([o[:, :-1], torch.empty_like(o[:, -1:])], dim=1), state

    monkeypatch.setattr(checks, "gated_delta_rule", careless)
    rows = checks.gated_delta_errors([torch.float32], ["random"], [5], [16])
    assert {row.error for row in rows if row.what == "o"} == {float("inf")}

    def unwritten(*args: Any, **options: Any) -> Any:
        y, states = real_memory(*args, **options)
        return torch.empty_like(y) + 0 * y, states

    real_memory = checks_titans.neural_memory
    monkeypatch.setattr(checks_titans, "neural_memory", unwritten)
    rows = checks_titans.neural_memory_errors([torch.float32], [1], [5], [4], ["random"])
    assert {row.error for row in rows if row.what == "y"} == {float("inf")}


def test_what_is_switched_on_for_it_is_switched_off_again() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError), checks.poisoned():
        assert torch.empty(3).isnan().all() and torch.are_deterministic_algorithms_enabled()
        raise RuntimeError
    assert torch.are_deterministic_algorithms_enabled() == before


def test_several_cases_have_the_reference_that_each_has_alone() -> None:
    """The reference is run once for all, in rows of one batch."""
    together = checks.gated_delta_errors([torch.float32, torch.bfloat16], KEYS, [7], [16])
    alone = [row for case in KEYS for row in checks.gated_delta_errors([torch.bfloat16], [case], [7], [16])]
    for row in alone:
        others = [r for r in together if dataclasses.replace(r, error=0) == dataclasses.replace(row, error=0)]
        assert [r.error for r in others] == [pytest.approx(row.error, rel=1e-6, abs=1e-12)]


def test_a_limit_of_its_own_is_told_and_holds_for_one_form_alone() -> None:
    row = checks.FormError("recurrent", torch.float32, "keys in turn", 1000, 0, True, "o", 5e-5)
    assert checks.kept([row], checks.LIMITS)
    (line,) = checks.summary([row], checks.LIMITS)
    assert "5.0e-05, at most 1e-04 is promised for keys in turn alone" in line
    for other in ({"backend": "chunked"}, {"case": "equal keys"}):
        changed = dataclasses.replace(row, **other)
        assert not checks.kept([changed], checks.LIMITS)
        assert "at most 1e-05 is promised; the worst" in next(checks.summary([changed], checks.LIMITS))


def test_keys_in_turn_come_back_after_three_tokens() -> None:
    inputs, _ = checks.draw("keys in turn", 7, False, torch.Generator().manual_seed(0))
    assert torch.equal(inputs["k"][:, :4], inputs["k"][:, 3:]) and (inputs["beta"] == 1).all()
    assert not torch.equal(inputs["k"][:, 0], inputs["k"][:, 1])


def test_the_cases_of_the_neural_memory_are_what_they_say() -> None:
    drawn = {case: checks_titans.draw(40, 2, case=case)[0] for case in checks_titans.CASES}
    key = drawn["equal keys"][1]
    assert torch.equal(key, key[:, :1].expand_as(key)) and not drawn["equal keys"][5].any()
    for gate, most in zip(drawn["gates at their ends"][3:], (0.1, 1.0, 1.0), strict=True):
        assert gate.unique().tolist() == pytest.approx([0.0, most])
    assert (drawn["all forgotten"][5] == 1).all() and not drawn["nothing written"][3].any()
    with pytest.raises(ValueError, match="There is no case 'odd'; there are random, equal keys"):
        checks_titans.draw(3, 1, case="odd")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton has wheels for Linux only")
def test_the_triton_forms_are_measured_where_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    if why_no_triton(checks.CPU) is not None:
        pytest.skip("the interpreter is off: there is a GPU")
    asked: list[dict[str, Any]] = []
    for module, name in ((checks, "gated_delta_errors"), (checks_titans, "neural_memory_errors")):
        real = getattr(module, name)

        def short(*args: Any, real: Any = real, **options: Any) -> Any:
            asked.append(options)
            few = {"cases": ["random"], "lengths": [1]}
            return real(*args[:1], **({"layers": [1], "chunks": [16]} if "backend" in options else {}), **options | few)

        monkeypatch.setattr(module, name, short)
        rows = module.errors_on(checks.CPU)
        assert {row.dtype for row in rows if row.backend == "triton"} == set(checks.KERNEL_DTYPES)
        assert checks.kept(rows, module.LIMITS)
        monkeypatch.setattr(module, "why_no_triton", lambda device: "It is not here.")
        assert {row.backend for row in module.errors_on(checks.CPU)} <= {"chunked", "recurrent"}
    assert len(asked) == 6 and {options["device"] for options in asked} == {checks.CPU}


def test_a_bar_is_shown_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Bar:
        def __init__(self, **options: Any) -> None:
            made.append(options | {"seen": 0})

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, tokens: int) -> None:
            made[-1]["seen"] += tokens

    monkeypatch.setattr(checks, "tqdm", Bar)
    monkeypatch.setattr(checks_titans, "tqdm", Bar)
    checks.gated_delta_errors(cases=KEYS, lengths=[0, 3], progress="Rule")
    checks_titans.neural_memory_errors(layers=[1], lengths=[0, 3], chunks=[4])
    assert [(bar["desc"], bar["disable"]) for bar in made] == [("Rule", False), ("", True)]
    assert all(bar["seen"] == bar["total"] > 0 for bar in made)
