"""Pairs by window and bits by length, drawn from rows and answers that the commands stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import untrained
from typer.testing import CliRunner

from labkit import bits, results
from labkit.cli import app
from labkit.explore import pairs_and_bytes

PAIRS = {"kind": "mqar", "pairs": 12, "keys": 12, "values": 12, "queries": 4, "window": 8}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "results").mkdir()
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    return tmp_path


def test_pairs_are_counted_by_the_windows_read_since(data: Path) -> None:
    """The share right of each window, from the answers as they are stored: pairs stand there in the order read."""
    with pytest.raises(FileNotFoundError, match="labkit evaluate mqar-lmm"):
        pairs_and_bytes.stored_pairs()
    for name in ("mqar-delta", "mqar-cache"):
        untrained.save(data, name, PAIRS)
        told = CliRunner().invoke(app, f"evaluate {name} --passes 1 2 --n 60 --quiet".split())
        assert told.exit_code == 0, told.output
    rows = pairs_and_bytes.stored_pairs(passes=2)
    assert rows[["kind", "windows"]].to_numpy().tolist() == [[k, b] for k in ("delta", "cache") for b in (1, 2, 3)]
    right = results.load_answers(data / "results" / "mqar-cache.csv")["correct"][0, 1]
    by_hand = [right[:, 8:].mean(), right[:, 4:8].mean(), right[:, :4].mean()]
    own = rows[rows["kind"] == "cache"]
    assert own["accuracy"].tolist() == by_hand and (own["low"] <= own["accuracy"]).all() and (own["n"] == 60).all()
    panel = pairs_and_bytes.pairs_by_window(rows)
    lines = {t.name: t for t in panel.figures["pairs-by-window"].data if t.fill != "toself"}
    assert list(lines) == ["gated delta", "full cache"] and list(lines["full cache"].x) == [0, 1, 2]
    assert list(lines["full cache"].y) == pytest.approx(by_hand)
    assert f"full cache {np.mean(by_hand):.2f}" in panel.sentence
    with pytest.raises(FileNotFoundError):
        pairs_and_bytes.stored_pairs(passes=7)


def test_bits_are_drawn_beside_the_compressor(data: Path) -> None:
    with pytest.raises(FileNotFoundError, match="labkit bits text-lmm"):
        pairs_and_bytes.stored_bits()
    for kind, value in (("mac", 2.0), ("sliding", 1.5)):
        for writes in (True, False):
            rows = pd.DataFrame({"checkpoint": f"text-{kind}", "seed": 0, "read": [64, 192], "passes": 1})
            rows = rows.assign(writes=writes, bits=[value + 0.2, value], low=value - 0.1, high=value + 0.3)
            rows = rows.assign(stretches=[f"{value + 0.1} {value + 0.3}", f"{value - 0.1} {value + 0.1}"])
            bits.store(rows, data / "results" / f"text-{kind}-bits.csv")
    assert len(pairs_and_bytes.stored_bits(writes=False)) == 4
    panel = pairs_and_bytes.bits_by_length()
    lines = {t.name: t for t in panel.figures["bits-by-length"].data if t.fill != "toself"}
    assert list(lines["MAC"].y) == pytest.approx([2.2, 2.0]) and list(lines["MAC"].x) == [7, 8]
    packed, tool = bits.compressed()
    assert list(lines[tool].y) == pytest.approx([packed] * 2)
    assert "MAC 2.00 after 192, sliding window 1.50 after 192" in panel.sentence
    fewer = pairs_and_bytes.fewer_than_window(pairs_and_bytes.stored_bits(), read=192)
    assert list(fewer.index) == ["MAC"] and fewer.loc["MAC"].tolist() == pytest.approx([-0.5] * 3, abs=1e-4)
    with pytest.raises(FileNotFoundError, match="labkit bits text-sliding"):
        pairs_and_bytes.fewer_than_window(pairs_and_bytes.stored_bits().query("kind == 'mac'"))
