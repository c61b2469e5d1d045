"""The triangular solve inside a chunk, in a form that `torch.compile` keeps right at every length."""

from __future__ import annotations

import torch
from torch import Tensor


def solve_unit_lower(lower: Tensor, right: Tensor) -> Tensor:
    """``X`` with ``(I + lower) X = right``; `lower` is ``[..., C, C]``, strictly lower triangular.

    Eagerly this is `torch.linalg.solve_triangular`. That one returns column-major results, whose strides the compiler
    fixes at the length it first saw; compiled graphs for any length therefore call the row-major operator below.
    """
    if torch.compiler.is_compiling():
        return _row_major_solve(lower, right)
    return torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)


@torch.library.custom_op("labkit::solve_unit_lower", mutates_args=())
def _row_major_solve(lower: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True).contiguous()


@torch.library.custom_op("labkit::solve_unit_upper", mutates_args=())
def _row_major_solve_transposed(lower: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(lower.mT, right, upper=True, unitriangular=True).contiguous()


@_row_major_solve.register_fake
@_row_major_solve_transposed.register_fake
def _shape(lower: Tensor, right: Tensor) -> Tensor:
    return torch.empty_like(right, memory_format=torch.contiguous_format)


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(inputs[0], output)


def _backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    lower, solved = ctx.saved_tensors
    grad_right = _row_major_solve_transposed(lower, grad)
    return -(grad_right @ solved.mT).tril(-1), grad_right


_row_major_solve.register_autograd(_backward, setup_context=_save)
