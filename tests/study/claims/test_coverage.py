"""How often the study's intervals hold the truth and its verdicts err, on made-up results: a quick look.

`tests/benchmarks/coverage.py` measures the same at length. Chance is fixed, and each band is at least three standard
errors of the share wide.
"""

import pytest
from benchmark import coverage


@pytest.mark.parametrize("kind", ["mean", "paired difference"])
@pytest.mark.parametrize("seeds", [5, 8])
def test_students_intervals_hold_the_truth_as_often_as_they_say(kind, seeds):
    found, _ = coverage.coverage(coverage.KINDS[kind], seeds, 2000)
    assert 0.935 <= found <= 0.965


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "repeats"),
    [
        ("slope of a ridge, −0.9", 60),
        ("slope of a ridge, 0", 60),
        ("tuned difference, with the luck of the search", 40),
        ("gain at equal training loss", 40),
        ("exponent", 120),
        ("speed-up (log2), super-convergence, in searches", 400),
        ("speed-up (log2), restarts", 400),
    ],
)
def test_the_other_intervals_hold_it_nearly_as_often(kind, repeats):
    found, width = coverage.coverage(coverage.KINDS[kind], 8, repeats)
    slack = 3 * (0.05 * 0.95 / repeats) ** 0.5
    assert 0.92 - slack <= found <= 0.98 + slack
    assert 0 < width < 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "repeats"),
    [
        ("slope of a ridge, −0.9, where decay gains little", 30),
        ("exponent, where decay gains little", 120),
        ("exponent, where it gains nothing at the fewest steps", 120),
        ("exponent, where it gains nothing at all", 120),
    ],
)
def test_where_the_best_decay_has_no_place_the_interval_says_so(kind, repeats):
    found, width = coverage.coverage(coverage.KINDS[kind], 8, repeats)
    assert found >= 0.92 - 3 * (0.05 * 0.95 / repeats) ** 0.5
    assert width == float("inf")


@pytest.mark.slow
def test_more_seeds_make_the_interval_narrower_by_the_root_of_their_number():
    kind = coverage.KINDS["slope of a ridge, −0.9"]
    (_, few), (_, many) = (coverage.coverage(kind, seeds, 12) for seeds in (8, 32))
    # Student's factors are 2.36 and 2.04
    assert few / many == pytest.approx(2 * 2.36 / 2.04, rel=0.3)


@pytest.mark.parametrize("effect", [0.0, 1.0, -1.0])
def test_over_all_looks_no_more_verdicts_are_wrong_than_is_said(effect):
    wrong = coverage.wrong_decisions(effect, 1.0, (8, 16, 32), 1000)
    assert 0 < wrong <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
