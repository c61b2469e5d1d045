"""Bits per byte: every byte predicted once, from what comes before it, by hand and by the command."""

from __future__ import annotations

import bz2
import math
from pathlib import Path

import needle_models
import numpy as np
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from labkit import SleepConfig, SleepLM, bits, checkpoints
from labkit.cli import app
from labkit.tasks import Text
from labkit.tasks.text import all_bytes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two untrained models of text, of a neural memory and of attention, and one of needles; a short text."""
    for name, kind in (("bytes", "lmm"), ("window", "attention")):
        torch.manual_seed(0)
        config = SleepConfig(
            vocab=256, window=16, dim=16, pattern=(kind,), repeat=1, segment=16, eviction="sliding"
        )
        task = Text(32, 8, window=16)
        card = {"task": {"kind": "text", **task.params}, "recipe": {}}
        checkpoints.save_checkpoint(SleepLM(config), card, name, 0, tmp_path / "checkpoints")
    needle_models.save(tmp_path / "checkpoints", "lmm", (0,))
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    monkeypatch.setattr(bits, "BLOCK", 4)
    monkeypatch.setattr(bits, "STRETCH", 3)
    monkeypatch.setattr(bits, "all_bytes", lambda held_out: all_bytes(held_out=held_out)[:103])
    return tmp_path / "checkpoints"


def test_every_block_is_predicted_once_from_what_came_before(folder: Path) -> None:
    """Each block alone, byte by byte, in a session's own calls: sleep on its windows, wake, look at the next byte."""
    rows = bits.bits_per_byte("bytes", (0,), reads=(40, 0), folder=folder)
    model, _ = checkpoints.load("bytes", 0, folder)
    text = all_bytes(held_out=True)[:103]
    blocks = (103 - 40 - 1) // 4
    found = {}
    for read in (0, 40):
        each = []
        for begin in range(103 - 4 * blocks, 103, 4):
            state = model.init_state(1)
            for window in text[begin - 1 - read : begin - 1].split(16):
                state = model.sleep(window[None], state, 1) if len(window) else state
            nats = 0.0
            for at in range(begin, begin + 4):
                logits, state = model.wake(text[None, at - 1 : at], state)
                nats -= float(logits[0, -1].log_softmax(-1)[text[at]].detach())
            each.append(nats / 4 / math.log(2))
        found[read] = np.array(each)
    assert rows["read"].tolist() == [0, 40] and (rows["bytes"] == 4 * blocks).all()
    np.testing.assert_allclose(rows["bits"], [found[0].mean(), found[40].mean()], rtol=1e-5)
    parts = {read: each.reshape(5, 3).mean(1) for read, each in found.items()}  # 15 blocks: five stretches
    low, high = stats.t.interval(0.95, 4, parts[40].mean(), stats.sem(parts[40]))
    assert rows[["low", "high"]].iloc[1].tolist() == pytest.approx([low, high], rel=1e-5)
    fewer, apart = bits.fewer_bits(rows[1:], rows[:1]), parts[0] - parts[40]
    low, high = stats.t.interval(0.95, 4, apart.mean(), stats.sem(apart))
    assert list(fewer) == pytest.approx([apart.mean(), low, high], abs=2e-5)
    with pytest.raises(ValueError, match="measure both after the same numbers of bytes"):
        bits.fewer_bits(rows[1:], bits.bits_per_byte("bytes", (0,), reads=(60,), folder=folder))


def test_the_control_reads_and_writes_nothing(folder: Path) -> None:
    """A memory that is never written is worth the same after any text; attention has nothing to leave unwritten."""
    written = bits.bits_per_byte("bytes", (0,), reads=(16, 48), folder=folder)
    control = bits.bits_per_byte("bytes", (0,), reads=(16, 48), writes=False, folder=folder)
    assert abs(control["bits"].diff().iloc[1]) < 1e-5 < abs(written["bits"].diff().iloc[1])
    with pytest.raises(ValueError, match="no neural memory to leave unwritten"):
        bits.bits_per_byte("window", (0,), reads=(16,), writes=False, folder=folder)


def test_the_command_stores_its_rows_and_tells_what_a_compressor_needs(folder: Path) -> None:
    told = CliRunner().invoke(app, "bits bytes --read 0 16 --quiet".split())
    assert told.exit_code == 0 and "bits per byte of 84 held-out bytes" in told.stdout
    assert f"needs {bits.compressed()[0]:.3f}" in told.stdout
    assert (folder.parent / "results" / "bytes-bits.csv").read_text().count("\n") == 3
    assert CliRunner().invoke(app, "bits bytes --read 16 --no-writing --quiet".split()).exit_code == 0
    rows = bits.read(folder.parent / "results" / "bytes-bits.csv")
    assert rows[["writes", "read"]].to_numpy().tolist() == [[False, 16], [True, 0], [True, 16]]
    for line, sentence in (
        ("bits lmm --quiet --read 0", "bits per byte are those of models of text"),
        ("bits bytes --quiet --read 90", "one number or several from 0 to 78, not [90]"),
    ):
        told = CliRunner().invoke(app, line.split())
        assert told.exit_code == 2 and sentence in told.stderr


def test_the_better_of_two_compressors_is_told() -> None:
    known, new = (bytes(all_bytes(held_out=held_out).tolist()) for held_out in (False, True))
    by_hand = 8 * (len(bz2.compress(known + new)) - len(bz2.compress(known))) / len(new)
    assert bits.compressed() == (by_hand, "bzip2") and by_hand < 8 * len(bz2.compress(new)) / len(new)
