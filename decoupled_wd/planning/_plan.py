"""What every rule says of the λ of a run, computed from its fraction c."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from decoupled_wd._base.checks import check_type
from decoupled_wd.coupling import as_coupling
from decoupled_wd.diagnostics.preflight import share_of_significands, share_rounded
from decoupled_wd.planning._fit import TimescaleFit
from decoupled_wd.planning._formulas import from_share
from decoupled_wd.planning._rule import Rule
from decoupled_wd.planning._rules import RULES
from decoupled_wd.planning._run import Run
from decoupled_wd.planning._table import Missing, Plan, PlannedRule
from decoupled_wd.theory import half_life, influence, timescale

# of which a run consists at most when its last tenth is summed
_STEPS = 2**20
# of bfloat16 with eight bits more
_EPS_24 = 2.0**-15


def plan(run: Run, reference: Run | None = None, *, fitted: TimescaleFit | None = None) -> Plan:
    """Show the λ of a run by every published rule, side by side.

    A rule gives the fraction c that a step removes at the peak, and ``λ = c / α^p``.

    Args:
      run: what one knows of the run; each rule says what it needs.
      reference: a smaller run whose λ is known to be good. Most rules carry its λ to `run`.
      fitted: a power law of your own, from `fit_timescale`, as one more row.

    Returns:
      A `Plan` with ``rows``, one for each rule that applies, and ``missing``, the others with what
      they need. It prints as a table, shows as one in notebooks, and has ``to_json()``.
      ``disagreement`` is the largest λ of a published or fitted rule over the smallest.

    Raises:
      TypeError, ValueError: an argument is not what it should be, or the λ of the reference is not
        known, or is 0.

    Examples:
      >>> run = Run(6e-4, 524_288, 1e10, parameters=124e6, coupling="torch")
      >>> [(row.rule, f"{row.weight_decay:.3f}") for row in plan(run).compared]
      [('λ_norm = 0.025', '0.302'), ('Power Lines', '0.815')]
      >>> reference = Run(6e-4, 131_072, 2.5e9, weight_decay=0.1, coupling="torch")
      >>> {row.rule: round(row.weight_decay, 3) for row in plan(run, reference).compared[:2]}
      {'nanochat': 0.05, 'normalised': 0.1}

    Source: that of each row.
    """
    check_type("run", run, Run, "pass dwd.Run(learning_rate, batch_size, dataset_size)")
    if reference is not None:
        _check_reference(reference)
    rules = RULES
    if fitted is not None:
        check_type("fitted", fitted, TimescaleFit, "pass what fit_timescale returns")
        rules = (_rule_of(fitted), *RULES)
    absent = [(rule, rule.missing(run, reference)) for rule in rules]
    applying = [rule for rule, needs in absent if not needs]
    # known inside jit too; and a program compiled for each rule would take longer than its numbers
    with jax.ensure_compile_time_eval(), jax.disable_jit():
        rows = tuple(_planned(rule, run, reference or run) for rule in applying)
    missing = tuple(
        Missing(rule.name, tuple(needs)) for rule, needs in absent if needs and rule.kind != "given"
    )
    return Plan(rows, run, reference, missing)


def _rule_of(fit: TimescaleFit) -> Rule:
    """Make the row of a user's own law."""

    def interval(run: Run) -> tuple[float, float]:
        share = fit.share(run)
        # a longer timescale is a smaller decay
        return from_share(run, share.high), from_share(run, share.low)

    return Rule(
        "fitted",
        "fitted",
        lambda run, _: from_share(run, fit.share(run).value),
        f"the best timescale, as a share of the run, is {fit.coefficient:.3g}·x^{fit.exponent:.3g} "
        f"of the {fit.over.replace('_', ' ')} x",
        f"{fit.runs} runs of your own, with an interval of {fit.level:.0%}",
        needs=("parameters",) if fit.over == "data_per_parameter" else (fit.over,),
        refers=False,
        limits=(fit.outside,),
        interval=interval,
    )


def _planned(rule: Rule, run: Run, reference: Run) -> PlannedRule:
    c = rule.fraction(run, reference)
    at_end = c * _last_rate(run)
    low, high = map(run.in_unit, rule.interval(run)) if rule.interval else (None, None)
    steps = timescale(c)
    return PlannedRule(
        rule=rule.name,
        kind=rule.kind,
        weight_decay=run.in_unit(c),
        weight_decay_low=low,
        weight_decay_high=high,
        fraction=c,
        timescale_steps=steps,
        timescale_epochs=steps * run.batch_size / run.dataset_size,
        timescale_tokens=steps * run.batch_size,
        half_life_steps=half_life(c),
        last_tenth=_last_tenth(run, c),
        lost_bf16=_lost_bf16(c),
        lost_bf16_at_end=_lost_bf16(at_end),
        lost_24_bits=_lost_24_bits(c),
        lost_24_bits_at_end=_lost_24_bits(at_end),
        outside=rule.outside(run, reference),
        assumption=rule.assumption,
        source=rule.source,
    )


def _last_rate(run: Run) -> float:
    """What the schedule makes of c in the last step, ``η^s``."""
    rate = run.rate
    last: float = rate(run.steps - 1) if callable(rate) else 1.0
    return float(last ** as_coupling("coupling", run.coupling).s)


def _last_tenth(run: Run, c: float) -> float:
    s = as_coupling("coupling", run.coupling).s
    # a long run is told by some of its steps, each of which stands for as many
    each = math.ceil(run.steps / _STEPS)
    steps = run.steps // each

    def rate(step: jax.Array) -> jax.Array:
        return jnp.asarray(run.rate(step * each) if callable(run.rate) else run.rate)

    def fraction(step: jax.Array) -> jax.Array:
        # a step cannot leave less than nothing
        once = jnp.minimum(c * rate(step) ** s, 1.0)
        return -jnp.expm1(each * jnp.log1p(-once))

    shares = influence(rate, fraction, steps).shares
    return float(np.sum(shares[-max(steps // 10, 1) :]))


def _lost_bf16(c: float) -> float:
    return 1 - share_of_significands(c, "bfloat16")


def _lost_24_bits(c: float) -> float:
    # without decay every weight stays, and there is nothing to divide by
    return 1 - share_rounded(c, _EPS_24) if c else 1.0


def _check_reference(reference: Run) -> None:
    check_type("reference", reference, Run, "pass dwd.Run(…) with its weight_decay")
    if not reference.weight_decay:
        raise ValueError(
            f"reference has weight_decay={reference.weight_decay}; pass the λ that is known to be "
            "good there, above 0, in the unit of its coupling"
        )
