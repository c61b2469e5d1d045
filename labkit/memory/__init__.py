"""Long-term memories as layers: what they hold comes in as an argument and goes out as a return value."""

from labkit.memory.gated_delta import GatedDelta

__all__ = ["GatedDelta"]
