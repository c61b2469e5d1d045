"""How much training it takes: tokens of lessons until a hop is known, with written steps of thought and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit.checkpoints import list_checkpoints, read_card
from labkit.intervals import Interval, mean_of_seeds

__all__ = ["KNOWN", "curves", "opened", "times_less", "tokens_until"]

KNOWN = 0.9
"""The running share right in lessons from which a hop counts as known, with all shallower ones."""


def _cards(checkpoint: str, folder: str | Path | None) -> dict[int, dict[str, Any]]:
    """The cards of a checkpoint, by training seed."""
    return {s: read_card(name, s, folder) for name, s in list_checkpoints(folder) if name == checkpoint}


def curves(checkpoint: str, folder: str | Path | None = None) -> pd.DataFrame:
    """What a training left in its cards, as a table: the running share right in lessons, by depth, against tokens.

    Columns ``checkpoint, seed, passes, step, tokens, flops, depth, accuracy``; some hundred rows for each seed and
    depth, from when it was first asked. ``tokens`` and ``flops`` of training up to then are taken to be equal in all
    steps, which they are for one N and no thought; ``passes`` is "1-4" where N was drawn. Empty without a checkpoint.
    Raises ValueError for a card from before curves were kept.
    """
    found = []
    for seed, card in _cards(checkpoint, folder).items():
        if "curve" not in card.get("metrics", {}) or "train_tokens" not in card:
            raise ValueError(f"The card of {checkpoint}, seed {seed}, holds no curve; trainings of today leave one.")
        passes = card["recipe"]["training"]["passes"]
        passes = "-".join(map(str, passes)) if isinstance(passes, list) else passes
        for step, *shares in card["metrics"]["curve"]:
            gone = step / card["steps"]
            row = {"checkpoint": checkpoint, "seed": seed, "passes": passes, "step": step}
            row |= {"tokens": round(gone * card["train_tokens"]), "flops": round(gone * card["train_flops"])}
            found += [{**row, "depth": d, "accuracy": share} for d, share in enumerate(shares, start=1)]
    return pd.DataFrame(found)


def opened(checkpoint: str, folder: str | Path | None = None) -> pd.DataFrame:
    """When lessons first asked each depth: columns ``seed, depth, tokens``, from the cards of a checkpoint.

    The last row of a seed repeats its deepest depth at the end of training, so that the last plateau has a length.
    """
    found = []
    for seed, card in _cards(checkpoint, folder).items():
        each, curriculum = card["train_tokens"] / card["steps"], card["recipe"]["curriculum"]
        first = len(card["metrics"]["lesson_accuracy"]) if curriculum["fixed"] else curriculum["start"]
        steps = [*card["metrics"]["opened"], card["steps"]]
        depths = [*range(first, first + len(steps) - 1), first + len(steps) - 2]
        found += [{"seed": seed, "depth": d, "tokens": s * each} for s, d in zip(steps, depths, strict=True)]
    return pd.DataFrame(found, columns=["seed", "depth", "tokens"])


def tokens_until(checkpoint: str, folder: str | Path | None = None) -> pd.DataFrame:
    """Tokens of lessons until each hop was known, by training seed.

    Read off the curve that a training leaves in its card: the running share right by depth, some hundred times. Where
    steps are written they count among what is right or wrong, each after the true ones before it.

    Returns a row for each seed and a column for each hop asked; missing where it was not known by the end. Empty
    without such a checkpoint.
    """
    found = {}
    for seed, card in _cards(checkpoint, folder).items():
        each = card["train_tokens"] / card["steps"]
        first = pd.Series(np.nan, index=range(1, len(card["metrics"]["lesson_accuracy"]) + 1))
        for step, *shares in reversed(card["metrics"]["curve"]):  # so that the earliest is written last
            known = next((d for d, share in enumerate(shares) if share < KNOWN), len(shares))
            first.loc[1:known] = step * each
        found[seed] = first
    return pd.DataFrame(found).T.rename_axis(index="seed", columns="hop").sort_index()


def times_less(without: str, written: str, folder: str | Path | None = None) -> pd.DataFrame:
    """By hop: how many times more tokens of lessons it takes without written steps than with them.

    Over the seeds of both that know the hop with written steps; where that is not all of them, the factor speaks of the
    better ones. A seed that never knows it without counts as if it did
    at the very end, so `times`, a geometric mean, is then a least value. Columns: ``hop``; ``seeds`` compared;
    ``known``, how many of these know it without written steps; ``times``; ``low`` and ``high``, Student's t on the
    logarithm, missing where `times` is a least value or there are fewer than two seeds.
    """
    plain, told = tokens_until(without, folder), tokens_until(written, folder)
    whole = {seed: read_card(without, seed, folder)["train_tokens"] for seed in plain.index}
    found = []
    for hop in told.columns:
        seeds = told[hop].dropna().index.intersection(plain.index)
        if not len(seeds):
            continue
        until = plain.loc[seeds, hop] if hop in plain else pd.Series(np.nan, index=seeds)
        ratio = np.log(until.fillna(pd.Series(whole)) / told.loc[seeds, hop])
        known = int(until.notna().sum())
        ends = mean_of_seeds(ratio.tolist()) if known == len(seeds) > 1 else Interval(np.nan, np.nan, np.nan)
        found.append({
            "hop": hop, "seeds": len(seeds), "known": known, "times": float(np.exp(ratio.mean())),
            "low": float(np.exp(ends.low)), "high": float(np.exp(ends.high)),
        })  # fmt: skip
    return pd.DataFrame(found)
