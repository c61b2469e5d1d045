"""Which knob helps which task? The interaction of task and knob, with its interval, from stored answers.

A grid of models was trained: `grid-mqar-K` and `grid-depo-K` for several K, the size of a memory head (its
state is a K by K matrix), several seeds each, all elastic in the number of sleep passes N. Of one task, the
effect of a knob is

    effect of K = share right at the largest K - share right at the smallest K, averaged over the N,
    effect of N = share right at the largest N - share right at N = 1, averaged over the K,

with N within the trained range and the K that both tasks have. That MQAR asks for size and Depo for passes
says two things, one for each knob:

    lead of K = effect of K on MQAR - effect of K on Depo,
    lead of N = effect of N on Depo - effect of N on MQAR.

Their sum is the interaction of task and knob. It can lie above zero with one of the two below, so `verdict`
asks for both. All of them are linear in the answers, so each instance has a value of its own, and
`labkit.intervals.over_seeds` gives the intervals. A "seed" is all models of that seed with the exam of that
number: within it everything is paired.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit import results
from labkit.files import data_dir, write_text
from labkit.intervals import Interval, over_seeds

__all__ = ["FILE", "KNOBS", "TASKS", "TRAINED", "contrast", "grid_files", "read", "verdict", "with_ends", "write"]

FILE = "capacity-versus-compute.json"
FORMAT = "labkit-contrast-2"
COMMAND = "labkit contrast"
TASKS = ("mqar", "depo")
KNOBS = ("K", "N")
#: The grid is trained with N drawn from 1 to 4; what lies beyond is reported, but is no part of an effect.
TRAINED = 4

Floats = NDArray[np.float64]
Levels = list[int]
#: How many effects these add up.
_SUMS = {"lead": 2, "interaction": 4}


def grid_files(folder: str | Path | None = None) -> dict[str, dict[int, Path]]:
    """For each task the stored tables ``grid-<task>-<K>.csv`` by K, ascending."""
    place = Path(folder) if folder is not None else data_dir() / "results"
    found: dict[str, dict[int, Path]] = {task: {} for task in TASKS}
    for path in place.glob("grid-*.csv"):
        match = re.fullmatch(rf"grid-({'|'.join(TASKS)})-(\d+)", path.stem)
        if match:
            found[match[1]][int(match[2])] = path
    return {task: dict(sorted(files.items())) for task, files in found.items()}


def contrast(folder: str | Path | None = None) -> dict[str, Any]:
    """Effects, interaction and every cell of the two-way table, from the answers in `folder` (data/results).

    Returns a dict that JSON can hold: `levels` (the K and N of the effects), `seeds`, `n` (instances for each
    seed and model), `files`, `weights`; `cells`, a list of task, K, N and an estimate; `effects[task][knob]`,
    an estimate with `at`, the same effect at each single level of the other knob; `leads[knob]`, an estimate;
    `interaction`, an estimate with `by_seed`. An estimate is value, low and high, the 95% interval.

    Raises FileNotFoundError when fewer than two K were evaluated for both tasks, ValueError when the stored
    answers do not belong together.
    """
    files = grid_files(folder)
    common = sorted(set(files["mqar"]) & set(files["depo"]))
    if len(common) < 2:
        have = "; ".join(f"{task}: {sorted(found) or 'none'}" for task, found in files.items())
        raise FileNotFoundError(
            "The interaction needs answers for at least two K of both tasks, and there are K of "
            f"{have}. Evaluate the grid first: `labkit evaluate grid-mqar-8 --passes 1 2 4 8 --all-seeds`, "
            "and so on."
        )
    answers = {(t, k): results.load_answers(path) for t in TASKS for k, path in files[t].items()}
    seeds, n, passes = _alike(answers)
    trained = [p for p in passes if 1 <= p <= TRAINED]
    if len(trained) < 2 or trained[0] != 1:
        raise ValueError(f"The effect of N needs answers at N = 1 and at a larger N up to {TRAINED}, not {passes}.")
    cells = [(t, k, p) for (t, k) in answers for p in passes]
    wanted = _wanted(common, trained)
    weights = np.array([[w.get(cell, 0.0) for w in wanted.values()] for cell in cells])
    values = [np.stack([_shares(answers[t, k], s, p) for t, k, p in cells], axis=1) for s in range(len(seeds))]
    over = over_seeds([np.concatenate([v, v @ weights], axis=1) for v in values])
    # No interval reaches beyond what can be: a share is 0 to 1, an effect -1 to 1, and the rest are sums of effects.
    most = [1.0] * len(cells) + [float(_SUMS.get(what, 1)) for what, _, _ in wanted]
    least = [0.0] * len(cells) + [-x for x in most[len(cells) :]]
    numbers = [np.clip(x, least, most) for x in over]
    found = [dict(zip(("value", "low", "high"), map(float, x), strict=True)) for x in zip(*numbers, strict=True)]
    told = dict(zip(wanted, found[len(cells) :], strict=True))
    effects: dict[str, Any] = {}
    for task, knob in itertools.product(TASKS, KNOBS):
        others = trained if knob == "K" else common
        at = [{_other(knob): level, **told[task, knob, level]} for level in others]
        effects.setdefault(task, {})[knob] = {**told[task, knob, None], "at": at}
    last = [float(v.mean(axis=0) @ weights[:, -1]) for v in values]
    return {
        "format": FORMAT,
        "command": COMMAND,
        "levels": {"K": common, "N": trained},
        "seeds": seeds,
        "n": n,
        "files": [path.with_suffix(".npz").name for t in TASKS for path in files[t].values()],
        "weights": {f"grid-{t}-{k}": [str(w)[:12] for w in a["weights"]] for (t, k), a in answers.items()},
        "cells": [{"task": t, "K": k, "N": p, **e} for (t, k, p), e in zip(cells, found, strict=False)],
        "effects": effects,
        "leads": {knob: told["lead", knob, None] for knob in KNOBS},
        "interaction": {**told["interaction", "", None], "by_seed": last},
    }


def write(folder: str | Path | None = None) -> Path:
    """Write the `contrast` of the answers in `folder` (data/results) there; returns the file."""
    place = Path(folder) if folder is not None else data_dir() / "results"
    text = json.dumps(_rounded(contrast(place)), indent=1, allow_nan=False) + "\n"
    write_text(place / FILE, text)
    return place / FILE


def read(folder: str | Path | None = None) -> dict[str, Any]:
    """What `write` wrote. Raises FileNotFoundError or ValueError, in a sentence, when that cannot be had."""
    path = (Path(folder) if folder is not None else data_dir() / "results") / FILE
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}; `{COMMAND}` makes it from the evaluated grid.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as mistake:
        raise ValueError(f"{path} is not valid JSON ({mistake}); make it again with `{COMMAND}`.") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} is not of the format {FORMAT!r}; make it again with `{COMMAND}`.")
    return found


def verdict(found: dict[str, Any]) -> str:
    """Do the numbers support that MQAR asks for size and Depo for passes? Both halves must hold.

    Supported if both leads lie above zero with their whole 95% intervals, refuted if one lies below, else undecided.
    """
    size, passes = (found["leads"][knob] for knob in KNOBS)
    told = (
        f"the lead of K (a larger state helps MQAR more) is {with_ends(size)}, the lead of N (more passes help Depo "
        f"more) is {with_ends(passes)}; their sum, the interaction, is {with_ends(found['interaction'])}"
    )
    if size["low"] > 0 and passes["low"] > 0:
        return f"Supported: {told}."
    if size["high"] < 0 or passes["high"] < 0:
        return f"Refuted: {told}."
    return f"Undecided: {told}."


def with_ends(e: Mapping[str, float], sign: str = "+") -> str:
    """An estimate in words, as `Interval.told`."""
    return Interval(e["value"], e["low"], e["high"]).told(sign)


def _other(knob: str) -> str:
    return "N" if knob == "K" else "K"


def _wanted(ks: Levels, ns: Levels) -> dict[tuple[str, str, int | None], dict[tuple[str, int, int], float]]:
    """Each effect as weights on cells (task, K, N); its key is task, knob and the level of the other knob."""
    out: dict[tuple[str, str, int | None], dict[tuple[str, int, int], float]] = {}
    for task in TASKS:
        at = {("K", p): {(task, ks[-1], p): 1.0, (task, ks[0], p): -1.0} for p in ns}
        at |= {("N", k): {(task, k, ns[-1]): 1.0, (task, k, ns[0]): -1.0} for k in ks}
        for (knob, level), weights in at.items():
            out[task, knob, level] = weights
        for knob, levels in (("K", ns), ("N", ks)):
            out[task, knob, None] = _sum([(at[knob, x], 1 / len(levels)) for x in levels])
    for knob, ahead, behind in (("K", "mqar", "depo"), ("N", "depo", "mqar")):
        out["lead", knob, None] = _sum([(out[ahead, knob, None], 1.0), (out[behind, knob, None], -1.0)])
    out["interaction", "", None] = _sum([(out["lead", knob, None], 1.0) for knob in KNOBS])
    return out


def _sum(parts: list[tuple[dict[tuple[str, int, int], float], float]]) -> dict[tuple[str, int, int], float]:
    total: dict[tuple[str, int, int], float] = {}
    for weights, factor in parts:
        for cell, weight in weights.items():
            total[cell] = total.get(cell, 0.0) + factor * weight
    return total


def _shares(answers: dict[str, NDArray[Any]], seed: int, passes: int) -> Floats:
    """The share right of every instance, [n]."""
    at = answers["passes"].tolist().index(passes)
    return answers["correct"][seed, at].mean(axis=1, dtype=np.float64)


def _alike(answers: dict[tuple[str, int], dict[str, NDArray[Any]]]) -> tuple[list[int], int, list[int]]:
    """Seeds, instances and passes that all answers have in common; refuse what cannot be paired."""
    first_name, first = next(iter(answers.items()))
    for name, other in answers.items():
        for key in ("seeds", "exams", "passes"):
            if other[key].tolist() != first[key].tolist():
                raise ValueError(
                    f"grid-{name[0]}-{name[1]} was evaluated on {key} {other[key].tolist()}, but "
                    f"grid-{first_name[0]}-{first_name[1]} on {first[key].tolist()}; evaluate both alike."
                )
        if other["correct"].shape[2] != first["correct"].shape[2]:
            raise ValueError(
                f"grid-{name[0]}-{name[1]} was asked {other['correct'].shape[2]} instances, but "
                f"grid-{first_name[0]}-{first_name[1]} {first['correct'].shape[2]}; give both one --n."
            )
    return first["seeds"].tolist(), int(first["correct"].shape[2]), first["passes"].tolist()


def _rounded(value: Any) -> Any:
    """The same with numbers to six decimals: more than they are worth, and files stay comparable."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value
