"""How fast the operators and the models are, against what one would take instead: ``labkit bench``.

Nothing wrong is timed: every candidate is first held to a float64 reference, values and gradients.
"""

from labkit.bench.racing import Candidate, Roof, measure_roof, peak_bytes, profiler, race

__all__ = ["Candidate", "Roof", "measure_roof", "peak_bytes", "profiler", "race"]
