"""Sessions: what one learns is its own, ends with it, and can be kept, on every model of the lab."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

import labkit
from labkit.models import SleepConfig, SleepLM
from labkit.session import Session, fingerprint
from labkit.store import Store

VOCAB = 11
KINDS = {
    "sleeping hybrid": {"pattern": ("attention", "delta")},
    "sliding hybrid": {"pattern": ("attention", "delta"), "eviction": "sliding"},
    "full cache": {"pattern": ("attention",), "eviction": "keep"},
    "lmm": {"pattern": ("lmm",)},
    "mac": {"pattern": ("mac",)},
    "mag, sliding": {"pattern": ("mag",), "eviction": "sliding"},
    "mal": {"pattern": ("mal",)},
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def model_of(kind: str, seed: int = 0) -> SleepLM:
    torch.manual_seed(seed)
    config = SleepConfig(vocab=VOCAB, window=8, dim=16, repeat=1, segment=4, chunk_size=4, **KINDS[kind])
    return SleepLM(config).eval().requires_grad_(False)


def stream(seed: int, length: int = 29) -> Tensor:
    return torch.randint(0, VOCAB, (length,), generator=torch.Generator().manual_seed(seed))


def same(a: Session, b: Session) -> bool:
    return torch.equal(a.ask([1, 2, 3]), b.ask([1, 2, 3])) and torch.equal(a.pending, b.pending)


@each_kind
def test_it_sleeps_by_itself_however_tokens_are_split(kind: str) -> None:
    model, tokens = model_of(kind), stream(0)
    whole = Session(model, passes=2)
    whole.observe(tokens)
    state = model.init_state(1)
    for window in tokens[:24].view(3, 1, 8):
        state = model.sleep(window, state, passes=2)
    assert all(torch.equal(a, b) for a, b in zip(whole.state.fast, state.fast, strict=True))
    assert (whole.read, whole.sleeps, whole.pending.tolist()) == (29, 3, tokens[24:].tolist())
    for cuts in ([1] * 29, [7, 1, 0, 16, 5]):
        other = Session(model, passes=2)
        for part in tokens.split(cuts):
            other.observe(part.tolist())
        assert same(other, whole) and (other.read, other.sleeps) == (29, 3)


@each_kind
def test_asking_leaves_no_trace_and_hears_what_is_pending(kind: str) -> None:
    model, tokens = model_of(kind), stream(1)
    session = Session(model)
    session.observe(tokens)
    before = session.state
    first = session.ask([1, 2, 3])
    assert first.shape == (3, VOCAB) and session.state is before
    assert torch.equal(session.ask([1, 2, 3]), first)
    wanted, _ = model.wake(torch.cat([tokens[24:], torch.tensor([1, 2, 3])])[None], before)
    assert torch.equal(first, wanted[0, -3:])


def test_more_passes_and_sleeping_now() -> None:
    model, tokens = model_of("sleeping hybrid"), stream(2, 5)
    session = Session(model, passes=3)
    session.observe(tokens)
    session.sleep(1)
    wanted = model.sleep(tokens[None], model.init_state(1), 1)
    assert torch.equal(session.state.fast[0], wanted.fast[0]) and len(session.pending) == 0 and session.sleeps == 1
    session.sleep()
    assert session.sleeps == 1, "nothing pending, nothing slept"


@each_kind
def test_a_fork_goes_its_own_way(kind: str) -> None:
    session = Session(model_of(kind))
    session.observe(stream(3))
    other = session.fork()
    assert same(session, other)
    kept = session.ask([1, 2, 3])
    other.observe(stream(4))
    assert torch.equal(session.ask([1, 2, 3]), kept) and not same(session, other)


@pytest.mark.parametrize("kind", ["sleeping hybrid", "mac", "mag, sliding"])
def test_fifty_sessions_interleaved_at_random_are_bit_equal_to_each_alone(kind: str) -> None:
    model, chance = model_of(kind), random.Random(0)
    streams = [stream(100 + i, chance.randint(10, 40)) for i in range(50)]
    together = [Session(model, passes=1 + i % 3) for i in range(50)]
    left = [list(tokens) for tokens in streams]
    while any(left):
        i = chance.choice([i for i, rest in enumerate(left) if rest])
        count = chance.randint(1, 9)
        together[i].observe([int(t) for t in left[i][:count]])
        left[i] = left[i][count:]
        if chance.random() < 0.3:
            together[chance.randrange(50)].ask([chance.randrange(VOCAB)])
    for i, tokens in enumerate(streams):
        alone = Session(model, passes=1 + i % 3)
        alone.observe(tokens)
        assert all(torch.equal(a, b) for a, b in zip(alone.state.fast, together[i].state.fast, strict=True))
        assert same(alone, together[i])


@each_kind
def test_a_saved_session_goes_on_as_if_it_had_not_stopped(kind: str, tmp_path: Path) -> None:
    model, path = model_of(kind), tmp_path / "kept" / "session.safetensors"
    session = Session(model, passes=2)
    session.observe(stream(5))
    session.save(path)
    again = Session.load(path, model_of(kind))
    assert same(session, again) and (again.passes, again.read, again.sleeps) == (2, 29, 3)
    for one in (session, again):
        one.observe(stream(6))
    assert same(session, again)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model, path = model_of("mac"), tmp_path / "session.safetensors"
    with pytest.raises(FileNotFoundError, match=r"There is no session file .*; save one with session.save"):
        Session.load(path, model)
    session = Session(model)
    session.observe(stream(7))
    session.save(path)
    whole = path.read_bytes()
    for other in (model_of("mac", seed=1), model_of("lmm")):
        with pytest.raises(ValueError, match="was made with another model"):
            Session.load(path, other)
    for damaged in (whole[:-3], whole[:100], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a whole safetensors file"):
            Session.load(path, model)
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(ValueError, match="was changed after it was saved"):
        Session.load(path, model)
    session.state.save(path)
    with pytest.raises(ValueError, match="is not a saved session"):
        Session.load(path, model)


def test_a_broken_memory_is_not_saved_and_the_old_file_stays(tmp_path: Path) -> None:
    session = Session(model_of("lmm"))
    session.observe(stream(8))
    session.save(tmp_path / "s")
    before = (tmp_path / "s").read_bytes()
    session.state = session.state.map(lambda t: t * float("nan"))
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        session.save(tmp_path / "s")
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        session.promote(Store(tmp_path / "store"))
    assert (tmp_path / "s").read_bytes() == before and Store(tmp_path / "store").history() == []


@each_kind
def test_what_is_promoted_later_sessions_start_from(kind: str, tmp_path: Path) -> None:
    model, store = model_of(kind), labkit.Store(tmp_path)
    first = labkit.Session(model, passes=2)
    first.observe(stream(9))
    pending = first.pending.tolist()
    entry = first.promote(store, note="the first day")
    assert (entry.note, entry.parent, entry.model) == ("the first day", None, fingerprint(model))
    assert entry.provenance == {"passes": 2, "tokens": 29, "windows": 4}
    assert first.pending.tolist() == pending, "the session itself goes on as it was"
    second = labkit.Session.start(model, store)
    first.sleep()
    assert same(first, second) and second.passes == 2
    second.observe(stream(10))
    assert second.promote(store).parent == entry.number
    elsewhere = labkit.Store(tmp_path / "elsewhere")
    stray = labkit.Session.start(model, store).promote(elsewhere)
    assert stray.parent is None and "another store" in stray.provenance["grew out of"]
    store.revert()
    assert same(labkit.Session.start(model, store), first)
    assert same(labkit.Session.start(model, store, 2).fork(), labkit.Session.start(model, store, 2, passes=7))
    with pytest.raises(ValueError, match=r"Entry 3 of .* was made with another model"):
        labkit.Session.start(model_of(kind, seed=1), store)


@each_kind
def test_writing_into_a_state_reaches_neither_the_model_nor_another_session(kind: str) -> None:
    model = model_of(kind)
    fresh = Session(model).ask([1, 2, 3])
    for t in Session(model).state.fast:
        t.fill_(7.0)
    assert torch.equal(Session(model).ask([1, 2, 3]), fresh)


def test_two_threads_may_save_to_one_path(tmp_path: Path) -> None:
    model = model_of("sleeping hybrid")
    sessions = [Session(model, passes=n) for n in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: sessions[i % 2].save(tmp_path / "s"), range(60)))
    assert Session.load(tmp_path / "s", model).passes in (1, 2) and len(list(tmp_path.iterdir())) == 1


def test_a_session_that_was_not_promoted_reaches_nobody(tmp_path: Path) -> None:
    model, store = model_of("mac"), Store(tmp_path)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    fresh = Session(model).ask([1, 2, 3])
    session = Session(model)
    session.observe(stream(11))
    assert not torch.equal(session.ask([1, 2, 3]), fresh)
    assert torch.equal(Session(model).ask([1, 2, 3]), fresh) and store.history() == []
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


@pytest.mark.slow
def test_sessions_in_several_processes_promote_into_one_store(tmp_path: Path) -> None:
    script = f"""
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_session import Session, Store, model_of, stream
session = Session(model_of("mac"))
session.observe(stream(int(sys.argv[1])))
session.promote(Store({str(tmp_path)!r}), note=sys.argv[1])
"""
    running = [subprocess.Popen([sys.executable, "-c", script, str(i)]) for i in range(4)]
    assert [process.wait(timeout=120) for process in running] == [0] * 4
    model, store = model_of("mac"), Store(tmp_path)
    assert sorted(entry.note for entry in store.history()) == list("0123")
    for entry in store.history():
        alone = Session(model)
        alone.observe(stream(int(entry.note)))
        alone.sleep()
        assert same(Session.start(model, store, entry.number), alone)


def test_what_are_no_tokens_is_said_and_changes_nothing() -> None:
    session = Session(model_of("lmm"))
    session.observe([1, 2])
    for wrong, error, sentence in (
        ([11], ValueError, "Token 11 is not in the vocabulary of 11 ids, 0 to 10"),
        (torch.zeros(1, 3, dtype=torch.int64), TypeError, r"of the shape \[T\]"),
        (torch.zeros(3), TypeError, "these are torch.float32"),
        ([1.7, 2.0], TypeError, "these are torch.float32"),
        ([True], TypeError, "these are torch.bool"),
        (3, TypeError, "Tokens are whole numbers in a list or a tensor"),
        ("ab", TypeError, "Tokens are whole numbers in a list or a tensor"),
        ([[1], [2]], TypeError, r"of shape \[2, 1\]"),
    ):
        for call in (session.observe, session.ask):
            with pytest.raises(error, match=sentence):
                call(wrong)  # type: ignore[arg-type]
    assert session.pending.tolist() == [1, 2] and session.read == 2
    for passes, error in ((-1, ValueError), (True, TypeError), (1.5, TypeError)):
        with pytest.raises(error, match="passes must be"):
            session.sleep(passes)  # type: ignore[arg-type]
        with pytest.raises(error, match="passes must be"):
            Session(session.model, passes)  # type: ignore[arg-type]
    assert repr(session) == "Session(passes=4, read=2, sleeps=0, pending=2)"
    with pytest.raises(TypeError, match="model must be a SleepLM, but it is 'depo-elastic'"):
        Session("depo-elastic")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="store must be a Store"):
        session.promote("folder")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model must be a SleepLM"):
        Session.load(session.model, "path")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is about one stream"):
        Session(session.model, state=session.model.init_state(2))
