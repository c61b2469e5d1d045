"""What an operator whose backward pass is written by hand says when that pass is to be differentiated again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def first_only(operator: str, instead: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a ``backward`` refuse, in a sentence, to be run where a graph of the gradients is asked for.

    Such a graph would end at this function, and what is differentiated through it would lack a term without a word.
    PyTorch's own ``once_differentiable`` only objects where the second way leads through the incoming gradient.

    Args:
        operator: the form that has no second derivatives, to begin the sentence.
        instead: what to take, to end it.
    """

    def decorate(backward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(backward)
        def checked(ctx: Any, *grads: Any) -> Any:
            if torch.is_grad_enabled():  # on in a backward pass under create_graph=True alone
                raise NotImplementedError(
                    f"{operator} has first derivatives only, but a graph of its gradients was asked for "
                    f"(create_graph=True). For second derivatives take {instead}."
                )
            return backward(ctx, *grads)

        return checked

    return decorate
