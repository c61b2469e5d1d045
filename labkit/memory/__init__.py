"""Long-term memories as layers: what they hold comes in as an argument and goes out as a return value."""

from labkit.memory.association import associate
from labkit.memory.convolution import convolve
from labkit.memory.gated_delta import GatedDelta
from labkit.memory.titans import MemoryState, NeuralMemory

__all__ = ["GatedDelta", "MemoryState", "NeuralMemory", "associate", "convolve"]
