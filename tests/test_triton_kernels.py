"""The Triton kernels against the float64 references: by the interpreter where there is no GPU, and compiled for two."""

from __future__ import annotations

import importlib.util
import itertools
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from labkit import checks
from labkit.kernels import gated_delta_rule, neural_memory
from labkit.kernels.backends import farthest, without_triton
from labkit.kernels.gated_delta import choice, choose_backend
from labkit.kernels.titans import choice as memories

triton = pytest.importorskip("triton", reason="Triton has wheels for Linux only")
from labkit.kernels.gated_delta import triton_chunked
from labkit.kernels.gated_delta.triton_chunked import triton_gated_delta_rule
from labkit.kernels.gated_delta.triton_recurrent import triton_recurrent_gated_delta_rule
from labkit.kernels.titans.triton_linear import triton_linear_memory

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
STATES = ("initial_state", "weights", "velocity")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


pytestmark = pytest.mark.usefixtures("poisoned_empty")


def results(form: Any, inputs: dict[str, Tensor], weights: list[Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """What a form gives, and the gradient of every input; a state is never shorter than float32."""
    state = torch.float64 if dtype == torch.float64 else torch.float32
    own = {
        name: t.to(DEVICE, state if name in STATES else dtype).requires_grad_()
        for name, t in inputs.items()
    }
    found = form(**own)
    loss = sum((t * w.to(DEVICE, t.dtype)).sum() for t, w in zip(found, weights, strict=True))
    gradients = torch.autograd.grad(loss, list(own.values()), allow_unused=True)
    told = {f"result {i}": t for i, t in enumerate(found)}
    return told | {f"gradient of {name}": t for name, t in zip(own, gradients, strict=True)}


def compare(form: Any, reference: Any, inputs: dict[str, Tensor], weights: list[Tensor], dtype: torch.dtype) -> None:
    # rounding what comes in, forward and backward, is no error of a kernel; states come in float32
    inputs = {name: t if name in STATES else t.to(dtype).to(t.dtype) for name, t in inputs.items()}
    weights = [weights[0].to(dtype).to(weights[0].dtype), *weights[1:]]
    right, found = (results(f, inputs, weights, d) for f, d in ((reference, torch.float64), (form, dtype)))
    for what, wanted in right.items():
        assert checks.relative_error(found[what], wanted) <= LIMITS[dtype], what


def delta(**options: Any) -> Any:
    return lambda **inputs: triton_gated_delta_rule(**inputs, scale=0.5, **options)


def reference(**inputs: Tensor) -> tuple[Tensor, Tensor]:
    return gated_delta_rule(**inputs, scale=0.5, backend="recurrent")  # type: ignore[arg-type]


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
@pytest.mark.parametrize(("length", "chunk"), [(1, 16), (15, 64), (50, 16), (65, 32)])
@pytest.mark.parametrize("case", checks.CASES)
def test_chunks_equal_the_recurrence(case: str, length: int, chunk: int, filled: bool) -> None:
    inputs, weights = checks.draw(case, length, filled, torch.Generator().manual_seed(2), batch=1)
    compare(delta(chunk_size=chunk), reference, inputs, list(weights), torch.float32)


@pytest.mark.parametrize("length", [16, 65, 200])
@pytest.mark.parametrize("case", checks.CASES)
def test_chunks_of_short_numbers_equal_the_recurrence(case: str, length: int) -> None:
    """In bfloat16, with what tensor cores round rounded."""
    sizes = {"key_dim": 24, "value_dim": 32}
    inputs, weights = checks.draw(case, length, True, torch.Generator().manual_seed(2), **sizes)
    compare(delta(chunk_size=64), reference, inputs, list(weights), torch.bfloat16)


def test_labkit_check_measures_the_kernels_where_they_run() -> None:
    rows = checks.gated_delta_errors((), ["random"], [17, 65], device=torch.device(DEVICE), kernels=LIMITS)
    assert {(r.backend, r.dtype, r.chunk) for r in rows} == {("triton", d, c) for d in LIMITS for c in (16, 64)}
    assert checks.kept(rows, checks.LIMITS) and max(row.error for row in rows) > 1e-4  # bfloat16 has few digits


@pytest.mark.parametrize(("key_dim", "value_dim"), [(40, 33), (16, 70), (130, 17)])
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_widths_that_fill_no_tile(key_dim: int, value_dim: int, dtype: torch.dtype) -> None:
    sizes = {"batch": 1, "key_dim": key_dim, "value_dim": value_dim}
    inputs, weights = checks.draw("random", 37, True, torch.Generator().manual_seed(3), **sizes)
    compare(delta(chunk_size=16), reference, inputs, list(weights), dtype)


def test_gates_may_be_shorter_than_keys() -> None:
    """As under autocast. What a compiler made of it was seen on a GPU only: a product in float64 of bfloat16."""
    inputs, weights = checks.draw("random", 37, True, torch.Generator().manual_seed(9), key_dim=16)
    gates = {name: inputs[name].bfloat16() for name in ("g", "beta")}
    wanted = results(reference, inputs | {n: t.float() for n, t in gates.items()}, list(weights), torch.float64)
    own = {n: t.to(DEVICE).requires_grad_() for n, t in (inputs | gates).items()}
    found = delta(chunk_size=16)(**own)
    loss = sum((t * w.to(DEVICE)).sum() for t, w in zip(found, weights, strict=True))
    slopes = dict(zip(own, torch.autograd.grad(loss, list(own.values())), strict=True))
    assert {n: t.dtype for n, t in slopes.items()} == {n: t.dtype for n, t in own.items()}
    for i, t in enumerate(found):
        assert checks.relative_error(t, wanted[f"result {i}"]) <= 1e-5
    for name, slope in slopes.items():
        limit = LIMITS[slope.dtype]
        assert checks.relative_error(slope, wanted[f"gradient of {name}"]) <= limit, name


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("length", [1, 3, 20])
def test_steps_equal_the_recurrence(length: int, dtype: torch.dtype) -> None:
    inputs, weights = checks.draw("some forgotten", length, True, torch.Generator().manual_seed(4), key_dim=20)

    def form(**inputs: Tensor) -> tuple[Tensor, Tensor]:
        return triton_recurrent_gated_delta_rule(**inputs, scale=0.5, chunk_size=16)

    compare(form, reference, inputs, list(weights), dtype)


@pytest.mark.parametrize(("length", "width"), [(1, 8), (16, 16), (37, 40)])
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_a_linear_memory_equals_its_chunks(length: int, width: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    tokens, gates, square = (2, length, 2, width), (2, length, 2), (2, 2, width, width)
    inputs = {name: torch.randn(tokens, generator=generator) for name in "qkv"}
    inputs["k"] = torch.nn.functional.normalize(inputs["k"], dim=-1)
    for name, most in (("step", 0.2), ("momentum", 1.0), ("forget", 0.1)):
        inputs[name] = most * torch.rand(gates, generator=generator)
    inputs |= {name: 0.2 * torch.randn(square, generator=generator) for name in ("weights", "velocity")}
    weights = [torch.randn(shape, generator=generator) for shape in (tokens, square, square)]

    def chunks(weights: Tensor, velocity: Tensor, **inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, ((w,), (s,)) = neural_memory(**inputs, weights=[weights], velocity=[velocity], chunk_size=16)
        return y, w, s

    compare(lambda **inputs: triton_linear_memory(**inputs, chunk_size=16), chunks, inputs, weights, dtype)


def test_what_the_kernels_do_not_take_is_refused() -> None:
    inputs, _ = checks.draw("random", 3, False, torch.Generator().manual_seed(6))
    long = {name: t.to(DEVICE, torch.float64) for name, t in inputs.items()}
    with pytest.raises(ValueError, match=r'takes float32 or shorter, not torch\.float64\. Take backend="chunked"'):
        gated_delta_rule(**long, backend="triton")  # type: ignore[arg-type]
    wide, _ = checks.draw("random", 3, False, torch.Generator().manual_seed(6), key_dim=257)
    with pytest.raises(ValueError, match=r"up to 256 channels, not keys of 257 and values of 6\. Take backend"):
        gated_delta_rule(**{n: t.to(DEVICE) for n, t in wide.items()}, backend="triton")  # type: ignore[arg-type]


def seen(batch: int, heads: int, width: int, device: str = DEVICE) -> Any:
    """Queries of that shape of which one number is stored, said to lie on a device."""
    q = torch.zeros(()).expand(batch, 3, heads, width)
    return SimpleNamespace(device=torch.device(device), dtype=q.dtype, shape=q.shape)


def test_more_heads_than_a_grid_holds_are_left_to_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (choice, memories):
        monkeypatch.setattr(module, "agrees_on", lambda *asked: True)
    begun = [torch.zeros(())]
    for batch, heads in ((65_535, 1), (4_369, 15)):
        here, there = seen(batch, heads, 8), seen(batch, heads, 8, "cuda")
        assert choice.why_not(here, here) is None and memories.why_not(here, begun, 16, None, None) is None
        assert choose_backend(there, there).backend == memories.choose_backend(there, begun, 16).backend == "triton"
    for batch, heads, told in ((65_536, 1, "65,536 rows times 1;"), (4_096, 16, "4,096 rows times 16;")):
        here, there = seen(batch, heads, 8), seen(batch, heads, 8, "cuda")
        for why in (choice.why_not(here, here), memories.why_not(here, begun, 16, None, None)):
            assert why is not None and f"takes up to 65,535 heads of all rows together, not {told} give" in why
        for chosen in (choose_backend(there, there), memories.choose_backend(there, begun, 16)):
            assert chosen.backend == "chunked" and "65,535" in chosen.why
    inputs = {name: torch.zeros(()).expand(65_536, 3, 1, 4) for name in "qkv"}
    inputs |= {name: torch.zeros(()).expand(65_536, 3, 1) for name in ("g", "beta")}
    with pytest.raises(ValueError, match=r'65,536 rows times 1; give it fewer.* Take backend="chunked"\.'):
        gated_delta_rule(**{n: t.to(DEVICE) for n, t in inputs.items()}, backend="triton")  # type: ignore[arg-type]


def test_a_memory_too_wide_for_long_chunks_is_left_to_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test that compiles holds what is allowed to the shared memory of two GPUs."""
    monkeypatch.setattr(memories, "agrees_on", lambda *asked: True)
    begun = [torch.zeros(())]
    for width, chunk in ((128, 64), (256, 32), (256, 16)):
        assert memories.why_not(seen(1, 1, width), begun, chunk, None, None) is None
    for width in (129, 200, 256):
        why = memories.why_not(seen(1, 1, width), begun, 64, None, None)
        assert why is not None and f"chunks of 64 up to a width of 128, not {width}, which would not fit" in why
        assert memories.choose_backend(seen(1, 1, width, "cuda"), begun, 64) == ("chunked", why)
    why = memories.why_not(seen(1, 1, 257), begun, 16, None, None)
    assert why is not None and "widths of up to 256" in why


def test_without_triton_or_a_gpu_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _ = checks.draw("random", 3, False, torch.Generator().manual_seed(6))
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    if DEVICE == "cpu":
        with pytest.raises(ValueError, match=r"run on a GPU.*TRITON_INTERPRET=1.*Take backend"):
            gated_delta_rule(**inputs, backend="triton")  # type: ignore[arg-type]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[kernels\]'"):
        gated_delta_rule(**inputs, backend="triton")  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [5, 20])
def test_by_name_the_rule_is_computed_by_the_kernels(length: int) -> None:
    inputs, _ = checks.draw("random", length, True, torch.Generator().manual_seed(6))
    inputs = {name: t.to(DEVICE) for name, t in inputs.items()}
    wanted = gated_delta_rule(**inputs, backend="recurrent")  # type: ignore[arg-type]
    found = gated_delta_rule(**inputs, backend="triton")  # type: ignore[arg-type]
    assert farthest(found, wanted) < 1e-5
    assert not any(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))  # it was another form


def test_auto_takes_the_kernels_where_they_agree_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen on a GPU, told of tensors that say they lie on one."""
    choice.agrees_on.cache_clear()
    exact, short = torch.float32, torch.bfloat16
    asked = torch.device(DEVICE), (exact, exact, exact), 8, 24, 70
    assert choice.agrees_on(*asked)
    for formats, length in (((short, short, short), 15), ((short, short, short), 64), ((exact, exact, short), 70)):
        assert choice.agrees_on(torch.device(DEVICE), formats, 40, 16, length)
    with monkeypatch.context() as patch:
        patch.setattr(triton_chunked, "triton_gated_delta_rule", lambda *a, **o: broken(*a, **o))
        choice.agrees_on.cache_clear()
        with pytest.warns(UserWarning, match=r"from the chunked form on .*, so it is not used"):
            assert not choice.agrees_on(*asked)
    choice.agrees_on.cache_clear()

    there = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32, shape=(1, 9, 2, 8))
    for agrees, backend in ((True, "triton"), (False, "chunked")):
        monkeypatch.setattr(choice, "agrees_on", lambda *asked, agrees=agrees: agrees)
        chosen = choose_backend(there, there)  # type: ignore[arg-type]
        assert chosen.backend == backend and chosen.why.endswith(".")
    here = torch.zeros(1, 9, 2, 8)
    assert choose_backend(here, here).backend == "chunked" and choose_backend(here[:, :1], here).backend == "recurrent"


def test_the_trial_is_made_whatever_the_caller_has_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device(DEVICE)
    asked = device, (torch.float32,) * 3, 16, 16, 70
    for agrees_on, sizes in ((choice.agrees_on, asked), (memories.agrees_on, (device, torch.float32, 16, 32))):
        agrees_on.cache_clear()
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16):
            assert agrees_on(*sizes)

    def cannot(*args: Any, **options: Any) -> Any:
        raise RuntimeError("out of shared memory")

    monkeypatch.setattr(triton_chunked, "triton_gated_delta_rule", cannot)
    choice.agrees_on.cache_clear()
    with pytest.warns(UserWarning, match=r"not to be run \(RuntimeError: out of shared memory\)"):
        assert not choice.agrees_on(*asked)
    choice.agrees_on.cache_clear()


def test_while_operations_are_counted_no_kernel_hides_them() -> None:
    here = torch.zeros(1, 20, 2, 8, device=DEVICE)
    assert choice.why_not(here, here) is None
    with without_triton():
        assert choice.why_not(here, here) == "What happens inside Triton's kernels cannot be counted."
        assert choose_backend(here, here).backend == "chunked"
    assert choice.why_not(here, here) is None


def test_nothing_at_all_has_gradients_too() -> None:
    inputs, weights = checks.draw("random", 0, True, torch.Generator().manual_seed(6))
    leaves = {name: t.to(DEVICE).requires_grad_() for name, t in inputs.items()}
    o, state = gated_delta_rule(**leaves, backend="triton")  # type: ignore[arg-type]
    (slope,) = torch.autograd.grad((state * weights[1].to(DEVICE)).sum(), leaves["initial_state"])
    assert o.shape == inputs["v"].shape and torch.equal(slope.cpu(), weights[1])


@pytest.mark.parametrize("case", ["equal keys", "some forgotten"])
def test_a_thousand_tokens_keep_their_digits(case: str) -> None:
    sizes = {"batch": 1, "heads": 1, "key_dim": 16, "value_dim": 16}
    inputs, weights = checks.draw(case, 1000, True, torch.Generator().manual_seed(8), **sizes)
    compare(delta(chunk_size=32), reference, inputs, list(weights), torch.float32)


def broken(*args: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """The rule with one gradient a little off."""
    q, *others = args
    return triton_gated_delta_rule(1.01 * q - 0.01 * q.detach(), *others, **options)


def test_a_linear_memory_takes_the_kernels_by_name_and_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(7)
    q, k, v = torch.randn(3, 1, 20, 2, 8, generator=generator).to(DEVICE)
    drawn = 0.1 * torch.rand(3, 1, 20, 2, generator=generator).to(DEVICE)
    gates = dict(zip(("step", "momentum", "forget"), drawn, strict=True))
    begun = torch.randn(1, 2, 8, 8, generator=generator).to(DEVICE)
    inputs = {"q": q, "k": k, "v": v, **gates, "weights": [begun], "velocity": [0 * begun]}
    (y, ((w,), (s,))), (wanted, _) = (neural_memory(**inputs, chunk_size=16, backend=b) for b in ("triton", "chunked"))
    assert farthest([y], [wanted]) < 1e-5 and not torch.equal(y, wanted) and w.shape == s.shape == begun.shape
    for spoilt in ({"chunk_size": 8}, {"chunk_size": 16, "clip": 1.0}, {"chunk_size": 16, "limit": 2.0}):
        with pytest.raises(ValueError, match=r"linear memory under the paper's rule.*Take backend"):
            neural_memory(**inputs, **spoilt, backend="triton")
    with pytest.raises(ValueError, match="backend='fast' is not known; take one of auto, chunked, triton"):
        neural_memory(**inputs, backend="fast")

    memories.agrees_on.cache_clear()
    assert memories.agrees_on(torch.device(DEVICE), torch.float32, 8, 16)
    assert memories.agrees_on(torch.device(DEVICE), torch.bfloat16, 40, 32)
    there = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32, shape=(1, 9, 2, 8))
    for agrees, backend in ((True, "triton"), (False, "chunked")):
        monkeypatch.setattr(memories, "agrees_on", lambda *asked, agrees=agrees: agrees)
        assert memories.choose_backend(there, [begun], 16).backend == backend  # type: ignore[arg-type]
    assert memories.choose_backend(there, [begun], 1).backend == "chunked"  # type: ignore[arg-type]
    assert memories.choose_backend(q.cpu(), [begun], 16).backend == "chunked"


def test_second_derivatives_are_refused() -> None:
    """Also past the incoming gradient, where PyTorch says nothing and the numbers would be wrong."""
    for length in (5, 20):
        inputs, _ = checks.draw("random", length, True, torch.Generator().manual_seed(6), batch=1)
        leaves = {name: t.to(DEVICE).requires_grad_() for name, t in inputs.items()}
        o, _ = gated_delta_rule(**leaves, backend="triton")  # type: ignore[arg-type]
        for loss in (o.sum(), o.square().sum()):
            with pytest.raises(NotImplementedError, match=r'first derivatives only.*take backend="recurrent"\.'):
                torch.autograd.grad(loss, leaves["q"], create_graph=True)
    drawn = {name: torch.randn(1, 20, 2, 8, device=DEVICE).requires_grad_() for name in "qkv"}
    gates = {name: 0.1 * torch.rand(1, 20, 2, device=DEVICE) for name in ("step", "momentum", "forget")}
    begun = [torch.randn(1, 2, 8, 8, device=DEVICE)]
    y, _ = neural_memory(**drawn, **gates, weights=begun, velocity=begun, chunk_size=16, backend="triton")
    with pytest.raises(NotImplementedError, match=r'neural memory has first.*take backend="chunked"\.'):
        torch.autograd.grad(y.sum(), drawn["q"], create_graph=True)


COMPILE = """
import sys
import torch, triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from labkit.kernels.gated_delta import triton_backward, triton_chunked, triton_forward, triton_recurrent
from labkit.kernels.titans import triton_linear

NUMBERS = {"length": "i32", "heads": "i32", "chunks": "i32", "scale": "fp32"}
OWN = {"q", "k", "v", "g", "beta", "o", "grad_o", "grad_q", "grad_k", "grad_v"}
POINTERS = {torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16",
            torch.float16: "*fp16"}
target, key_dim, value_dim, *sizes = map(int, sys.argv[1:])
SHARED = {80: 163 * 1024, 90: 227 * 1024}[target]  # bytes that a program can have of an A100 and of an H100

def made(kernel, constants, **formats):
    launch = {name: constants.pop(name) for name in ("num_warps", "num_stages") if name in constants}
    types = {name: formats.get(name) or NUMBERS.get(name, "*fp32") for name in kernel.arg_names}
    types |= dict.fromkeys(constants, "constexpr")
    made = triton.compile(ASTSource(kernel, types, constants), target=GPUTarget("cuda", target, 32), options=launch)
    assert f"sm_{target}" in made.asm["ptx"], kernel.__name__
    assert made.metadata.shared <= SHARED, (kernel.__name__, constants, made.metadata.shared)
    print(kernel.__name__, made.metadata.shared)

def rule(key_dim, value_dim, *tensors):
    for tensor, chunks in tensors:
        form, own = triton_chunked.form_of(tensor, chunks=chunks), POINTERS[tensor.dtype]
        size = triton_chunked.chunk_of(64, key_dim, form)
        formats = dict.fromkeys(OWN, own) | dict.fromkeys(("g", "beta"), "*fp32")
        formats |= dict.fromkeys(("states", "grad_states"), POINTERS[form.kept]) | {"inverse": POINTERS[form.inverse]}
        for kernel in (triton_forward.prepare_kernel, triton_forward.scan_kernel, triton_forward.output_kernel,
                       triton_backward.told_kernel, triton_backward.reverse_scan_kernel,
                       triton_backward.gradient_kernel):
            made(kernel, triton_chunked.constants_of(kernel, key_dim, value_dim, size, form), **formats)
        if chunks > 1:
            made(triton_recurrent.steps_kernel, triton_recurrent.constants_of(key_dim, value_dim),
                 **dict.fromkeys(OWN, own))

def memory(width, size):
    for kernel in (triton_linear.forward_kernel, triton_linear.reverse_kernel, triton_linear.gradient_kernel):
        made(kernel, triton_linear.constants_of(kernel, width, size))

exact, short, half = (torch.empty(0, dtype=d) for d in (torch.float32, torch.bfloat16, torch.float16))
if key_dim == value_dim:
    rule(key_dim, value_dim, (exact, 2), (short, 2), (short, 1))
else:
    rule(key_dim, value_dim, (half, 2))
for sizes in zip(sizes[::2], sizes[1::2], strict=True):
    memory(*sizes)
"""

LARGEST = [(memories.WIDEST_TRITON, 32), (memories.WIDEST_IN_LONG, 64)]  # width and chunk of a linear memory


@pytest.mark.parametrize(
    ("key_dim", "value_dim", "sizes", "kernels"),
    [(64, 64, [(64, 16)], 23), (128, 128, [], 20), (256, 256, [], 20), (100, 33, LARGEST, 13)],
)
@pytest.mark.parametrize("target", [80, 90])
def test_every_kernel_compiles_for_a_gpu_that_is_not_here(
    target: int, key_dim: int, value_dim: int, sizes: list[tuple[int, int]], kernels: int
) -> None:
    """PTX for an A100 and an H100, within the shared memory of each; in a process without the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    numbers = target, key_dim, value_dim, *itertools.chain(*sizes)
    told = subprocess.run(
        [sys.executable, "-c", COMPILE, *map(str, numbers)], env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0 and told.stdout.count("kernel") == kernels, told.stderr[-2000:]
