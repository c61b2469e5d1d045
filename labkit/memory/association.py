"""How a memory begins as an associative one, before anything is trained."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["associate"]


def associate(query: nn.Linear, key: nn.Linear, taps: nn.Parameter) -> None:
    """Let keys begin with the weights of queries, and look at the token before; a second call changes nothing.

    So a value is stored under the token that came before it, and that token, as a query, finds it. All of it is trained
    like any other weight. A memory that begins with unrelated queries and keys must find this first, from a signal that
    is hardly there yet (measured in data/LOG.md).

    Args:
        query, key: of one shape.
        taps: ``[conv, channels]``, of which the second ``key.out_features`` channels mix keys, the token itself last.
    """
    channels = slice(key.out_features, 2 * key.out_features)
    with torch.no_grad():
        key.weight.copy_(query.weight)
        if taps.shape[0] > 1:
            taps[-2:, channels] = taps[-2:, channels].sort(dim=0, descending=True).values
