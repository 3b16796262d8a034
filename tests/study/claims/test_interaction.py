"""Claims (ii) and (iii) on grids whose answer is known."""

import numpy as np
import pytest
import xarray as xr
from test_choice import with_finalists

import decoupled_wd as dwd
from decoupled_wd.study.claims import generalization, interaction, tuning
from decoupled_wd.study.claims.optimizers import CONTENDERS, axes
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, UNDECIDED
from decoupled_wd.study.tasks.data import digits
from decoupled_wd.study.tasks.models import mlp
from decoupled_wd.study.tasks.task import Task, runner, task

TASK = Task("toy", digits(), mlp(64, 10), epochs=1, batch_size=50, within=2.0)
SLOPES = {"SGD": -1.0, "SGDW": 0.0, "Adam": -1.0, "AdamW": 0.0}
BEST = {"Adam": 42.0, "AdamW": 40.0}
SIZES = {"grid": 9, "seeds": 5, "fresh_seeds": 10}


def fake(slopes=SLOPES, best=BEST, noise=0.05):
    """A `run` whose test error is a valley along the slope; training loss falls with λ."""

    def run(name, task, make, hyperparameters, *, seeds, evaluate_every=None):
        contender = name.split(", ")[-1]
        rates, decays = hyperparameters.values()
        middle = CONTENDERS[contender]
        x = np.log2(rates / middle.learning_rate)[:, None]
        coupled = -1.0 if "lr-coupled" in name else 0.0
        center = np.log2(np.where(decays > 0, decays, decays[1] / 4)) - np.log2(
            decays[1:].mean() / 2
        )
        y = center - (slopes[contender] + coupled) * x
        error = best.get(contender, 41.0) + 0.4 * y**2 + 0.05 * x**2
        rng = np.random.default_rng(sorted(CONTENDERS).index(contender))
        drawn = error[..., None, None] + rng.normal(0, noise, (*error.shape, seeds, 1))
        loss = np.exp(-0.1 * y)[..., None, None] * np.ones((1, 1, seeds, 1))
        dims = ("learning_rate", "weight_decay", "seed", "epoch")
        return xr.Dataset(
            {
                "test_error": (dims, drawn),
                "validation_error": (dims, error[..., None, None] + 0 * drawn),
                "train_loss": (dims, loss),
            },
            {"learning_rate": rates, "weight_decay": decays},
        )

    return run


def verdicts(finding):
    return [line.verdict for line in finding.verdicts]


def test_the_paper_s_picture_holds():
    finding = interaction.measure(fake(), TASK, grid=9, seeds=5)
    assert verdicts(finding) == [HOLDS] * 4
    assert [round(line.estimate.value, 1) for line in finding.verdicts][::2] == [-1.0, -1.0]
    assert [record["optimizer"] for record in finding.table] == list(CONTENDERS)
    assert list(finding.figures) == ["heatmaps toy, cosine"]


def test_a_decoupled_ridge_that_is_as_steep_does_not_hold():
    steep = interaction.measure(fake(SLOPES | {"AdamW": -0.9}), TASK, grid=9, seeds=5)
    assert verdicts(steep) == [HOLDS, HOLDS, HOLDS, FAILS]
    rising = interaction.measure(fake(SLOPES | {"Adam": 1.0}), TASK, grid=9, seeds=5)
    assert rising.verdicts[2].verdict == FAILS


def test_noise_leaves_it_undecided():
    finding = interaction.measure(fake(SLOPES | {"AdamW": -0.5}, noise=1.0), TASK, grid=9, seeds=5)
    assert finding.verdicts[3].verdict == UNDECIDED


def test_in_lr_coupled_units_the_ridge_is_a_diagonal():
    finding = interaction.measure(fake(), TASK, grid=9, seeds=5, couplings=[dwd.LR])
    assert len(finding.verdicts) == 2
    assert verdicts(finding) == [HOLDS, HOLDS]
    assert finding.verdicts[0].estimate.value == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize(("adamw", "verdict"), [(40.0, HOLDS), (44.0, FAILS)])
def test_the_gain_of_the_tuned(adamw, verdict):
    run = with_finalists(fake(best=BEST | {"AdamW": adamw}))
    finding = generalization.measure(run, TASK, **SIZES)
    assert verdicts(finding) == [verdict, verdict]
    assert finding.verdicts[0].estimate.value == pytest.approx(42.0 - adamw, abs=0.2)
    assert finding.verdicts[1].estimate.value == pytest.approx(42.0 - adamw, abs=0.5)


def test_under_a_fixed_rate_a_gain_is_what_does_not_hold():
    for gain, verdict in ((0.0, HOLDS), (0.5, UNDECIDED), (2.0, FAILS)):
        run = with_finalists(fake(best={"Adam": 40.0 + gain, "AdamW": 40.0}))
        (line,) = generalization.measure(run, TASK, **SIZES, schedules=["fixed"]).verdicts
        assert line.verdict == verdict


def test_tuned_is_chosen_on_validation_and_reported_on_test():
    dims = ("learning_rate", "weight_decay", "seed")
    validation = np.array([[[5.0], [4.0]], [[3.0], [np.nan]]])
    test = np.array([[[1.0], [2.0]], [[7.0], [0.0]]])
    runs = xr.Dataset({"validation_error": (dims, validation), "test_error": (dims, test)})
    assert tuning.tuned(tuning.errors(runs), np.array([0])) == 7.0
    assert np.isnan(tuning.tuned(tuning.errors(runs * np.nan), np.array([0])))


def test_the_finalists_are_the_best_three_with_other_seeds():
    """The luckiest of many cells by few seeds falls back once others have been seen."""
    seen = {}

    def run(name, task, make, hyperparameters, *, seeds):
        seen.update(name=name, made=[make(np.array(i)) for i in range(3)], seeds=seeds)
        errors = np.broadcast_to([[9.0], [5.0], [6.0]], (3, seeds)).copy()
        errors[:, :2] = [[1.0], [2.0], [3.0]]  # those that chose
        dims = ("trial", "seed", "epoch")
        variables = dict.fromkeys(("validation_error", "test_error"), (dims, errors[..., None]))
        return xr.Dataset(variables, hyperparameters)

    dims = ("learning_rate", "weight_decay", "seed")
    validation = np.array([[[3.0, 3.0], [np.nan, 0.0]], [[2.0, 2.0], [0.0, 2.0]], [[4, 4], [5, 5]]])
    axes = {"learning_rate": [0.1, 0.2, 0.4], "weight_decay": [1e-3, 2e-3]}
    found = xr.Dataset({"validation_error": (dims, validation)}, axes)
    best = tuning.finalists(run, "grid", TASK, lambda **point: point, found, seeds=4)
    points = [tuple(float(v) for v in point.values()) for point in seen["made"]]
    np.testing.assert_allclose(points, [(0.2, 2e-3), (0.2, 1e-3), (0.1, 1e-3)])
    assert (seen["name"], seen["seeds"]) == ("finalists, grid", 6)
    assert best.sizes == {"trial": 3, "seed": 4}
    assert tuning.error(best) == (5.0, 5.0, 5.0)
    assert tuning.difference(best + 1, best) == (1.0, 1.0, 1.0)


def test_matched_compares_cells_of_the_same_training_loss():
    dims = ("learning_rate", "weight_decay", "seed")

    def runs(loss, test):
        shape = (1, len(loss), 1)
        return xr.Dataset(
            {
                "train_loss": (dims, np.reshape(loss, shape)),
                "validation_error": (dims, np.reshape(test, shape)),
                "test_error": (dims, np.reshape(test, shape)),
            }
        )

    loss = np.geomspace(0.1, 1.0, 17)
    ours, theirs = runs(loss, 10 + loss), runs(loss * 1.5, 12 + loss)
    found = generalization.matched(theirs, ours, np.array([0]), within=100.0)
    assert 1.5 < found < 2.0  # 2 points, less what a lower loss is worth
    assert np.isnan(generalization.matched(runs(loss + 9, loss), ours, np.array([0]), within=9.0))


def test_a_real_run_is_kept_under_its_name(tmp_path):
    seen = []
    run = runner(tmp_path / "store", lambda name, *_: seen.append(name))
    learned = task("digits", "mlp")._replace(epochs=1)
    for _ in range(2):
        results = interaction.grids(run, learned, "cosine", grid=2, seeds=2)
    assert set(results.children) == set(CONTENDERS)
    assert (tmp_path / "store" / "digits" / "mlp" / "cosine" / "AdamW").is_dir()
    assert {name: seen.count(name) for name in seen}["digits, mlp, cosine, AdamW"] <= 10
    assert results["AdamW"].sizes == {"learning_rate": 2, "weight_decay": 2, "seed": 2}


def test_a_name_with_other_sizes_is_another_run():
    run, learned = runner(), task("digits", "mlp")
    for epochs in (1, 2):
        grown = interaction.grids(run, learned._replace(epochs=epochs), "cosine", grid=1, seeds=1)
        assert grown["AdamW"]["epoch"] == epochs


def test_the_axes_are_octaves_around_the_middle():
    for name, contender in CONTENDERS.items():
        found = axes(name, 9)
        assert found["learning_rate"][4] == contender.learning_rate
        assert found["weight_decay"][0] == 0
        np.testing.assert_allclose(np.diff(np.log2(found["weight_decay"][1:])), 1)
        np.testing.assert_allclose(np.diff(np.log2(found["learning_rate"])), -1)
    coupled = axes("AdamW", 9, dwd.LR)["weight_decay"] * CONTENDERS["AdamW"].learning_rate
    np.testing.assert_allclose(coupled, axes("AdamW", 9)["weight_decay"])
