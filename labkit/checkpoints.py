"""Trained weights: a safetensors file and, beside it, a JSON card that says what they are and where from.

    data/checkpoints/<name>-s<seed>.safetensors
    data/checkpoints/<name>-s<seed>.json

The card holds `format, name, seed, config, task, recipe, command, sha256, bytes, parameters, steps,
train_seconds, train_flops, versions, metrics`. Nothing is ever pickled, and nothing is loaded whose hash,
names and shapes do not agree with its card.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from labkit import tasks
from labkit.files import NAME, data_dir, nearest, sync, write_beside
from labkit.machine import versions
from labkit.models import SleepConfig, SleepLM

__all__ = [
    "FORMAT",
    "SEEDS",
    "check_seed",
    "list_checkpoints",
    "load",
    "names_of",
    "read_card",
    "save_checkpoint",
    "task_of",
]

FORMAT = "labkit-checkpoint-1"
SEEDS = 1_000_000  # seeds are below; exams are drawn from generator seeds beyond
OURS = ("format", "name", "seed", "config", "sha256", "bytes", "parameters", "versions")
NEEDED = {
    "format": str,
    "name": str,
    "seed": int,
    "config": dict,
    "task": dict,
    "sha256": str,
    "parameters": int,
}
REMEDY = "Restore both files with `git checkout -- data/checkpoints`, or train again with `labkit train`."


def save_checkpoint(
    model: SleepLM, card: Mapping[str, Any], name: str, seed: int, folder: str | Path | None = None
) -> Path:
    """Write the weights of `model` and its card; returns the path of the weights.

    Both files are written beside and then renamed, the card last.

    Args:
        card: what the maker knows: `task` (kind and parameters) must be in it, and `recipe`, `command`,
            `steps`, `train_seconds`, `train_flops`, `metrics` should be. What can be read off the model
            (`config`, `parameters`, `sha256` ...) is added here, over what the card says.
        folder: where; `data/checkpoints` by default.

    Raises TypeError or ValueError for a bad name or seed, a card that JSON cannot hold or without a task,
    and weights that are not finite: those would only be found out when they are used.
    """
    if not isinstance(model, SleepLM):
        raise TypeError(f"Only a SleepLM can be saved, but this is a {type(model).__name__}.")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"The name {name!r} must be lower-case letters and digits, joined by single hyphens."
        )
    check_seed(seed)
    if not isinstance(card.get("task"), dict):
        raise ValueError("The card must say what the task is, as task = {'kind': ..., parameters}.")
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    for key, value in weights.items():
        if not torch.isfinite(value).all():
            raise ValueError(
                f"The weights {key!r} are not finite, so the model was not saved; lower the learning rate."
            )
    data = safetensors.torch.save(weights)
    full = {
        "format": FORMAT,
        "name": name,
        "seed": seed,
        "config": model.config.as_dict(),
        **{key: value for key, value in card.items() if key not in OURS},
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": versions(),
    }
    try:
        text = json.dumps(full, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as mistake:
        raise ValueError(
            f"JSON cannot hold this card: {mistake}. Use plain finite numbers, lists and dicts."
        ) from None
    path = _folder(folder, create=True) / f"{name}-s{seed}.safetensors"

    def both(beside: Path) -> None:
        # the card is whole before the weights get their name: only two renames lie between old and new
        beside.write_bytes(data)
        card_beside.write_text(text, encoding="utf-8")
        sync(card_beside)

    card_beside = path.with_name(f".{path.stem}.json.{os.getpid()}.part")
    try:
        write_beside(path, both)
        os.replace(card_beside, path.with_suffix(".json"))
    finally:
        card_beside.unlink(missing_ok=True)
    return path


def list_checkpoints(folder: str | Path | None = None) -> list[tuple[str, int]]:
    """(name, seed) of every checkpoint in the folder, `data/checkpoints` by default, in order."""
    found = []
    for path in _folder(folder).glob("*.safetensors"):
        match = re.fullmatch(r"(.+)-s(\d+)", path.stem)
        if match and NAME.fullmatch(match[1]):
            found.append((match[1], int(match[2])))
    return sorted(found)


def names_of(fits: Callable[[tasks.Task], bool], folder: str | Path | None = None) -> list[str]:
    """Names of the checkpoints trained on a task that `fits`, in order; those with damaged cards are left out."""
    found = []
    for name, seed in dict(reversed(list_checkpoints(folder))).items():  # one seed of each: they share their task
        try:
            if fits(task_of(read_card(name, seed, folder))):
                found.append(name)
        except (ValueError, OSError):
            continue
    return sorted(found)


def read_card(name: str, seed: int = 0, folder: str | Path | None = None) -> dict[str, Any]:
    """The card of a checkpoint.

    Raises FileNotFoundError for an unknown name or seed and for a missing card, ValueError for a card that
    is damaged or is another checkpoint's.
    """
    card_path = _find(name, seed, folder).with_suffix(".json")
    if not card_path.is_file():
        raise FileNotFoundError(
            f"The card {card_path} is missing, and weights without one are not loaded. {REMEDY}"
        )
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as mistake:
        raise ValueError(f"The card {card_path} is not valid JSON ({mistake}). {REMEDY}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ValueError(f"The card {card_path} is not of the format {FORMAT!r}. {REMEDY}")
    for key, kind in NEEDED.items():
        if not isinstance(card.get(key), kind):
            raise ValueError(f"The card {card_path} has no usable {key!r}. {REMEDY}")
    if (card["name"], card["seed"]) != (name, seed):
        raise ValueError(f"The card {card_path} is that of {card['name']!r}, seed {card['seed']}. {REMEDY}")
    return card


def load(name: str, seed: int = 0, folder: str | Path | None = None) -> tuple[SleepLM, dict[str, Any]]:
    """A trained model, ready to be used, and its card.

    >>> model, card = labkit.load("depo-elastic", seed=0)  # doctest: +SKIP

    The file's hash, and the names, shapes and types of all weights, are checked first. Raises
    FileNotFoundError when there is no such checkpoint or no card, ValueError when the files are damaged or
    do not belong together.
    """
    card = read_card(name, seed, folder)
    path = _find(name, seed, folder)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        size = card.get("bytes")
        shorter = isinstance(size, int) and len(data) < size
        what = (
            f"is cut short ({len(data)} of {size} bytes)"
            if shorter
            else "is not the file that its card describes"
        )
        raise ValueError(f"{path} {what}: the hash differs. {REMEDY}")
    try:
        weights = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError) as mistake:
        raise ValueError(f"{path} is not a safetensors file ({mistake}). {REMEDY}") from None
    try:
        model = SleepLM(SleepConfig(**card["config"]))
    except (ValueError, TypeError) as mistake:
        why = str(mistake).rstrip(".")
        raise ValueError(f"The config in the card of {path} cannot be used ({why}). {REMEDY}") from None
    _compare(path, weights, model.state_dict())
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False), card


def task_of(card: Mapping[str, Any]) -> tasks.Task:
    """The task that a checkpoint's card names. Raises ValueError, in a sentence, where it names none."""
    params = dict(card["task"])
    try:
        return tasks.make(params.pop("kind", None), **params)
    except (TypeError, ValueError) as mistake:
        name, why = f"{card.get('name')}-s{card.get('seed')}", str(mistake).rstrip(".")
        raise ValueError(f"The task in the card of {name} cannot be used ({why}). {REMEDY}") from None


def _compare(path: Path, weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights that are not those of the model that the card describes."""
    missing, strange = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    if missing or strange:
        which = f"{missing[0]!r} is missing" if missing else f"{strange[0]!r} has no place in it"
        raise ValueError(f"{path} does not hold the model of its card: {which}. {REMEDY}")
    for key, value in weights.items():
        if value.shape != own[key].shape or value.dtype != own[key].dtype:
            raise ValueError(
                f"{path} does not hold the model of its card: {key!r} is {value.dtype} {list(value.shape)}, "
                f"but {own[key].dtype} {list(own[key].shape)} was expected. {REMEDY}"
            )


def _folder(folder: str | Path | None, create: bool = False) -> Path:
    if folder is None:
        folder = data_dir() / "checkpoints"
    folder = Path(folder)
    if create:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _find(name: str, seed: int, folder: str | Path | None) -> Path:
    """The path of the weights, or FileNotFoundError with what there is."""
    check_seed(seed)
    place, known = _folder(folder), list_checkpoints(folder)
    seeds = [s for n, s in known if n == name]
    if not seeds:
        raise FileNotFoundError(
            f"There is no checkpoint {name!r} in {place}.{nearest(str(name), {n for n, _ in known})} "
            "`labkit list` names all."
        )
    if seed not in seeds:
        raise FileNotFoundError(
            f"There is no seed {seed} of {name!r} in {place}; there is {', '.join(map(str, seeds))}."
        )
    return place / f"{name}-s{seed}.safetensors"


def check_seed(seed: int) -> None:
    """Raise a TypeError or ValueError, in a sentence, for what is no seed of a training."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"A seed must be a whole number from 0 to {SEEDS - 1:,}, but it is {seed!r}.")
    if not 0 <= seed < SEEDS:
        raise ValueError(f"A seed must be a whole number from 0 to {SEEDS - 1:,}, but it is {seed}.")
