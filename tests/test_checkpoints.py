"""Checkpoints: what is saved comes back, and what is damaged is refused in a sentence."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import labkit
from labkit.checkpoints import list_checkpoints, load, read_card, save_checkpoint, task_of
from labkit.models import SleepConfig, SleepLM

TASK = {"kind": "depo", "nodes": 6, "hops": 2}
CONFIG = SleepConfig(vocab=8, window=12, dim=16, heads=2, repeat=1)


def a_model(seed: int = 0, config: SleepConfig = CONFIG) -> SleepLM:
    torch.manual_seed(seed)
    return SleepLM(config)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the checkpoints `tiny` s0 and s1."""
    for seed in (0, 1):
        save_checkpoint(a_model(seed), {"task": TASK, "steps": 7}, "tiny", seed, tmp_path)
    return tmp_path


def test_what_is_saved_comes_back(folder: Path) -> None:
    model, card = load("tiny", 1, folder)
    saved = a_model(1)
    for key, value in saved.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    assert model.config == CONFIG and not model.training
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(
            model.wake(tokens, model.init_state(1))[0], saved.wake(tokens, saved.init_state(1))[0]
        )
    assert card["name"] == "tiny" and card["seed"] == 1 and card["steps"] == 7
    assert card["parameters"] == sum(p.numel() for p in saved.parameters())
    assert set(card["versions"]) == {"python", "torch", "numpy", "labkit"}
    task = task_of(card)
    assert (task.name, task.vocab, task.window) == ("depo", CONFIG.vocab, CONFIG.window)
    assert list_checkpoints(folder) == [("tiny", 0), ("tiny", 1)]


def test_the_hash_in_the_card_is_that_of_the_file(folder: Path) -> None:
    data = (folder / "tiny-s0.safetensors").read_bytes()
    assert read_card("tiny", 0, folder)["sha256"] == hashlib.sha256(data).hexdigest()


def test_labkit_load_finds_the_data_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "data" / "checkpoints").mkdir(parents=True)
    monkeypatch.setenv("LABKIT_DATA", str(folder / "data"))
    save_checkpoint(a_model(5), {"task": TASK}, "tiny", 5)
    model, card = labkit.load("tiny", seed=5)
    assert card["seed"] == 5 and torch.equal(model.head.weight, a_model(5).head.weight)


def test_the_card_cannot_speak_for_the_model(tmp_path: Path) -> None:
    card = {"task": TASK, "sha256": "0" * 64, "config": {}, "name": "other", "parameters": 1}
    save_checkpoint(a_model(), card, "tiny", 0, tmp_path)
    assert load("tiny", 0, tmp_path)[1]["name"] == "tiny"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def edit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def exchange(path: Path) -> None:
    path.write_bytes(path.with_name("tiny-s1.safetensors").read_bytes())


def in_card(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        card = json.loads(path.with_suffix(".json").read_text())
        change(card)
        path.with_suffix(".json").write_text(json.dumps(card))

    return damage


def weights(new: Callable[[dict[str, torch.Tensor]], bytes]) -> Callable[[Path], None]:
    """Other weights, with a card that vouches for them."""

    def damage(path: Path) -> None:
        path.write_bytes(new(safetensors.torch.load(path.read_bytes())))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        in_card(lambda card: card.update(sha256=digest))(path)

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (truncate, r"is cut short \(\d+ of \d+ bytes\)"),
    "empty": (empty, "is cut short"),
    "one bit": (edit, "is not the file that its card describes"),
    "other seed's weights": (exchange, "is not the file that its card describes"),
    "wrong hash": (
        in_card(lambda card: card.update(sha256="0" * 64)),
        "is not the file that its card describes",
    ),
    "no hash": (in_card(lambda card: card.pop("sha256")), "no usable 'sha256'"),
    "no card": (lambda path: path.with_suffix(".json").unlink(), r"tiny-s0\.json is missing"),
    "torn card": (lambda path: truncate(path.with_suffix(".json")), "not valid JSON"),
    "card is a list": (lambda path: path.with_suffix(".json").write_text("[]"), "not of the format"),
    "format": (in_card(lambda card: card.update(format="other-9")), "not of the format"),
    "other name": (in_card(lambda card: card.update(name="elastic")), "is that of 'elastic', seed 0"),
    "other seed": (in_card(lambda card: card.update(seed=4)), "is that of 'tiny', seed 4"),
    "config: unknown": (in_card(lambda card: card["config"].update(depth=4)), "config in the card"),
    "config: bad": (in_card(lambda card: card["config"].update(dim=15)), "config in the card"),
    "config: larger": (in_card(lambda card: card["config"].update(dim=32)), "but torch.float32"),
    "config: more blocks": (in_card(lambda card: card["config"].update(repeat=2)), "is missing"),
    "config: fewer blocks": (
        in_card(lambda card: card["config"].update(pattern=["delta"])),
        "has no place|is missing",
    ),
    "weight missing": (
        weights(lambda w: safetensors.torch.save({k: v for k, v in w.items() if k != "norm.weight"})),
        "'norm.weight' is missing",
    ),
    "weight too many": (
        weights(lambda w: safetensors.torch.save({**w, "extra": torch.zeros(1)})),
        "'extra' has no place",
    ),
    "weight shape": (
        weights(lambda w: safetensors.torch.save({**w, "norm.weight": torch.zeros(3)})),
        r"'norm.weight' is torch.float32 \[3\]",
    ),
    "weight dtype": (
        weights(lambda w: safetensors.torch.save({k: v.double() for k, v in w.items()})),
        "is torch.float64",
    ),
    "no safetensors": (weights(lambda w: b"\x10" * 200), "is not a safetensors file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_and_nothing_is_lost(folder: Path, damage: str) -> None:
    harm, sentence = DAMAGES[damage]
    harm(folder / "tiny-s0.safetensors")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as caught:
        load("tiny", 0, folder)
    assert "labkit train" in str(caught.value)  # what to do
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    load("tiny", 1, folder)


def test_a_pickle_is_not_opened(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(folder / "sprung"),))

    weights(lambda w: pickle.dumps(Trap()))(folder / "tiny-s0.safetensors")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load("tiny", 0, folder)
    assert not (folder / "sprung").exists()


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 'tinny'.*'tiny'"):
        load("tinny", 0, folder)
    with pytest.raises(FileNotFoundError, match=r"no seed 2 of 'tiny'.*there is 0, 1"):
        load("tiny", 2, folder)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint '\.\./tiny'"):
        load("../tiny", 0, folder)
    for seed in (True, 0.0, -1, 1_000_000, "0"):
        with pytest.raises((TypeError, ValueError), match="A seed must be a whole number"):
            load("tiny", seed, folder)  # type: ignore[arg-type]


def test_a_bad_save_leaves_the_old_checkpoint(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    broken = a_model()
    with torch.no_grad():
        broken.head.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=re.escape("'head.weight' are not finite")):
        save_checkpoint(broken, {"task": TASK}, "tiny", 0, folder)
    with pytest.raises(ValueError, match="JSON cannot hold this card"):
        save_checkpoint(a_model(3), {"task": TASK, "metrics": float("inf")}, "tiny", 0, folder)
    with pytest.raises(ValueError, match="must say what the task is"):
        save_checkpoint(a_model(3), {}, "tiny", 0, folder)
    for name in ("Tiny", "../tiny", "tiny_2", "", "-tiny"):
        with pytest.raises(ValueError, match="must be lower-case"):
            save_checkpoint(a_model(3), {"task": TASK}, name, 0, folder)
    with pytest.raises(TypeError, match="Only a SleepLM"):
        save_checkpoint(torch.nn.Linear(1, 1), {"task": TASK}, "tiny", 0, folder)  # type: ignore[arg-type]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_kill_while_writing_leaves_the_old_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(a_model(3), {"task": TASK}, "tiny", 0, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    save_checkpoint(a_model(3), {"task": TASK}, "tiny", 0, folder)
    assert torch.equal(load("tiny", 0, folder)[0].head.weight, a_model(3).head.weight)


def test_a_task_that_cannot_be_made_is_told_in_a_sentence() -> None:
    for task in ({"kind": "depo", "nodes": "16"}, {"kind": "depo", "edges": 3}, {"nodes": 16}):
        with pytest.raises(ValueError, match=r"The task in the card of tiny-s0 cannot be used \(.*\)\. Restore both"):
            task_of({"name": "tiny", "seed": 0, "task": task})


def test_every_checkpoint_of_the_lab_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_DATA", raising=False)
    found = list_checkpoints()
    assert ("depo-elastic", 0) in found
    for name, seed in found:
        model, card = load(name, seed)
        task = task_of(card)
        assert task.vocab == model.config.vocab and task.window == model.config.window
        assert card["recipe"]["name"] == name and card["steps"] == card["recipe"]["training"]["steps"]
