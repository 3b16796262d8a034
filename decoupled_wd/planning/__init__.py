"""λ for another run: every published rule side by side, and a law of one's own."""

from decoupled_wd.planning._fit import TimescaleFit, fit_timescale
from decoupled_wd.planning._plan import plan
from decoupled_wd.planning._run import Run
from decoupled_wd.planning._table import Plan, PlannedRule

__all__ = ["Plan", "PlannedRule", "Run", "TimescaleFit", "fit_timescale", "plan"]
