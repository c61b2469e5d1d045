"""The long-term store: a history that only grows, whatever is killed, damaged or done at the same time."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labkit.store import Store

PROMOTE = """
import sys
from labkit.store import Store
store, name, count, size = Store(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for i in range(count):
    data = f"{name} {i} ".encode() * size
    print(store.promote(data, model="m", note=f"{name} {i}").number, flush=True)
assert "torch" not in sys.modules
"""


def promoting(store: Path, name: str, count: int, size: int = 10) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROMOTE, str(store), name, str(count), str(size)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_is_promoted_is_what_it_holds(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.head() is None and store.history() == []
    first = store.promote(b"one", model="m", note="a beginning", provenance={"passes": 4})
    second = store.promote(b"two", model="m", parent=first.number)
    assert [entry.number for entry in store.history()] == [1, 2]
    assert (second.parent, first.parent) == (1, None)
    assert store.read() == (second, b"two") and store.read(1) == (first, b"one")
    assert Store(tmp_path / "store").history() == [first, second]
    assert first.note == "a beginning" and first.provenance == {"passes": 4} and first.made.endswith("+00:00")


def test_a_bad_promotion_is_undone_and_nothing_is_lost(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for data in (b"good", b"bad"):
        store.promote(data, model="m")
    back = store.revert(note="it had learned nonsense")
    assert store.read() == (back, b"good") and back.kind == "revert" and back.provenance == {"reverts": 2}
    with pytest.raises(ValueError, match=r"Entry 3 is a revert already; say which one to go back to"):
        store.revert()
    again = store.revert(to=2)
    assert store.read() == (again, b"bad")
    assert [entry.kind for entry in store.history()] == ["promotion", "promotion", "revert", "revert"]
    assert store.read(2)[1] == b"bad"


def test_reverting_the_first_promotion_leaves_nothing_to_start_from(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="is empty, so there is nothing to revert"):
        store.revert()
    store.promote(b"bad", model="m")
    store.revert()
    with pytest.raises(ValueError, match="holds no memory"):
        store.read()
    store.promote(b"good", model="m")
    assert store.read()[1] == b"good" and store.read(1)[1] == b"bad"


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match=r"There is no entry 1 in .*; it is empty"):
        store.entry(1)
    store.promote(b"one", model="m")
    for number in (0, 2, True):
        with pytest.raises(ValueError, match="its entries are 1 to 1"):
            store.entry(number)
    with pytest.raises(ValueError, match="There is no entry 7"):
        store.promote(b"two", model="m", parent=7)
    for number in (None, "1"):
        with pytest.raises(ValueError, match="There is no entry"):
            store.entry(number)  # type: ignore[arg-type]
    for provenance in ({"x": float("nan")}, {"x": {1}}):
        with pytest.raises(ValueError, match="JSON cannot hold"):
            store.promote(b"two", model="m", provenance=provenance)
    assert len(store.history()) == 1 and len(list((tmp_path / "memories").iterdir())) == 1


def test_an_entry_is_returned_as_it_will_be_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = store.promote(b"one", model="m", provenance={10: 1, 9: (2, 3)})  # type: ignore[dict-item]
    assert entry == store.head() and entry.provenance == {"10": 1, "9": [2, 3]}


def test_promoting_over_a_damaged_memory_mends_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.promote(b"one" * 100, model="m")
    (tmp_path / "memories" / str(first.memory)).write_bytes(b"one")
    second = store.promote(b"one" * 100, model="m")
    assert store.read() == (second, b"one" * 100) and store.read(1)[1] == b"one" * 100


def test_a_damaged_newest_entry_can_be_left_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for data in (b"good", b"bad"):
        store.promote(data, model="m")
    (tmp_path / "history" / "00000002.json").write_bytes(b"")
    assert store.damaged() == [2] and [entry.number for entry in store.history()] == [1]
    with pytest.raises(ValueError, match="not a whole entry"):
        store.read()
    back = store.revert(to=1)
    assert store.read() == (back, b"good") and back.number == 3


def test_a_revert_undoes_what_was_promoted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    for data in (b"one", b"two"):
        store.promote(data, model="m")
    real = Store._added
    promoted = []

    def slowly(self: Store, entry: object) -> bool:
        if entry.kind == "revert" and not promoted:  # type: ignore[attr-defined]
            promoted.append(other.promote(b"three", model="m"))
        return real(self, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "_added", slowly)
    back = store.revert()
    assert (back.number, back.provenance) == (4, {"reverts": 3}) and store.read()[1] == b"two"


def test_damage_is_noticed_and_the_rest_can_be_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entries = [store.promote(data, model="m") for data in (b"one" * 100, b"two" * 100, b"three" * 100)]
    memory = tmp_path / "memories" / str(entries[2].memory)
    whole = memory.read_bytes()
    for damaged in (whole[:-1], whole[:5] + b"X" + whole[6:]):
        memory.write_bytes(damaged)
        with pytest.raises(ValueError, match="the memory of entry 3, was cut short or changed"):
            store.read()
    memory.unlink()
    with pytest.raises(ValueError, match="The memory of entry 3 is missing"):
        store.read()
    assert store.revert() and store.read()[1] == b"two" * 100
    line = tmp_path / "history" / "00000001.json"
    told = json.loads(line.read_text())
    line.write_text(json.dumps(told | {"note": "edited"}))
    with pytest.raises(ValueError, match="is not a whole entry of a store"):
        store.entry(1)
    assert store.entry(2) == entries[1]


@pytest.mark.slow
def test_twenty_processes_that_promote_at_once_lose_nothing(tmp_path: Path) -> None:
    each = 10
    running = [promoting(tmp_path, f"p{i}", each) for i in range(20)]
    numbers: list[int] = []
    with ThreadPoolExecutor(len(running)) as pool:
        for out, err in pool.map(lambda process: process.communicate(timeout=120), running):
            assert err == ""
            numbers += map(int, out.split())
    assert sorted(numbers) == list(range(1, 20 * each + 1)), "every promotion has a number of its own"
    history = Store(tmp_path).history()
    assert {entry.note for entry in history} == {f"p{i} {j}" for i in range(20) for j in range(each)}
    for entry in history:
        assert Store(tmp_path).read(entry.number)[1] == f"{entry.note} ".encode() * 10
    assert list(tmp_path.rglob("*.part")) == []


@pytest.mark.slow
def test_a_hundred_kills_leave_the_last_completed_promotion(tmp_path: Path) -> None:
    """kill -9 at random moments while megabytes are promoted; every number that was told is there, whole."""
    chance, done, interrupted = random.Random(0), 0, 0
    for turn in range(100):
        process = promoting(tmp_path, f"t{turn}", 10_000, size=100_000)
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        told = [int(line) for line in process.stdout.read().split()]
        process.communicate()
        store = Store(tmp_path)
        for number in told:
            entry, data = store.read(number)
            assert data == f"{entry.note} ".encode() * 100_000
        head, data = store.read()
        assert head.number >= max(told, default=done + 1) > done
        assert data == f"{head.note} ".encode() * 100_000
        done = head.number
        interrupted += len(list(tmp_path.rglob("*.part")))
        for left in [*tmp_path.rglob("*.part"), *(tmp_path / "memories").iterdir()]:
            if left.name != head.memory:
                left.unlink(missing_ok=True)  # room; the history stays whole
    assert [entry.number for entry in Store(tmp_path).history()] == list(range(1, done + 1))
    assert interrupted > 10, "some were killed in the middle of writing"
