"""The exponent of the best λ, on minima put at known places and on a tiny real run."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from toys import tiny

from decoupled_wd.study.claims import budget
from decoupled_wd.study.claims.budget import Budget
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, UNDECIDED
from decoupled_wd.study.figures.draw import draw
from decoupled_wd.study.tasks.task import Training, runner

RNG = np.random.default_rng(0)
BUDGETS = {"epochs": (8, 32, 128), "training points": (24, 96, 384), "batch size": (64, 16, 4)}


def pretend(exponent, noise=0.0, seen=None):
    """A parabola in log λ whose minimum is at 2^-5.3·steps^exponent."""

    def run(training):
        task, space, seeds = training.task, training.space, training.seeds
        if seen is not None:
            seen.append(training)
        decays = np.asarray(space["weight_decay"])
        best = 2**-5.3 * (task.steps / 100) ** exponent
        # one shift of the minimum for each run: what seeds do to it
        shift = RNG.normal(size=seeds) * noise
        # longer runs are better by far more than `task.tolerance`
        error = 90 - 5 * np.log(task.steps) + (np.log(decays / best)[:, None] + shift) ** 2
        return xr.Dataset(
            {
                "test_error": (
                    ("learning_rate", "weight_decay", "seed", "epoch"),
                    np.stack([error] * len(space["learning_rate"]))[..., None],
                )
            },
            {**space, "seed": np.arange(seeds), "epoch": [task.epochs]},
        )

    return run


DESIGN = Budget(
    budgets=BUDGETS,
    learning_rates={"AdamW": [0.01]},
    decays=2.0 ** np.arange(-14, 1),
    seeds=5,
)


def measure(run, budgets=BUDGETS):
    return replace(DESIGN, budgets=budgets).measure(run, tiny())


def verdicts(exponent, noise=0.0):
    found = measure(pretend(exponent, noise), {"epochs": BUDGETS["epochs"]}).verdicts
    return [line.verdict for line in found]


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [(-0.5, [HOLDS, HOLDS]), (-0.1, [HOLDS, FAILS]), (0.0, [FAILS, FAILS]), (0.3, [FAILS, FAILS])],
)
def test_the_verdict_follows_the_exponent(exponent, expected):
    lines = measure(pretend(exponent)).verdicts
    assert [line.verdict for line in lines] == expected * len(BUDGETS)
    values = np.array([line.estimate.value for line in lines]).reshape(-1, 2)
    np.testing.assert_allclose(values[:, 0], exponent, atol=1e-6)
    np.testing.assert_allclose(values[:, 1], abs(exponent + 0.5) - abs(exponent), atol=1e-6)


def test_with_noise_it_is_undecided():
    assert verdicts(-0.2, noise=2.0) == [UNDECIDED, UNDECIDED]


def test_each_way_to_vary_the_budget_changes_the_steps_sixteenfold():
    seen = []
    measure(pretend(-0.5, seen=seen))
    tasks = [training.task for training in seen]
    sizes = [(len(task.dataset.x_train), len(task.dataset.y_train)) for task in tasks]
    assert sizes == [(384, 384)] * 3 + [(24, 24), (96, 96), (384, 384)] + [(384, 384)] * 3
    steps = np.array([task.steps for task in tasks]).reshape(3, 3)
    np.testing.assert_array_equal(steps / steps[:, :1], [[1, 4, 16]] * 3)
    assert len({training.place for training in seen}) == 9


def test_every_learning_rate_has_verdicts_of_its_own():
    design = Budget(
        budgets={"epochs": (8, 32, 128)},
        learning_rates={"SGDW": [0.1, 0.2], "AdamW": [0.01]},
        seeds=2,
    )
    finding = design.measure(pretend(-0.5), tiny())
    assert len(finding.verdicts) == 6
    assert len(finding.drawings) == len({line.where for line in finding.verdicts}) == 3


def test_the_statistic_of_the_normalised_decay_is_that_of_its_own_ridge():
    rows = [
        pretend(-0.3)(Training(tiny()._replace(epochs=t), None, AXES, seeds=3))["test_error"]
        for t in BUDGETS["epochs"]
    ]
    error = xr.concat(
        [row.isel(learning_rate=0, epoch=0, drop=True) for row in rows],
        xr.DataArray([tiny()._replace(epochs=t).steps for t in BUDGETS["epochs"]], dims="steps"),
    )
    _, nearer = budget.judge(error, "toy")
    # by hand: the minimum of every row, in units of sqrt(b/(B·T))
    best = error["weight_decay"].values[error.mean("seed").argmin("weight_decay").values]
    log_steps = np.log(error["steps"].values)
    raw, scaled = (
        np.polyfit(log_steps, np.log(each), 1)[0] for each in (best, best * np.exp(log_steps / 2))
    )
    assert nearer.estimate.value == pytest.approx(abs(scaled) - abs(raw), abs=0.1)


AXES = {"learning_rate": [0.01], "weight_decay": 2.0 ** np.arange(-14, 1, 0.25)}


def test_in_the_figure_the_minima_coincide_over_the_normalised_decay():
    drawings = measure(pretend(-0.5), {"epochs": BUDGETS["epochs"]}).drawings
    (panels,) = (draw(drawing).axes for drawing in drawings.values())
    minima = [[c.get_xdata()[c.get_ydata().argmin()] for c in panel.lines] for panel in panels[:2]]
    raw, scaled = np.array(minima)
    np.testing.assert_allclose(raw / raw[0], [1, 1 / 2, 1 / 4])
    np.testing.assert_allclose(scaled, scaled[0])


def test_another_data_set_takes_the_place_of_the_tasks():
    seen, other = [], tiny(24).dataset
    design = replace(DESIGN, budgets={"epochs": (1, 2)}, dataset=lambda: other)
    design.measure(pretend(-0.5, seen=seen), tiny())
    assert all(training.task.dataset is other for training in seen)


def test_a_tiny_real_run():
    design = Budget(
        budgets={"epochs": (1, 2)},
        learning_rates={"AdamW": (0.01, 0.02)},
        decays=(0.01, 0.1, 0.5),
        seeds=2,
    )
    finding = design.measure(runner(), tiny(24))
    wheres = [f"toy, linear, epochs, AdamW, α = {rate}" for rate in (0.01, 0.02)]
    assert [line.where for line in finding.verdicts] == [wheres[0]] * 2 + [wheres[1]] * 2
