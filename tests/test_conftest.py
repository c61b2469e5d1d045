"""What the tests stand on, proved: the serial lock, the poisoned memory, the search for a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import chromium

PLANTED = """
import os, pathlib, time, pytest
LOG = pathlib.Path(os.environ["INTERVALS"])

def stay(kind):
    start = time.monotonic()
    time.sleep(0.15)
    with open(LOG, "a") as log:
        log.write(f"{kind} {start} {time.monotonic()}\\n")

@pytest.mark.parametrize("n", range(10))
def test_others(n):
    stay("other")

@pytest.mark.serial
@pytest.mark.parametrize("n", range(3))
def test_serial(n):
    stay("serial")
"""


@pytest.mark.slow
def test_a_serial_test_runs_alone(repo: Path, tmp_path: Path) -> None:
    for name in ("conftest.py", "chromium.py"):
        shutil.copy(repo / "tests" / name, tmp_path / name)
    (tmp_path / "test_planted.py").write_text(PLANTED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = serial\n")
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    env["INTERVALS"] = str(tmp_path / "log")
    line = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--basetemp", str(tmp_path / "base"), "."]
    done = subprocess.run(
        line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    rows = [row.split() for row in (tmp_path / "log").read_text().splitlines()]
    spans = [(kind, float(start), float(end)) for kind, start, end in rows]
    assert len(spans) == 13
    overlaps = [{a[0], b[0]} for i, a in enumerate(spans) for b in spans[:i] if a[1] < b[2] and b[1] < a[2]]
    assert {"serial"} not in overlaps and {"serial", "other"} not in overlaps
    assert {"other"} in overlaps, "nothing ran side by side, so this proved nothing"


def test_poisoned_memory(poisoned_empty: None) -> None:
    like = torch.ones(4, dtype=torch.float64)
    for tensor in (
        torch.empty(5),
        torch.empty_like(like),
        like.new_empty(2, 3),
        torch.empty_strided((2,), (1,)),
    ):
        assert tensor.isnan().all()
    assert (torch.empty(3, dtype=torch.int64) == torch.iinfo(torch.int64).max).all()


def test_memory_is_poisoned_on_request_only() -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1


def test_seeds_are_set_before_each_test() -> None:
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))


def test_the_browser_asked_for_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "mine"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(own))
    assert chromium.find() == str(own)
    monkeypatch.setenv("CHROMIUM", "none")
    assert chromium.find() is None
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError, match="there is no program; correct or unset it\\."):
        chromium.find()


def test_a_missing_browser_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chromium, "find", lambda: None)
    monkeypatch.setattr(chromium, "is_root_on_debian", lambda: False)
    assert chromium.main() == 0
    assert "will be reported as not run. To run them: " + chromium.command() in capsys.readouterr().out


def test_root_on_debian_installs_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(chromium, "find", lambda: None)
    monkeypatch.setattr(chromium, "is_root_on_debian", lambda: True)
    ran: list[list[str]] = []

    def fake_run(line: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(line)
        return subprocess.CompletedProcess(line, 0)

    monkeypatch.setattr(chromium.subprocess, "run", fake_run)
    assert chromium.main() == 0
    assert [line[:2] for line in ran] == [["apt-get", "update"], ["apt-get", "install"]]
    assert ran[1][-1] == "chromium"


@pytest.mark.slow
def test_without_a_browser_only_the_browser_tests_are_not_run(repo: Path) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    files = ["tests/test_browser_harness.py", "tests/test_quarantines.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *files],
        cwd=repo,
        env={**env, "CHROMIUM": "none"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    last = done.stdout.splitlines()[-1]
    assert "2 passed, 8 skipped" in last, done.stdout
    assert "not run: no Chromium here" in done.stdout
