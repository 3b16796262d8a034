"""λ under every published rule, over the budget of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decoupled_wd._base.checks import check_type
from decoupled_wd._ridges import require
from decoupled_wd.coupling import as_coupling
from decoupled_wd.figures._style import canvas, draw_legend, dress, looks, use_logarithms
from decoupled_wd.planning import Plan, PlannedRule

# what is no rule for the best λ stands back in grey; each kind has a line of its own
_GREY: dict[str, dict[str, Any]] = {
    "bound": {"color": "0.6", "linewidth": 1},
    "habit": {"color": "0.75", "linewidth": 1},
    "given": {"color": "black", "linewidth": 2},
}


def plan(plans: Plan | Sequence[Plan]) -> Figure:
    """Draw the λ of every rule over the points or tokens that a run sees.

    Published rules, and your own fit with its interval, have colours. Bounds, habits and the run's
    own λ are grey or black. A hollow mark is outside the range on which its rule was found. Where a
    rule says nothing of a budget its line has a gap.

    Args:
      plans: what `plan` returned: for one run, or for the same run with several budgets, such as
        ``[dwd.plan(dataclasses.replace(run, dataset_size=d), reference) for d in sizes]``.

    Returns:
      A figure of 8 × 6.5 inches, with one line for each rule.

    Raises:
      TypeError, ValueError: there is no plan, their λ are in different units, or two have the same
        budget.

    Examples:
      >>> from dataclasses import replace
      >>> from decoupled_wd.planning import Run, plan as plan_run
      >>> run = Run(6e-4, 524_288, 1e10, parameters=124e6, coupling="torch")
      >>> budgets = [plan_run(replace(run, dataset_size=size)) for size in (1e9, 1e10)]
      >>> line = plan(budgets).axes[0].lines[0]
      >>> line.get_label(), [f"{y:.2f}" for y in line.get_ydata()]
      ('λ_norm = 0.025', ['0.95', '0.30'])

    Source: that of each rule.
    """
    given = [plans] if isinstance(plans, Plan) else list(plans)
    for number, one in enumerate(given):
        check_type(f"plans[{number}]", one, Plan, "pass what plan(run) returns")
    every = sorted(given, key=_seen)
    require(bool(every), "plans is empty: it needs what plan(run) returns")
    units = list(dict.fromkeys(as_coupling("coupling", one.run.coupling).formula for one in every))
    require(len(units) == 1, f"plans must be in one unit of λ, got {units}; pass one coupling")
    seen = np.array([_seen(one) for one in every])
    require(
        len(np.unique(seen)) == len(seen),
        f"plans must have different budgets, got {seen.tolist()}; leave out those that repeat",
    )
    rules = {row.rule: row.kind for one in every for row in one.rows}
    look = looks(rule for rule, kind in rules.items() if kind not in _GREY)
    greys: dict[str, dict[str, Any]] = looks(rule for rule in rules if rule not in look)
    figure = canvas(8, 6.5)
    axis = figure.subplots()
    for rule, kind in rules.items():
        style = look[rule] if rule in look else greys[rule] | _GREY[kind]
        found = [{row.rule: row for row in one.rows}.get(rule) for one in every]
        _draw_rule(axis, seen, found, {"linewidth": 2, "label": rule} | style)
    use_logarithms(axis, "xy")
    dress(
        axis, "", "points or tokens seen in the run", f"weight decay λ (a step removes {units[0]})"
    )
    draw_legend(figure)
    return figure


def _seen(one: Plan) -> float:
    return one.run.data_seen


def _draw_rule(
    axis: Axes, seen: np.ndarray, found: list[PlannedRule | None], style: dict[str, Any]
) -> None:
    """Draw one rule: its line, hollow where it is outside its range, and its interval."""
    lam = np.array([row.weight_decay if row else np.nan for row in found])
    axis.plot(seen, lam, markersize=6, **style)
    outside = np.array([bool(row and row.outside) for row in found])
    hollow = {key: style[key] for key in ("color", "marker")} | {"linestyle": ""}
    axis.plot(seen[outside], lam[outside], markersize=6, markerfacecolor="white", **hollow)
    ends = [(row.weight_decay_low, row.weight_decay_high) if row else (None, None) for row in found]
    low, high = np.array(ends, np.float64).T
    if not np.isnan(low).all():
        axis.fill_between(seen, low, high, color=style["color"], alpha=0.18, linewidth=0)
