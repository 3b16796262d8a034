"""The plot of every interval: units of what matters from the bound, and expected on the right."""

import re
from itertools import pairwise

import pytest

from decoupled_wd.study.claims.verdicts import (
    FAILS,
    HOLDS,
    MISSING,
    SAME,
    UNDECIDED,
    Finding,
    Verdict,
)
from decoupled_wd.study.experiment import Experiment
from decoupled_wd.study.report import page as report
from decoupled_wd.study.report.intervals import REACH, bar
from decoupled_wd.study.report.pieces import interval
from decoupled_wd.study.statistics import Estimate

NAN, INF = float("nan"), float("inf")


def verdict(low, value, high, sense=">", bound=0.0, margin=0.5):
    return Verdict(
        "it does", "toy", "points", Estimate(value, low, high, 1.0, 8), sense, bound, margin
    )


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (verdict(0.25, 0.5, 1.5), (0.5, 1.0, 3.0)),
        # the unit is what matters, and the place that of the bound
        (verdict(2.25, 2.5, 3.0, bound=2.0, margin=0.25), (1.0, 2.0, 4.0)),
        # to the right is what was expected, whatever the sense
        (verdict(-0.75, -0.5, -0.25, "<"), (0.5, 1.0, 1.5)),
        (verdict(-0.25, 0.0, 0.5, "≈"), (-0.5, 0.0, 1.0)),
        # without a margin the unit is the bound, and where that is 0 it is 1
        (verdict(1e-7, 2e-7, 3e-7, "<", 1e-6, 0.0), (0.7, 0.8, 0.9)),
        (verdict(-0.5, 0.5, 1.5, margin=0.0), (-0.5, 0.5, 1.5)),
        (verdict(0.5, 0.5, 1.5, bound=-0.5, margin=0.0), (2.0, 2.0, 4.0)),
        # what lies beyond is at the end
        (verdict(-INF, 1.0, INF), (-REACH, 2.0, REACH)),
        (verdict(9.0, 10.0, 11.0), (REACH, REACH, REACH)),
        (verdict(-99.0, -10.0, -9.0), (-REACH, -REACH, -REACH)),
    ],
)
def test_a_bar_is_in_units_of_what_matters_from_the_bound(drawn, expected):
    assert bar(drawn) == pytest.approx(expected)


def test_what_was_not_measured_has_no_bar():
    assert bar(verdict(NAN, NAN, NAN)) is None
    assert bar(verdict(NAN, 1.0, NAN)) is None


CASES = {
    HOLDS: verdict(0.25, 0.5, 1.5),
    FAILS: verdict(-1.5, -1.0, -0.75),
    SAME: verdict(-0.25, 0.0, 0.25),
    UNDECIDED: verdict(-0.25, 0.5, 1.5),
    MISSING: verdict(NAN, NAN, NAN),
}


class Unsized:
    """A design without fields."""


def plots(folder, verdicts):
    """The plot of each verdict as it stands in the page."""
    found = [(Experiment("i", "digits", "mlp", Unsized(), 1.0), Finding([*verdicts], {}))]
    options = {"configuration": {}, "command": "", "seconds": 1.0}
    report.write(folder, findings=found, table=[], **options)
    page = (folder / "report.html").read_text("utf-8")
    items = re.findall(r'<li class="([\w-]+)">(.*?)</li>', page, re.DOTALL)
    assert len(items) == len(verdicts)
    return items


def number(svg, element, name):
    (found,) = re.findall(rf'<{element}[^>]* {name}="(-?[\d.]+)"', svg)
    return float(found)


def test_each_verdict_is_drawn_as_its_interval_and_said_in_words(tmp_path):
    drawn = plots(tmp_path, CASES.values())
    for (style, item), (expected, line) in zip(drawn, CASES.items(), strict=True):
        assert line.verdict == expected
        assert style == expected.replace(" ", "-")
        assert f"<b>{report.SIGNS[expected]} {expected}</b>" in item
        value, low, high = interval(line.estimate)
        assert f'aria-label="{value} [{low}, {high}], expected &gt; 0"' in item
        if expected == MISSING:
            assert "held" not in item
            continue
        wanted = bar(line)
        assert number(item, 'line class="held"', "x1") == wanted.low
        assert number(item, 'line class="held"', "x2") == wanted.high
        assert number(item, "circle", "cx") == wanted.value


def test_shaded_is_where_the_interval_is_expected(tmp_path):
    """On the right of the bound, also for what should be smaller; or on both sides of it."""
    more, less, equal = (
        (number(item, "rect", "x"), number(item, "rect", "width"))
        for _, item in plots(
            tmp_path, [verdict(0, 1, 2), verdict(0, 1, 2, "<"), verdict(0, 1, 2, "≈")]
        )
    )
    assert more == less == (0, REACH + 0.3)
    assert equal == (-1, 2)


def test_an_arrow_says_that_an_interval_goes_on(tmp_path):
    """At the end that it leaves by, and the dot is drawn if the value itself is on the axis."""
    lines = [verdict(0.1, 0.2, 9.0), verdict(-9.0, 0.2, 0.3), verdict(8.0, 9.0, 10.0), CASES[HOLDS]]
    items = [item for _, item in plots(tmp_path, lines)]
    ends = [re.findall(r'<path d="M(-?[\d.]+) 0l', item) for item in items]
    assert ends == [["4.3"], ["-4.3"], ["4.3"], []]
    assert ["<circle" in item for item in items] == [True, True, False, True]


def test_marks_say_what_would_not_matter_where_that_is_known(tmp_path):
    with_margin, without = (
        item.count('class="mark"')
        for _, item in plots(tmp_path, [verdict(0, 1, 2), verdict(0, 1, 2, margin=0.0)])
    )
    assert (with_margin, without) == (2, 0)


def test_the_axis_reaches_as_far_as_the_page_says(tmp_path):
    plots(tmp_path, [CASES[HOLDS]])
    page = " ".join((tmp_path / "report.html").read_text("utf-8").split())
    assert f"the axis ends at {REACH:.0f} times that" in page
    # the order of the marks is that of the words above them
    words = [page.index(word) for word in ("not as expected<", ">bound<", ">as expected<")]
    assert all(first < last for first, last in pairwise(words))
