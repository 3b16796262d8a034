"""Claim (ii) on grids whose answer is known, and a tiny real run."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.stats import ttest_1samp
from toys import luck, made_up, recorded, tiny

import decoupled_wd as dwd
from decoupled_wd.study.claims import interaction
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.optimizers import CONTENDERS
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, SAME, UNDECIDED
from decoupled_wd.study.tasks.task import runner

TASK = tiny()._replace(name="toy", tolerance=2.0)
SLOPES = {"SGD": -1.0, "SGDW": 0.0, "Adam": -1.0, "AdamW": 0.0}
DESIGN = Interaction(grid=9, looks=(5,))
NAMES = {(each.family, each.decay): name for name, each in CONTENDERS.items()}


def fake(slopes=SLOPES, noise=0.05, turn=0.0):
    """A valley along each one's slope; `turn` is how much a seed's luck turns it."""

    def errors(training, point):
        make_optimizer = training.make_optimizer
        name = NAMES[make_optimizer.family, make_optimizer.decay]
        middle, rate = CONTENDERS[name], point["learning_rate"]
        # in lr-coupled units the decay of a step is λ·α
        unit = rate if make_optimizer.coupling == dwd.LR else 1.0
        x = np.log2(rate / middle.learning_rate)
        y = np.log2(np.maximum(point["weight_decay"] * unit, 1e-9) / middle.weight_decay)
        number = sorted(CONTENDERS).index(name)
        slope = slopes[name] + turn * luck(point["seed"], number)
        error = 41.0 + 0.8 * (y - slope * x) ** 2 + 0.05 * x**2
        chance = np.random.default_rng([number, *training.seeds])
        noisy = error + chance.normal(0, noise, error.shape)
        return {"validation_error": error, "test_error": noisy}

    return made_up(errors)


def measured(run, design=DESIGN, look=0):
    return design.measure(run, TASK, look)


def verdicts(finding):
    return [line.verdict for line in finding.verdicts]


def test_the_paper_s_picture_holds():
    finding = measured(fake())
    assert verdicts(finding) == [HOLDS] * 4
    values = [line.estimate.value for line in finding.verdicts]
    # −1 of L2, and ½·1 − 0
    assert values == pytest.approx([-1.0, 0.5] * 2, abs=0.1)
    assert [line.margin for line in finding.verdicts] == [0.25, 0.125] * 2
    assert list(finding.drawings) == ["heatmaps toy, cosine"]


@pytest.mark.parametrize(
    ("l2", "decoupled", "falls", "flatter"),
    [
        (-1.0, -0.9, HOLDS, FAILS),
        (-1.0, 0.9, HOLDS, FAILS),
        (1.0, 0.0, FAILS, HOLDS),
        (0.0, 0.0, SAME, SAME),
        (-0.8, -0.4, HOLDS, SAME),
        (-0.8, 0.4, HOLDS, SAME),
    ],
)
def test_the_verdicts_follow_both_slopes(l2, decoupled, falls, flatter):
    finding = measured(fake(SLOPES | {"Adam": l2, "AdamW": decoupled}, noise=0.01))
    assert verdicts(finding) == [HOLDS, HOLDS, falls, flatter]
    flat = 0.5 * abs(l2) - abs(decoupled)
    assert finding.verdicts[3].estimate.value == pytest.approx(flat, abs=0.05)


def test_seeds_that_disagree_leave_it_undecided_and_more_looks_are_more_careful():
    steep = SLOPES | {"AdamW": -0.5}
    finding = measured(fake(steep, turn=0.2))
    assert finding.verdicts[3].verdict == UNDECIDED
    looked = measured(fake(steep, turn=0.2), replace(DESIGN, looks=(5, 10, 20)))
    for one, two in zip(finding.verdicts, looked.verdicts, strict=True):
        assert one.estimate.value == two.estimate.value
        assert one.estimate.low > two.estimate.low
        assert (one.looks, two.looks) == (1, 3)


def test_a_second_look_has_more_seeds_and_a_narrower_interval():
    design = replace(DESIGN, looks=(5, 20))
    first, second = (measured(fake(noise=1.0), design, look) for look in (0, 1))
    for one, two in zip(first.verdicts, second.verdicts, strict=True):
        assert (one.estimate.seeds, two.estimate.seeds) == (5, 20)
    widths = [
        np.mean([line.estimate.high - line.estimate.low for line in finding.verdicts])
        for finding in (first, second)
    ]
    assert widths[1] < 0.8 * widths[0]


class Known:
    """A valley whose slope is the mean of one number for each seed."""

    def __init__(self, slopes, leeway=(0.0, 0.0)):
        self.slopes, self.unknown = np.asarray(slopes), leeway
        self.along = xr.Dataset(coords={"seed": np.arange(len(slopes))})

    def slope(self, drawn):
        return float(self.slopes[drawn].mean())

    def leeway(self, level):
        return np.asarray(self.unknown)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_interval_of_flatter_is_students_although_some_seeds_cross_level(sign):
    """The sign is that of all seeds together: a seed that is left out does not flip it."""
    steep, flat = np.array([-0.8, -1.2, -0.9, -1.1]), sign * np.array([0.5, -0.3, 0.1, -0.2])
    mine = {"SGD": steep, "SGDW": flat, "Adam": steep, "AdamW": flat}
    mine = {name: Known(slopes) for name, slopes in mine.items()}
    falls, flatter, *_ = interaction.judge({("cosine", dwd.PAPER): mine}, TASK, (2, 4))
    for line, numbers in ((falls, steep), (flatter, -steep / 2 - sign * flat)):
        wanted = ttest_1samp(numbers, 0.0).confidence_interval(0.975)
        np.testing.assert_allclose(line.estimate[1:3], wanted, rtol=1e-9)
        assert line.estimate.value == pytest.approx(numbers.mean(), rel=1e-12)


@pytest.mark.parametrize("sign", [-1, 1])
def test_what_was_not_measured_of_a_ridge_widens_its_verdicts(sign):
    steep = Known([-0.9, -1.1], (-np.inf, 0.3))
    level = Known([sign * 0.1, sign * 0.3], (0.0, 0.5))
    sure = {"Adam": Known(steep.slopes), "AdamW": Known(level.slopes)}
    pairs, looks = (("Adam", "AdamW"),), (2,)
    falls, flatter = interaction.judge(
        {("cosine", dwd.PAPER): {"Adam": steep, "AdamW": level}}, TASK, looks, pairs
    )
    first, second = interaction.judge({("cosine", dwd.PAPER): sure}, TASK, looks, pairs)
    assert falls.estimate.low == -np.inf
    assert falls.estimate.high == pytest.approx(first.estimate.high + 0.3)
    # a steeper L2 makes AdamW flatter by half as much; |slope| rises or falls with its sign
    assert flatter.estimate.high == np.inf
    less = 0.15 + (0.5 if sign == 1 else 0.0)
    assert flatter.estimate.low == pytest.approx(second.estimate.low - less)


def test_the_table_has_the_best_point_of_each_contender_and_its_slope():
    finding = measured(fake(noise=0.01))
    assert [record["optimizer"] for record in finding.table] == list(CONTENDERS)
    for record in finding.table:
        assert record["where"] == "toy, cosine"
        assert record["ridge_slope"] == pytest.approx(SLOPES[record["optimizer"]], abs=0.05)
        assert record["ridge_slope_low"] < record["ridge_slope"] < record["ridge_slope_high"]
        assert record["seeds"] == 5
        middle = CONTENDERS[record["optimizer"]]
        assert abs(np.log2(record["learning_rate"] / middle.learning_rate)) <= 1
        assert abs(np.log2(record["weight_decay"] / middle.weight_decay)) <= 1
        assert record["best_error"] == pytest.approx(41.0, abs=0.3)


def test_in_lr_coupled_units_the_ridge_is_a_diagonal():
    finding = measured(fake(), replace(DESIGN, couplings=(dwd.LR,)))
    assert verdicts(finding) == [HOLDS, HOLDS]
    assert finding.verdicts[0].estimate.value == pytest.approx(-1.0, abs=0.1)
    assert list(finding.drawings) == ["heatmaps toy, cosine, lr-coupled"]


def test_every_schedule_has_verdicts_of_its_own_and_l2_no_units():
    run, trainings = recorded(fake())
    design = replace(DESIGN, schedules=("cosine", "fixed"), couplings=(dwd.PAPER, dwd.LR))
    finding = measured(run, design)
    assert [line.where for line in finding.verdicts] == [
        *["toy, cosine"] * 6,
        *["toy, fixed"] * 6,
    ]
    assert len(trainings) == 2 * 2 * (4 + 2)
    assert len({training.place for training in trainings}) == len(trainings)
    assert len(finding.drawings) == 4


@pytest.mark.slow
def test_a_real_run_is_kept_in_its_place(tmp_path):
    """Claim (iii) finds what claim (ii) trained, in memory and in the store."""
    trained = []

    def progress(place, finished, cells):
        if not finished:
            trained.append(place)

    task = TASK._replace(name="toy, linear")
    run = runner(tmp_path, progress)
    found = Interaction(grid=5, looks=(2,)).measure(run, task, 0)
    assert len(found.table) == len(CONTENDERS)
    # a pilot and a ridge of each
    assert len(trained) == 2 * len(CONTENDERS)
    assert (tmp_path / "toy" / "linear" / "cosine" / "Adam" / "decoupled").is_dir()
    for again in (run, runner(tmp_path, progress)):
        Generalization(grid=5, looks=(2,)).measure(again, task, 0)
    new = trained[2 * len(CONTENDERS) :]
    assert len(new) == 2
    assert all("chosen" in place for place in new)
    Interaction(grid=5, looks=(2, 3)).measure(run, task, 1)
    added = trained[len(trained) - len(CONTENDERS) :]
    assert all(place.endswith("seeds 4 to 4") for place in added)
    assert len(trained) == 3 * len(CONTENDERS) + 2
