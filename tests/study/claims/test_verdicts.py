"""Verdicts at their boundaries, and their p-values against the tests of scipy."""

import json
import math

import numpy as np
import pytest
from scipy.stats import false_discovery_control, sem, t, ttest_1samp

from decoupled_wd.study.claims.verdicts import (
    DECIDED,
    ERROR,
    FAILS,
    HOLDS,
    MISSING,
    SAME,
    UNDECIDED,
    Verdict,
    expected_wrong,
    level,
)
from decoupled_wd.study.statistics import Estimate, over_seeds, widened

INF = float("inf")
NAN = math.nan


def verdict(low, high, sense, bound=0.0, margin=0.0, looks=1):
    ends = [end for end in (low, high) if not math.isinf(end)]
    value = sum(ends) / len(ends) if ends else 0.0
    estimate = Estimate(value, low, high, (high - low) / 4, 8)
    return Verdict("It is so", "toy", "points", estimate, sense, bound, margin, looks)


def of(runs, sense, bound=0.0, margin=0.0, looks=1):
    """The verdict on the mean of some runs."""
    share = level(range(looks))
    found = over_seeds(lambda drawn: float(runs[drawn].mean()), len(runs), level=share)
    return Verdict("It is so", "toy", "points", found, sense, bound, margin, looks)


def test_the_looks_share_the_error():
    assert level((8,)) == 0.95
    assert level((8, 16, 32)) == pytest.approx(1 - 0.05 / 3, rel=1e-15)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.5, 3.0), HOLDS),
        ((0.0, 3.0), UNDECIDED),
        ((-1e-9, 3.0), UNDECIDED),
        ((1e-9, 3.0), HOLDS),
        ((-3.0, 1e-9), UNDECIDED),
        ((-3.0, 0.0), FAILS),
        ((-3.0, -0.5), FAILS),
        # within the margin on both sides: whichever sign, it does not matter
        ((-0.9, 0.9), SAME),
        ((0.1, 0.9), SAME),
        ((-0.9, -0.1), SAME),
        ((0.0, 0.0), SAME),
        ((-1.0, 0.5), UNDECIDED),
        ((-0.5, 1.0), UNDECIDED),
        ((0.1, 1.0), HOLDS),
        ((-1.0, -0.1), FAILS),
        ((NAN, 1.0), MISSING),
        ((0.0, NAN), MISSING),
        # an interval without an end, as of valleys that go on
        ((0.5, INF), HOLDS),
        ((0.0, INF), UNDECIDED),
        ((-INF, 0.0), FAILS),
        ((-INF, 0.5), UNDECIDED),
        ((-INF, INF), UNDECIDED),
    ],
)
@pytest.mark.parametrize("bound", [0.0, 2.0])
def test_more_than_a_bound_with_a_margin_of_one_and_less_as_its_mirror(interval, expected, bound):
    low, high = (bound + end for end in interval)
    assert verdict(low, high, ">", bound, 1.0).verdict == expected
    assert verdict(-high, -low, "<", -bound, 1.0).verdict == expected


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((0.1, 0.9), HOLDS), ((-0.9, 0.9), UNDECIDED), ((-0.9, 0.0), FAILS), ((0.0, 0.0), FAILS)],
)
def test_without_a_margin_no_difference_is_too_small_to_matter(interval, expected):
    low, high = interval
    assert verdict(low, high, ">").verdict == expected
    assert verdict(-high, -low, "<").verdict == expected


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((-0.9, 0.9), HOLDS),
        ((0.2, 0.9), HOLDS),
        ((-1.0, 0.9), UNDECIDED),
        ((-0.9, 1.0), UNDECIDED),
        ((-2.0, 2.0), UNDECIDED),
        ((1.0, 2.0), FAILS),
        ((-2.0, -1.0), FAILS),
        ((NAN, NAN), MISSING),
        ((0.0, INF), UNDECIDED),
        ((1.0, INF), FAILS),
        ((-INF, INF), UNDECIDED),
    ],
)
def test_about_a_bound(interval, expected):
    assert verdict(*interval, "≈", 0.0, 1.0).verdict == expected
    assert verdict(*(end + 3 for end in interval), "≈", 3.0, 1.0).verdict == expected


@pytest.mark.parametrize("looks", [1, 3])
@pytest.mark.parametrize(("sense", "mean"), [(">", 2.0), (">", -2.0), ("<", -2.0), ("<", 2.0)])
def test_the_p_value_of_a_side_is_that_of_students_test(sense, mean, looks):
    runs = np.random.default_rng(0).normal(mean, 1.0, 8)
    found = of(runs, sense, looks=looks)
    assert found.verdict == (HOLDS if (sense == ">") == (mean > 0) else FAILS)
    assert found.p_value == pytest.approx(looks * ttest_1samp(runs, 0.0).pvalue, rel=1e-9)


def test_the_p_value_of_no_difference_is_that_of_the_nearer_end_of_the_margin():
    runs = np.random.default_rng(1).normal(0.3, 0.3, 12)
    for found in (of(runs, ">", 0.0, 1.0, 2), of(runs, "≈", 0.0, 1.0, 2)):
        assert found.verdict in (SAME, HOLDS)
        ends = [ttest_1samp(runs, end).pvalue for end in (-1.0, 1.0)]
        assert found.p_value == pytest.approx(2 * max(ends), rel=1e-9)


def test_the_p_value_outside_the_margin_is_that_of_its_end():
    runs = np.random.default_rng(2).normal(3.0, 1.0, 8)
    found = of(runs, "≈", 0.0, 1.0)
    assert found.verdict == FAILS
    assert found.p_value == pytest.approx(ttest_1samp(runs, 1.0).pvalue, rel=1e-9)


def test_a_leeway_makes_a_verdict_as_unsure_as_a_value_that_far_away():
    runs = np.random.default_rng(4).normal(3.0, 1.0, 8)
    sure, nearer = of(runs, ">", looks=2), of(runs - 0.5, ">", looks=2)
    unsure = sure._replace(estimate=widened(sure.estimate, [-0.5, np.inf]))
    assert unsure.verdict == nearer.verdict == HOLDS
    assert unsure.p_value == pytest.approx(nearer.p_value, rel=1e-9)
    assert unsure.p_value > 2 * sure.p_value


@pytest.mark.parametrize("sense", ["<", ">", "≈"])
@pytest.mark.parametrize("looks", [1, 3])
def test_what_is_decided_has_a_p_value_below_the_error_and_nothing_else_has(sense, looks):
    chance = np.random.default_rng(3)
    seen = set()
    for mean in chance.uniform(-3, 3, 200):
        runs = chance.normal(mean, chance.choice([0.2, 1.0]), 6)
        found = of(runs, sense, margin=1.0, looks=looks)
        seen.add(found.verdict)
        assert (found.verdict in DECIDED) == (found.p_value <= ERROR)
    assert seen == {HOLDS, FAILS, UNDECIDED, *([SAME] if sense != "≈" else [])}


def test_what_is_not_decided_has_no_p_value_and_what_is_exact_has_none_to_fear():
    assert verdict(-1.0, 1.0, ">").p_value == 1.0
    assert verdict(NAN, NAN, ">").p_value == 1.0
    exact = Estimate(0.5, 0.5, 0.5)
    assert Verdict("", "", "", exact, ">", 0.0).p_value == 0.0


@pytest.mark.parametrize(
    ("interval", "sense", "bound", "margin", "room"),
    [
        ((-1.0, 3.0), ">", 0.0, 0.0, 1.0),
        ((-3.0, 1.0), "<", 0.0, 0.0, 1.0),
        ((-1.0, 3.0), ">", 2.0, 0.0, 1.0),
        ((-1.0, 3.0), "≈", 0.0, 2.0, 1.0),
        ((-1.0, 3.0), "≈", 0.0, 1.5, 0.5),
        # it is 3 from the farther end of the margin's reach, and sooner within than clear
        ((-1.0, 3.0), ">", 0.0, 4.0, 3.0),
        ((-1.0, 3.0), ">", 0.0, 1.5, 1.0),
        ((-2.0, 2.0), ">", 0.0, 1.0, 1.0),
    ],
)
@pytest.mark.parametrize("looks", [1, 3])
@pytest.mark.parametrize("seeds", [3, 4, 8, 32])
def test_the_seeds_that_would_decide(interval, sense, bound, margin, room, looks, seeds):
    """The least number of seeds of which Student's half-width fits into the room, within one."""
    low, high = interval
    numbers = np.arange(2, 20_000)
    student = t.ppf(1 - ERROR / looks / 2, numbers - 1) / np.sqrt(numbers)
    half = (high - low) / 2 * student / student[seeds - 2]
    found = Verdict(
        "", "", "", Estimate((low + high) / 2, low, high, 0.0, seeds), sense, bound, margin, looks
    )
    needed = numbers[half < room][0]
    assert abs(found.seeds_needed - needed) <= 1 + 0.01 * needed


def test_no_seeds_decide_what_lies_at_its_bound():
    assert verdict(-2.0, 2.0, ">").seeds_needed == 10**9


@pytest.mark.parametrize("sense", ["<", ">", "≈"])
@pytest.mark.parametrize("value", [0.3, 0.9, 1.3])
def test_with_so_many_seeds_and_the_same_statistic_it_is_decided(sense, value):
    def shrunk(seeds):
        error = 1.27 * np.sqrt(8 / seeds)
        half = t.ppf(0.975, seeds - 1) * error
        estimate = Estimate(value, value - half, value + half, error, seeds)
        return Verdict("", "", "", estimate, sense, 0.0, 1.0)

    needed = shrunk(8).seeds_needed
    assert shrunk(8).verdict == UNDECIDED
    assert shrunk(needed + 1).verdict in DECIDED
    assert shrunk(needed - 2).verdict == UNDECIDED


def test_the_verdicts_expected_to_be_wrong_are_those_of_benjamini_and_hochberg():
    chance = np.random.default_rng(4)
    lines = [of(chance.normal(mean, 1.0, 8), ">") for mean in chance.uniform(-4, 4, 30)]
    decided = [line for line in lines if line.verdict in DECIDED]
    assert 5 < len(decided) < 30
    # Student's test, told by its statistic
    p = [2 * t.sf(abs(v.estimate.value) / v.estimate.standard_error, 7) for v in decided]
    wanted = len(p) * max(false_discovery_control(p))
    assert expected_wrong(lines) == pytest.approx(wanted, rel=1e-9)
    assert 0 < expected_wrong(lines) <= ERROR * len(decided)
    exact = Verdict("", "", "", Estimate(0.5, 0.5, 0.5), ">", 0.0)
    assert expected_wrong([*lines, exact]) == expected_wrong(lines)
    assert expected_wrong([exact]) == expected_wrong([]) == 0


def test_no_number_of_seeds_decides_where_an_interval_has_no_end():
    open_one = verdict(-1.0, INF, ">", 0.0, 1.0)
    assert (open_one.verdict, open_one.seeds_needed, open_one.p_value) == (UNDECIDED, 10**9, 1.0)
    assert verdict(0.5, INF, ">", 0.0, 1.0).record()["high"] is None


def test_closed_has_the_interval_of_chance_alone():
    sure, looks = ttest_1samp([1.0, 2.0, 4.0, 2.5], 0.0), 3
    around = sure.confidence_interval(1 - ERROR / looks)
    error = sem([1.0, 2.0, 4.0, 2.5])
    found = Verdict("", "", "", Estimate(2.375, -INF, 9.0, error, 4), ">", 0.0, 1.0, looks).closed
    np.testing.assert_allclose(found.estimate[1:3], around, rtol=1e-9)
    assert (found.estimate.value, found.looks, found.bound) == (2.375, 3, 0.0)
    assert found.seeds_needed < 100


def test_a_record_has_every_number_and_no_nan():
    record = verdict(0.5, NAN, ">", 0.0, 1.0, 3).record()
    text = json.loads(json.dumps(record, allow_nan=False))
    assert text == record
    assert record["verdict"] == MISSING
    assert (record["low"], record["high"], record["seeds"]) == (0.5, None, 8)
    assert (record["bound"], record["margin"], record["looks"]) == (0.0, 1.0, 3)
    assert "estimate" not in record


def test_the_expected_is_written_with_its_margin_where_it_is_its_bound():
    assert verdict(0, 1, ">", -0.5, 1.0).expected == "> −0.5"
    assert verdict(0, 1, "≈", 0.0, 0.5).expected == "0 ± 0.5"
