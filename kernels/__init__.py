"""Operators under the lab, each as a slow form to read, a fast form to run and a proof that they agree.

One folder per operator: ``README.md`` (the derivation), ``recurrent.py`` (token by token) and ``chunked.py`` (fast).
Tensors are sequence first, ``[B, T, H, D]``.
"""

from labkit.kernels.gated_delta import gated_delta_rule
from labkit.kernels.titans import neural_memory

__all__ = ["gated_delta_rule", "neural_memory"]
