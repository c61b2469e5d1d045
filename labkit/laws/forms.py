"""The named laws: error as a function of parameters P, sleep passes N and steps of thought R."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Law:
    """One form: what it computes, and where its numbers may lie.

    Numbers are positive and sought on a logarithmic scale, but for those in `LINEAR`.

    Attributes:
        name: as `labkit.laws.fit` takes it.
        formula: for people.
        axes: columns of a table that it needs beside the error; thought enters as ``1 + thought``.
        spans: lowest and highest first guess of each number, with params in units of their geometric mean.
        predict: error from the numbers and the axes, all arrays of one length.
        unit: for numbers that change with the unit of params, to which power of it they are multiplied when params are
            divided by it: another number's name, or a figure.
    """

    name: str
    formula: str
    axes: tuple[str, ...]
    spans: Mapping[str, tuple[float, float]]
    predict: Callable[[Values, Mapping[str, Floats]], Floats]
    unit: Mapping[str, str | float]


LINEAR = {"E": (0.0, 1.0), "D": (-10.0, 10.0)}
"""Numbers sought on a linear scale, with the range they may have: a floor may be zero, an interaction below it."""

EXPONENT = (0.1, 2.0)
SHARE = (0.02, 0.5)
LITTLE = (1e-3, 0.1)


def _additive(v: Values, x: Mapping[str, Floats]) -> Floats:
    return (
        v["E"] + v["A"] * x["params"] ** -v["a"] + v["B"] * x["passes"] ** -v["b"] + v["C"] * x["thought"] ** -v["c"]
    )


def _multiplicative(v: Values, x: Mapping[str, Floats]) -> Floats:
    return v["E"] + v["A"] * x["params"] ** -v["a"] * x["passes"] ** -v["b"] * x["thought"] ** -v["c"]


def _interaction(v: Values, x: Mapping[str, Floats]) -> Floats:
    sleep, think = x["passes"] ** -v["b"], x["thought"] ** -v["c"]
    return v["E"] + v["A"] * x["params"] ** -v["a"] + v["B"] * sleep + v["C"] * think + v["D"] * sleep * think


def _streams(v: Values, x: Mapping[str, Floats]) -> Floats:
    return v["E"] + (v["A"] / (x["params"] * (v["k"] * np.log(x["passes"]) + 1))) ** v["alpha"]


def _single(axis: str) -> Law:
    def predict(v: Values, x: Mapping[str, Floats]) -> Floats:
        return v["E"] + v["A"] * x[axis] ** -v["a"]

    shown = {"params": "params", "passes": "passes", "thought": "(1+thought)"}[axis]
    spans = {"E": LITTLE, "A": SHARE, "a": EXPONENT}
    unit: dict[str, str | float] = {"A": "a"} if axis == "params" else {}
    return Law(axis, f"E + A*{shown}**-a", (axis,), spans, predict, unit)


ALL = ("params", "passes", "thought")
_ADDED = {"E": LITTLE, "A": SHARE, "a": EXPONENT, "B": SHARE, "b": EXPONENT, "C": SHARE, "c": EXPONENT}

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Law(
            "additive", "E + A*params**-a + B*passes**-b + C*(1+thought)**-c", ALL, _ADDED, _additive, {"A": "a"}
        ),
        Law(
            "multiplicative", "E + A*params**-a * passes**-b * (1+thought)**-c", ALL,
            {"E": LITTLE, "A": SHARE, "a": EXPONENT, "b": EXPONENT, "c": EXPONENT}, _multiplicative,
            {"A": "a"},
        ),
        Law(
            "interaction", "E + A*params**-a + B*passes**-b + C*(1+thought)**-c + D*passes**-b*(1+thought)**-c", ALL,
            {**_ADDED, "D": (-0.2, 0.2)}, _interaction, {"A": "a"},
        ),
        Law(
            "streams", "E + (A / (params*(k*ln(passes) + 1)))**alpha", ("params", "passes"),
            {"E": LITTLE, "A": (0.01, 1.0), "k": (0.1, 3.0), "alpha": EXPONENT}, _streams, {"A": 1.0},
        ),
        *(_single(axis) for axis in ALL),
    )
}  # fmt: skip
"""The laws that `labkit.laws.fit` knows. Single-axis ones are named after their axis."""


def axes_of(law: Law, rows: pd.DataFrame) -> dict[str, Floats]:
    """The columns that a law needs, thought as 1 + thought."""
    found = {axis: rows[axis].to_numpy(dtype=np.float64) for axis in law.axes}
    if "thought" in found:
        found["thought"] = 1 + found["thought"]
    return found
