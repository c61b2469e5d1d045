"""Laws of test-time scaling: named forms, robust fits, reach, and the verdict on whether axes compound."""

from labkit.laws.fitting import Fit, fit, jackknife
from labkit.laws.forms import LAWS, Law

__all__ = ["LAWS", "Fit", "Law", "fit", "jackknife"]
