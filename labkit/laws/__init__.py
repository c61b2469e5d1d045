"""Laws of test-time scaling: named forms, robust fits, reach, and the verdict on whether axes compound."""

from labkit.laws.fitting import Fit, fit, jackknife
from labkit.laws.forms import LAWS, Law
from labkit.laws.reach import reach, reach_table
from labkit.laws.verdict import Verdict, judge

__all__ = ["LAWS", "Fit", "Law", "Verdict", "fit", "jackknife", "judge", "reach", "reach_table"]
