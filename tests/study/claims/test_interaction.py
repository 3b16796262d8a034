"""Claims (ii) and (iii) on grids whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from toys import tiny, with_finalists

import decoupled_wd as dwd
from decoupled_wd.study.claims import generalization, tuning
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.claims.optimizers import CONTENDERS, contender, octaves
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, UNDECIDED
from decoupled_wd.study.tasks.task import Training, runner

TASK = tiny()._replace(name="toy", tolerance=2.0)
SLOPES = {"SGD": -1.0, "SGDW": 0.0, "Adam": -1.0, "AdamW": 0.0}
BEST = {"Adam": 42.0, "AdamW": 40.0}
DESIGN = Interaction(grid=9, seeds=5)
TUNED = Generalization(grid=9, seeds=5, fresh_seeds=10)
NAMES = {(each.family, each.decay): name for name, each in CONTENDERS.items()}


def fake(slopes=SLOPES, best=BEST, noise=0.05):
    """A `run` whose test error is a valley along the slope; training loss falls with λ."""

    def run(training):
        make_optimizer, seeds = training.make_optimizer, training.seeds
        name = NAMES[make_optimizer.family, make_optimizer.decay]
        rates, decays = training.space.values()
        middle = CONTENDERS[name]
        x = np.log2(rates / middle.learning_rate)[:, None]
        coupled = -1.0 if make_optimizer.coupling == dwd.LR else 0.0
        center = np.log2(np.where(decays > 0, decays, decays[1] / 4)) - np.log2(
            decays[1:].mean() / 2
        )
        y = center - (slopes[name] + coupled) * x
        error = best.get(name, 41.0) + 0.4 * y**2 + 0.05 * x**2
        rng = np.random.default_rng(sorted(CONTENDERS).index(name))
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
    finding = DESIGN.measure(fake(), TASK)
    assert verdicts(finding) == [HOLDS] * 4
    assert [round(line.estimate.value, 1) for line in finding.verdicts][::2] == [-1.0, -1.0]
    assert [record["optimizer"] for record in finding.table] == list(CONTENDERS)
    assert list(finding.drawings) == ["heatmaps toy, cosine"]


def test_a_decoupled_ridge_that_is_as_steep_does_not_hold():
    steep = DESIGN.measure(fake(SLOPES | {"AdamW": -0.9}), TASK)
    assert verdicts(steep) == [HOLDS, HOLDS, HOLDS, FAILS]
    rising = DESIGN.measure(fake(SLOPES | {"Adam": 1.0}), TASK)
    assert rising.verdicts[2].verdict == FAILS


def test_noise_leaves_it_undecided():
    finding = DESIGN.measure(fake(SLOPES | {"AdamW": -0.5}, noise=1.0), TASK)
    assert finding.verdicts[3].verdict == UNDECIDED


def test_in_lr_coupled_units_the_ridge_is_a_diagonal():
    finding = replace(DESIGN, couplings=(dwd.LR,)).measure(fake(), TASK)
    assert len(finding.verdicts) == 2
    assert verdicts(finding) == [HOLDS, HOLDS]
    assert finding.verdicts[0].estimate.value == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize(("adamw", "verdict"), [(40.0, HOLDS), (44.0, FAILS)])
def test_the_gain_of_the_tuned(adamw, verdict):
    run = with_finalists(fake(best=BEST | {"AdamW": adamw}))
    finding = TUNED.measure(run, TASK)
    assert verdicts(finding) == [verdict, verdict]
    assert finding.verdicts[0].estimate.value == pytest.approx(42.0 - adamw, abs=0.2)
    assert finding.verdicts[1].estimate.value == pytest.approx(42.0 - adamw, abs=0.5)


def test_under_a_fixed_rate_a_gain_is_what_does_not_hold():
    for gain, verdict in ((0.0, HOLDS), (0.5, UNDECIDED), (2.0, FAILS)):
        run = with_finalists(fake(best={"Adam": 40.0 + gain, "AdamW": 40.0}))
        (line,) = replace(TUNED, schedules=("fixed",)).measure(run, TASK).verdicts
        assert line.verdict == verdict


def test_tuned_is_chosen_on_validation_and_reported_on_test():
    dims = ("learning_rate", "weight_decay", "seed")
    validation = np.array([[[5.0], [4.0]], [[3.0], [np.nan]]])
    test = np.array([[[1.0], [2.0]], [[7.0], [0.0]]])
    runs = xr.Dataset({"validation_error": (dims, validation), "test_error": (dims, test)})
    assert tuning.tuned_error(tuning.errors(runs), np.array([0])) == 7.0
    assert np.isnan(tuning.tuned_error(tuning.errors(runs * np.nan), np.array([0])))


class Point:
    """Gives back the hyperparameters in place of an optimiser."""

    label = ("point",)

    def __call__(self, **point):
        return point


def test_the_finalists_are_the_best_three_with_other_seeds():
    """The luckiest of many cells by few seeds falls back once others have been seen."""
    seen = {}

    def run(training):
        made = [training.make_optimizer(np.array(i)) for i in range(3)]
        seen.update(place=training.place, made=made, seeds=training.seeds)
        errors = np.broadcast_to([[9.0], [5.0], [6.0]], (3, training.seeds)).copy()
        errors[:, :2] = [[1.0], [2.0], [3.0]]  # those that chose
        dims = ("trial", "seed", "epoch")
        variables = dict.fromkeys(("validation_error", "test_error"), (dims, errors[..., None]))
        return xr.Dataset(variables, training.space)

    dims = ("learning_rate", "weight_decay", "seed")
    validation = np.array([[[3.0, 3.0], [np.nan, 0.0]], [[2.0, 2.0], [0.0, 2.0]], [[4, 4], [5, 5]]])
    axes = {"learning_rate": [0.1, 0.2, 0.4], "weight_decay": [1e-3, 2e-3]}
    found = xr.Dataset({"validation_error": (dims, validation)}, axes)
    searched = Training(TASK, Point(), axes, seeds=2, experiment=("grid",))
    best = tuning.finalists(run, searched, found, fresh_seeds=4)
    points = [tuple(float(v) for v in point.values()) for point in seen["made"]]
    np.testing.assert_allclose(points, [(0.2, 2e-3), (0.2, 1e-3), (0.1, 1e-3)])
    assert (seen["place"], seen["seeds"]) == (("toy", "finalists", "grid", "point"), 6)
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
    found = generalization.matched(theirs, ours, np.array([0]), tolerance=100.0)
    assert 1.5 < found < 2.0  # 2 points, less what a lower loss is worth
    assert np.isnan(
        generalization.matched(runs(loss + 9, loss), ours, np.array([0]), tolerance=9.0)
    )


def test_a_real_run_is_kept_in_its_place(tmp_path):
    """Claim (iii) finds what claim (ii) trained, in memory and in the store."""
    trained = []

    def progress(place, finished, cells):
        if not finished:
            trained.append(place)

    task = TASK._replace(name="toy, linear")
    run = runner(tmp_path, progress)
    found = Interaction(grid=2, seeds=2).measure(run, task)
    assert len(found.table) == len(trained) == len(CONTENDERS)
    assert (tmp_path / "toy" / "linear" / "cosine" / "Adam" / "decoupled").is_dir()
    for again in (run, runner(tmp_path, progress)):
        Generalization(grid=2, seeds=2, fresh_seeds=1).measure(again, task)
    finalists = [place for place in trained if "finalists" in place]
    assert len(finalists) == len(trained) - len(CONTENDERS) == 2


@pytest.mark.parametrize(
    "other",
    [
        TASK._replace(epochs=1),
        TASK._replace(batch_size=8),
        TASK._replace(dataset=tiny(24).dataset),
        TASK._replace(model=tiny(24).model),
    ],
    ids=["epochs", "batch size", "data", "model"],
)
def test_a_task_of_other_sizes_is_another_training(other):
    one, two = (tuning.grid_of(task, "AdamW", "cosine", grid=2, seeds=1) for task in (TASK, other))
    assert one.key == tuning.grid_of(TASK, "AdamW", "cosine", grid=2, seeds=1).key
    assert one.place == two.place
    assert one.key != two.key


def test_the_label_tells_optimisers_apart():
    labels = {
        contender(name, schedule, 10, coupling).label
        for name in CONTENDERS
        for schedule in ("cosine", "fixed")
        for coupling in (dwd.PAPER, dwd.LR)
    }
    assert len(labels) == 16


def test_the_axes_are_octaves_around_the_middle():
    for name, middle in CONTENDERS.items():
        found = octaves(name, 9)
        assert found["learning_rate"][4] == middle.learning_rate
        assert found["weight_decay"][0] == 0
        np.testing.assert_allclose(np.diff(np.log2(found["weight_decay"][1:])), 1)
        np.testing.assert_allclose(np.diff(np.log2(found["learning_rate"])), -1)
    coupled = octaves("AdamW", 9, dwd.LR)["weight_decay"] * CONTENDERS["AdamW"].learning_rate
    np.testing.assert_allclose(coupled, octaves("AdamW", 9)["weight_decay"])
