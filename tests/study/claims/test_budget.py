"""The exponent of the best λ, on minima put at known places and on a tiny real run."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from toys import every_run, linear, luck, made_up, recorded, tiny

from decoupled_wd.study.claims import budget
from decoupled_wd.study.claims.budget import Budget, half_octaves
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, SAME, UNDECIDED
from decoupled_wd.study.figures.draw import draw
from decoupled_wd.study.tasks.task import runner

BUDGETS = {"epochs": (8, 32, 128), "training points": (24, 96, 384), "batch size": (64, 16, 4)}
DESIGN = Budget(
    budgets=BUDGETS,
    learning_rates={"AdamW": [0.01]},
    decays=half_octaves(-16, 0),
    looks=(5,),
)


def pretend(exponent, noise=0.0):
    """A parabola in log λ whose minimum is at 2^-5.3·steps^exponent."""

    def errors(training, point):
        steps, decay = training.task.steps, point["weight_decay"]
        best = np.log(2**-5.3 * (steps / 100) ** exponent)
        # what seeds do to it, other ones at each budget
        shift = noise * luck(point["seed"], steps)
        # longer runs are better by far more than `task.tolerance`
        least = 90 - 5 * np.log(steps)
        return {"test_error": least + (np.log(decay) - best - shift) ** 2}

    return made_up(errors)


def measured(run, budgets=BUDGETS, look=0, **sizes):
    return replace(DESIGN, budgets=budgets, **sizes).measure(run, tiny(), look)


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [
        (-0.5, [HOLDS, HOLDS]),
        (-0.3, [HOLDS, SAME]),
        (-0.1, [SAME, FAILS]),
        (0.0, [SAME, FAILS]),
        (0.3, [FAILS, FAILS]),
    ],
)
def test_the_verdict_follows_the_exponent(exponent, expected):
    lines = measured(pretend(exponent)).verdicts
    assert [line.verdict for line in lines] == expected * len(BUDGETS)
    for line in lines:
        assert line.estimate.value == pytest.approx(exponent, abs=0.005)
    # from −¼ on the normalised λ, whose exponent is larger by ½, is the one nearer to 0
    for line in lines[1::2]:
        nearer = abs(exponent + 0.5) < abs(exponent)
        assert nearer == (line.estimate.value < line.bound)


def test_with_noise_it_is_undecided_and_with_more_seeds_less_so():
    found = [
        measured(pretend(-0.1, noise=1.0), {"epochs": BUDGETS["epochs"]}, look, looks=(5, 40))
        for look in (0, 1)
    ]
    assert [line.verdict for line in found[0].verdicts] == [UNDECIDED, UNDECIDED]
    (first, _), (second, _) = (each.verdicts for each in found)
    assert (first.estimate.seeds, second.estimate.seeds) == (5, 40)
    assert second.estimate.standard_error < 0.75 * first.estimate.standard_error


def test_each_way_to_vary_the_budget_changes_the_steps_sixteenfold():
    run, trainings = recorded(pretend(-0.5))
    measured(run)
    tasks = [training.task for training in trainings]
    sizes = [(len(task.dataset.x_train), len(task.dataset.y_train)) for task in tasks]
    assert sizes == [(384, 384)] * 3 + [(24, 24), (96, 96), (384, 384)] + [(384, 384)] * 3
    steps = np.array([task.steps for task in tasks]).reshape(3, 3)
    np.testing.assert_array_equal(steps / steps[:, :1], [[1, 4, 16]] * 3)
    assert len({training.place for training in trainings}) == 9


def test_every_seed_is_trained_over_all_of_the_range_once():
    run, trainings = recorded(pretend(-0.5))
    measured(run, {"epochs": (8, 32)}, looks=(2, 5), look=1, learning_rates={"AdamW": [0.01, 0.02]})
    assert [each.seeds for each in trainings] == [range(1, 3), range(3, 6)] * 4
    # each α by itself, at both budgets
    assert [each.space["learning_rate"] for each in trainings] == [[0.01]] * 4 + [[0.02]] * 4
    for each in trainings:
        np.testing.assert_array_equal(each.space["weight_decay"], DESIGN.decays)
    runs = [each for training in trainings for each in every_run(training)]
    assert len(set(runs)) == len(runs)


def test_the_range_is_in_half_octaves_with_both_ends():
    decays = half_octaves(-11, -4)
    np.testing.assert_allclose(np.diff(np.log2(decays)), 0.5)
    assert (decays[0], decays[-1]) == (2.0**-11, 2.0**-4)


@pytest.mark.parametrize(
    ("level", "expected"),
    # by the fewest steps an exponent has its upper end, by the most its lower one
    [(8, [UNDECIDED, UNDECIDED]), (32, [HOLDS, HOLDS]), (128, [HOLDS, HOLDS])],
)
def test_where_no_decay_is_as_good_as_the_best_the_interval_has_no_end(level, expected):
    """At one budget all λ below the best are as good as it, so that nobody knows where the middle is."""
    steep, dims = pretend(-0.5), ("learning_rate", "weight_decay", "seed")

    def errors(training, point):
        found = steep(training)["test_error"].isel(epoch=0).transpose(*dims).values
        lowest = found.argmin(axis=1, keepdims=True)
        below = np.arange(found.shape[1])[None, :, None] < lowest
        open_one = training.task.epochs == level
        return {"test_error": np.where(below & open_one, found.min(), found)}

    lines = measured(made_up(errors), {"epochs": (8, 32, 128)}).verdicts
    assert [line.verdict for line in lines] == expected
    low, high = lines[0].estimate[1:3]
    assert (np.isinf(low), np.isinf(high)) == (level == 128, level == 8)
    # the other end is that of the right wall, less than an octave above the minimum
    assert -0.5 - 0.25 < (low if level == 8 else high) < -0.5 + 0.25 or level == 32


def test_every_learning_rate_has_verdicts_of_its_own():
    def errors(training, point):
        # the best λ of the second α falls, that of the first rises
        sign = np.where(point["learning_rate"] == 0.2, -0.5, 0.5)
        best = 2**-5.3 * (training.task.steps / 100) ** sign
        return {"test_error": 40 + np.log(point["weight_decay"] / best) ** 2}

    rates = {"SGDW": [0.1, 0.2], "AdamW": [0.01]}
    finding = measured(made_up(errors), {"epochs": (8, 32, 128)}, learning_rates=rates)
    wheres = [
        f"toy, linear, epochs, {name}"
        for name in ("SGDW, α = 0.1", "SGDW, α = 0.2", "AdamW, α = 0.01")
    ]
    assert [line.where for line in finding.verdicts] == [w for w in wheres for _ in range(2)]
    values = [line.estimate.value for line in finding.verdicts[::2]]
    assert values == pytest.approx([0.5, -0.5, 0.5], abs=0.005)
    assert list(finding.drawings) == [f"budget {where}" for where in wheres]


def test_judged_in_a_closed_form_with_students_interval():
    """Where every seed's own valley moves as a whole, the exponent is the mean of theirs, and so is its interval."""
    steps = np.array([100, 400, 1600])
    exponents = -0.4 + 0.05 * luck(np.arange(6))
    decays = 2.0 ** np.linspace(-10, 2, 49)
    away = np.log(decays)[:, None] - exponents * np.log(steps / 400)[:, None, None] + 3.0
    error = xr.DataArray(
        40 + away**2,
        {"steps": steps, "weight_decay": decays},
        ("steps", "weight_decay", "seed"),
    )
    first, second = budget.judge(error, "toy", 2.0, (3, 6))
    assert first.estimate == second.estimate
    # the mean of parabolas is a parabola around the mean of their minima
    assert first.estimate.value == pytest.approx(exponents.mean(), abs=2e-3)
    wanted = exponents.std(ddof=1) / np.sqrt(6)
    assert first.estimate.standard_error == pytest.approx(wanted, rel=0.02)
    assert first.estimate.high - first.estimate.value == pytest.approx(3.1634 * wanted, rel=0.02)
    assert (first.bound, first.sense, first.margin, first.looks) == (0.0, "<", 0.125, 2)
    assert (second.bound, second.sense, second.margin, second.looks) == (-0.25, "<", 0.125, 2)


def test_in_the_figure_the_minima_coincide_over_the_normalised_decay():
    drawings = measured(pretend(-0.5), {"epochs": BUDGETS["epochs"]}).drawings
    (panels,) = (draw(drawing).axes for drawing in drawings.values())
    minima = [[c.get_xdata()[c.get_ydata().argmin()] for c in panel.lines] for panel in panels[:2]]
    raw, scaled = np.array(minima)
    # to half an octave, which is how finely they are measured
    np.testing.assert_allclose(np.log2(raw / raw[0]), [0, -1, -2], atol=0.5)
    np.testing.assert_allclose(np.log2(scaled / scaled[0]), 0, atol=0.5)
    heights = [line.get_ydata() for line in panels[0].lines]
    # all that is within four tolerances of the least, and nothing above
    assert all(3.0 < np.ptp(each) <= 4.0 for each in heights)
    np.testing.assert_allclose(raw / scaled, np.sqrt(4 / (384 * np.array(BUDGETS["epochs"]))))


def test_another_data_set_takes_the_place_of_the_tasks():
    (run, trainings), other = recorded(pretend(-0.5)), tiny(24).dataset
    measured(run, {"epochs": (1, 2)}, dataset=lambda: other)
    assert all(training.task.dataset is other for training in trainings)


def by_size(exponent, size_of):
    """A parabola in log λ whose minimum goes as a power of a number of the task."""

    def errors(training, point):
        best = np.log(2**-5.3 * size_of(training.task) ** exponent)
        return {"test_error": 40 + (np.log(point["weight_decay"]) - best) ** 2}

    return made_up(errors)


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [(1.0, [HOLDS, HOLDS]), (0.5, [HOLDS, FAILS]), (0.7, [HOLDS, SAME]), (-0.5, [FAILS, FAILS])],
)
def test_over_batch_sizes_it_is_judged_between_the_batch_and_its_root(exponent, expected):
    run, trainings = recorded(by_size(exponent, lambda task: task.batch_size / 16))
    budgets = {"batch size": (4, 16, 64)}
    finding = measured(run, budgets, along="batch size", power=0.5)
    assert [line.verdict for line in finding.verdicts] == expected
    for line in finding.verdicts:
        assert line.estimate.value == pytest.approx(exponent, abs=0.005)
        assert line.where.endswith("batch size, AdamW, α = 0.01·(batch size / 4)^0.5")
    rates = [np.unique(training.space["learning_rate"]).tolist() for training in trainings]
    assert np.ravel(rates) == pytest.approx([0.01, 0.02, 0.04])
    assert len({training.place for training in trainings}) == 3
    (panels,) = (draw(drawing).axes for drawing in finding.drawings.values())
    raw, scaled = ([line.get_xdata() for line in panel.lines] for panel in panels[:2])
    ratios = [np.unique((a / b).round(6)).tolist() for a, b in zip(raw, scaled, strict=True)]
    assert ratios == [[4], [16], [64]]


@pytest.mark.parametrize(("exponent", "verdict"), [(0.0, HOLDS), (-0.5, FAILS), (-0.2, SAME)])
def test_over_widths_it_is_judged_between_staying_and_the_inverse_root(exponent, verdict):
    widths = {}

    def of_width(width):
        return widths.setdefault(width, linear(width))

    run, trainings = recorded(
        by_size(exponent, lambda task: next(w for w, m in widths.items() if m == task.model) / 32)
    )
    task = tiny()._replace(of_width=of_width)
    design = replace(DESIGN, budgets={"width": (16, 32, 64)}, along="width", power=-1.0)
    (line,) = design.measure(run, task, 0).verdicts
    assert line.verdict == verdict
    assert line.estimate.value == pytest.approx(exponent, abs=0.005)
    rates = [np.unique(training.space["learning_rate"]).tolist() for training in trainings]
    assert np.ravel(rates) == pytest.approx([0.01, 0.005, 0.0025])


def test_a_network_without_a_width_is_refused_by_its_task():
    with pytest.raises(ValueError, match="toy, linear has no width to vary; take one of mlp, tr"):
        measured(pretend(0.0), {"width": (16, 32)}, along="width")


@pytest.mark.slow
def test_a_tiny_real_run():
    design = Budget(
        budgets={"epochs": (1, 2)},
        learning_rates={"AdamW": (0.01, 0.02)},
        decays=(0.01, 0.1, 0.5),
        looks=(2, 3),
    )
    run = runner()
    for look, seeds in enumerate(design.looks):
        finding = design.measure(run, tiny(24), look)
        wheres = [f"toy, linear, epochs, AdamW, α = {rate}" for rate in (0.01, 0.02)]
        assert [line.where for line in finding.verdicts] == [wheres[0]] * 2 + [wheres[1]] * 2
        assert all(line.estimate.seeds == seeds for line in finding.verdicts)
