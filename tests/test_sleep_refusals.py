"""What a sleeping model refuses, in a sentence, and what is lost then: nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from labkit import SleepConfig, SleepState

from sleepers import BASE, VOCAB, built, every_config, lived, refused, same, text

pytestmark = pytest.mark.usefixtures("no_gradients_unless_asked")


@every_config
def test_passes_are_whole_and_not_negative(name: str) -> None:
    model = built(name)
    state = model.init_state(3)
    for passes, error, sentence in (
        (-1, ValueError, "passes must be at least 0, but it is -1"),
        (True, TypeError, "passes must be a whole number, but it is True"),
        (False, TypeError, "passes must be a whole number, but it is False"),
        (2.0, TypeError, r"passes must be a whole number, but it is 2\.0"),
        (None, TypeError, "passes must be a whole number, but it is None"),
        ("4", TypeError, "passes must be a whole number, but it is '4'"),
    ):
        refused(lambda p=passes: model.sleep(text(1), state, p), error, sentence)
        refused(lambda p=passes: list(model.sleep_steps(text(1), state, p)), error, sentence)
        refused(lambda p=passes: model(text(4), context=2, passes=p), error, sentence)
        refused(lambda p=passes: model(text(4), passes=p), error, sentence)  # also where it is not needed


BAD_TOKENS: dict[str, tuple[Any, type[Exception], str]] = {
    "too large": (
        torch.tensor([[1, 2], [3, VOCAB], [0, 0]]),
        ValueError,
        "Token 11 is not in the vocabulary of 11",
    ),
    "negative": (
        torch.tensor([[1, -100], [3, 3], [0, 0]]),
        ValueError,
        "Token -100 is not in the vocabulary",
    ),
    "float": (torch.ones(3, 2), TypeError, "whole numbers.*float32"),
    "bool": (torch.ones(3, 2, dtype=torch.bool), TypeError, "whole numbers.*torch.bool"),
    "a list": ([[1, 2]] * 3, TypeError, "tokens must be a tensor.*list"),
    "one axis": (torch.ones(3, dtype=torch.int64), ValueError, r"shape \[B, T\], but their shape is \[3\]"),
    "three axes": (torch.ones(3, 2, 2, dtype=torch.int64), ValueError, r"shape \[B, T\].*\[3, 2, 2\]"),
}


@pytest.mark.parametrize("what", BAD_TOKENS)
def test_bad_tokens_are_refused_in_a_sentence(what: str) -> None:
    tokens, error, sentence = BAD_TOKENS[what]
    model = built("hybrid")
    state = lived(model)
    for call in (
        lambda: model.wake(tokens, state),
        lambda: model.sleep(tokens, state, 0),
        lambda: model.sleep(tokens, state, 2),
        lambda: model(tokens),
        lambda: model(tokens, context=1),
    ):
        refused(call, error, sentence)


def test_other_sizes_are_refused_in_a_sentence() -> None:
    model = built("hybrid")
    state = model.init_state(3)
    refused(lambda: model.sleep(text(6), state, 1), ValueError, "at most window=5 tokens, but 6 came")
    refused(lambda: model.sleep(text(6), state, 0), ValueError, "at most window=5 tokens, but 6 came")
    refused(lambda: model.wake(text(2, 2), state), ValueError, "state is for 3 sequences, but 2 came")
    refused(lambda: model.sleep(text(2, 4), state, 0), ValueError, "state is for 3 sequences, but 4 came")
    refused(lambda: model(text(4), context=5), ValueError, "context=5 is more than the 4 tokens")
    refused(lambda: model(text(4), context=-1), ValueError, "context must be at least 0")
    refused(lambda: model(text(4), context=2.0), TypeError, r"context must be a whole number, but it is 2\.0")
    refused(lambda: model.init_state(-1), ValueError, "batch_size must be at least 0")
    refused(lambda: model.init_state(True), TypeError, "batch_size must be a whole number")


def test_bad_labels_are_refused_in_a_sentence() -> None:
    model, tokens, labels = built("hybrid"), text(6), text(6, seed=1)

    def ask(labels: Any) -> Callable[[], object]:
        return lambda: model(tokens, context=2, labels=labels)

    refused(
        ask(labels[:, 1:]), ValueError, r"labels must have the shape of tokens, \[3, 6\], but have \[3, 5\]"
    )
    refused(ask(labels.float()), TypeError, "labels must be a tensor of torch.int64.*float32")
    refused(ask(labels.tolist()), TypeError, "labels must be a tensor of torch.int64.*list")
    refused(
        ask(labels.fill_diagonal_(-100) + 1), ValueError, "Label -99 is neither -100 nor in the vocabulary"
    )
    refused(
        ask(torch.full_like(labels, VOCAB)),
        ValueError,
        "Label 11 is neither -100 nor in the vocabulary of 11",
    )
    nothing = torch.full_like(labels, -100)
    nothing[:, :2] = 3
    refused(ask(nothing), ValueError, "labels ask nothing after the 2 tokens of context")


def test_a_state_of_another_model_is_refused_in_a_sentence() -> None:
    model = built("hybrid twice")
    mine = lived(model)
    for name, changes in (
        ("hybrid", {}), ("deeper", {}), ("memory alone", {}), ("attention alone", {}),
        ("hybrid twice", {"key_dim": 3}), ("hybrid twice", {"value_dim": 3}), ("hybrid twice", {"conv": 2}),
        ("hybrid twice", {"dim": 16}), ("hybrid twice", {"heads": 1}),
        ("hybrid twice", {"pattern": ("attention", "attention", "delta")}),
    ):  # fmt: skip
        state = lived(built(name, **changes))
        refused(lambda s=state: model.wake(text(2), s), ValueError, "The state belongs to another model")
        refused(lambda s=state: model.sleep(text(2), s, 0), ValueError, "The state belongs to another model")
    for thing in (None, mine.fast, "state"):
        refused(
            lambda s=thing: model.wake(text(2), s), TypeError, "state must be a SleepState, as init_state"
        )
        refused(lambda s=thing: model.sleep(text(2), s, 0), TypeError, "state must be a SleepState")
    torn = dataclasses.replace(mine, fast=tuple(t[:2] for t in mine.fast))
    refused(lambda: model.wake(text(2), torn), ValueError, "The state is for 3 sequences, but holds 2")
    away = mine.to("meta")
    refused(lambda: model.wake(text(2), away), ValueError, "The state is on meta, the model on cpu")
    single = built("hybrid twice", torch.float32)
    refused(
        lambda: single.wake(text(2), mine), ValueError, "The state is torch.float64, the model torch.float32"
    )
    single.wake(text(2), mine.to(torch.float32))


def test_a_damaged_state_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    state = lived(built("sliding", torch.float32))
    path = tmp_path / "state"
    refused(
        lambda: SleepState.load(path), FileNotFoundError, "There is no state file .*save one with state.save"
    )
    state.save(path)
    whole = path.read_bytes()
    for length in (0, 4, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(lambda: SleepState.load(path), ValueError, "is not a whole safetensors file")
    for place in range(len(whole) - 1, whole.index(b"}}") + 3, -97):  # a changed number anywhere
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(lambda: SleepState.load(path), ValueError, "was changed after it was saved")
    path.write_bytes(whole.replace(b'"position":"8"', b'"position":"9"'))
    assert path.read_bytes() != whole
    refused(lambda: SleepState.load(path), ValueError, "was changed after it was saved")
    save_file(load_file(path), path)
    refused(lambda: SleepState.load(path), ValueError, "is not a saved sleep state: its format is None")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_state_is_neither_saved_nor_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    state, path = lived(built("sliding", torch.float32)), tmp_path / "state"
    broken = state.clone()
    broken.fast[0][1, 0, 0, 0] = value
    state.save(path)
    refused(lambda: broken.save(path), ValueError, r"The state holds NaN or infinity in fast\.0")
    same(SleepState.load(path), state, bits=True)  # what was there is still there
    with monkeypatch.context() as unchecked:
        unchecked.setattr("labkit.models.state._refuse_broken", lambda *_: None)
        broken.save(path)
    refused(lambda: SleepState.load(path), ValueError, r"holds NaN or infinity in fast\.0")


def test_a_failed_save_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = lived(built("hybrid"))
    path = tmp_path / "state"
    state.save(path)

    def fails(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="no space left"):
        state.map(torch.zeros_like).save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    same(SleepState.load(path), state, bits=True)


BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "vocab": ({"vocab": 0}, "vocab must be a whole number of at least 1, but it is 0"),
    "window": ({"window": 2.0}, r"window must be a whole number of at least 1, but it is 2\.0"),
    "repeat": ({"repeat": True}, "repeat must be a whole number of at least 1, but it is True"),
    "key_dim": ({"key_dim": -1}, "key_dim must be a whole number of at least 1"),
    "heads": ({"heads": 3}, r"dim=8 must be a multiple of 2 \* heads=6"),
    "pattern": ({"pattern": ("attention", "mamba")}, "pattern must name one or more of"),
    "no pattern": ({"pattern": ()}, "pattern must name one or more of"),
    "eviction": ({"eviction": "soft"}, "eviction must be one of .*'soft'"),
    "carry": ({"carry": "h"}, "carry must be one of .*'h'"),
    "mlp": ({"mlp_ratio": 0.0}, "mlp_ratio=0.0 leaves the hidden layer empty"),
}


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_bad_configuration_is_refused_in_a_sentence(what: str) -> None:
    changes, sentence = BAD_CONFIGS[what]
    refused(lambda: SleepConfig(**{**BASE, **changes}), ValueError, sentence)


@every_config
def test_a_configuration_can_be_written_down(name: str) -> None:
    config = built(name).config
    assert SleepConfig(**config.as_dict()) == config
