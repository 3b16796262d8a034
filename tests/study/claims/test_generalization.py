"""Claim (iii) on results whose gain is known, and its analysis of covariance against another least squares."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from toys import luck, made_up, tiny

from decoupled_wd.study.claims import generalization
from decoupled_wd.study.claims.generalization import Generalization
from decoupled_wd.study.claims.optimizers import CONTENDERS
from decoupled_wd.study.claims.verdicts import FAILS, HOLDS, MISSING, SAME, UNDECIDED
from decoupled_wd.study.figures.draw import draw

TASK = tiny()._replace(name="toy", tolerance=2.0)
BEST = {"Adam": 42.0, "AdamW": 40.0}
DESIGN = Generalization(grid=9, looks=(8,))
NAMES = {(each.family, each.decay): name for name, each in CONTENDERS.items()}


def fake(best=BEST, noise=0.0, lower=0.0, trap=0.0):
    """A level valley for each, `lower` losses for AdamW, and test errors that fall where validation is `trap` worse."""

    def errors(training, point):
        name = NAMES[training.make_optimizer.family, training.make_optimizer.decay]
        middle = CONTENDERS[name]
        x = np.log2(point["learning_rate"] / middle.learning_rate)
        y = np.log2(np.maximum(point["weight_decay"], 1e-9) / middle.weight_decay)
        above = np.minimum(0.4 * y**2 + 0.05 * x**2, 30.0)
        lucky = noise * luck(point["seed"], sorted(CONTENDERS).index(name))
        loss = np.exp(-0.1 * np.clip(y, -9, 9) - lower * (name == "AdamW"))
        return {
            "validation_error": best[name] + above,
            "test_error": best[name] + above + lucky - trap * (above > 0.2),
            "train_loss": loss,
        }

    return made_up(errors)


def measured(run, design=DESIGN, look=0):
    return design.measure(run, TASK, look)


@pytest.mark.parametrize(
    ("adamw", "verdict"), [(40.0, HOLDS), (44.0, FAILS), (42.0, SAME), (41.8, SAME)]
)
def test_the_gain_of_the_tuned_and_of_the_matched(adamw, verdict):
    finding = measured(fake(best=BEST | {"AdamW": adamw}, noise=0.1))
    assert [line.verdict for line in finding.verdicts] == [verdict] * 2
    for line in finding.verdicts:
        assert line.estimate.value == pytest.approx(42.0 - adamw, abs=0.15)
        assert line.margin == TASK.matters
        assert line.where == "toy, cosine"
    (drawing,) = finding.drawings.values()
    draw(drawing)


def test_noise_leaves_it_undecided_and_later_looks_add_searches():
    design = replace(DESIGN, looks=(4, 8))
    first, second = (measured(fake(noise=3.0), design, look) for look in (0, 1))
    assert first.verdicts[0].verdict == UNDECIDED
    seeds = [[line.estimate.seeds for line in each.verdicts] for each in (first, second)]
    # a search has two of the seeds
    assert seeds == [[2, 4], [4, 8]]


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.0, HOLDS), (0.3, HOLDS), (0.5, UNDECIDED), (2.0, FAILS), (-2.0, FAILS)]
)
def test_under_a_fixed_rate_a_gain_is_what_does_not_hold(gain, verdict):
    run = fake(best={"Adam": 40.0 + gain, "AdamW": 40.0}, noise=0.05)
    (line,) = measured(run, replace(DESIGN, schedules=("fixed",))).verdicts
    assert (line.sense, line.verdict) == ("≈", verdict)


def test_tuned_is_chosen_on_validation_and_reported_on_test():
    finding = measured(fake(best={"Adam": 41.0, "AdamW": 40.0}, trap=9.0))
    assert finding.verdicts[0].estimate.value == pytest.approx(1.0, abs=1e-9)


def test_a_higher_loss_is_no_gain_at_equal_loss():
    """Both errors depend on the loss alone, and AdamW's losses are lower."""

    def errors(training, point):
        name = NAMES[training.make_optimizer.family, training.make_optimizer.decay]
        y = np.log2(np.maximum(point["weight_decay"], 1e-9) / CONTENDERS[name].weight_decay)
        log_loss = 0.1 * np.clip(np.abs(y), 0, 5) - 0.1 * (name == "AdamW")
        error = 40 + 5 * log_loss + 0.01 * luck(point["seed"])
        return {"validation_error": error, "test_error": error, "train_loss": np.exp(log_loss)}

    tuned, matched = measured(made_up(errors)).verdicts
    assert tuned.estimate.value == pytest.approx(0.5, abs=0.05)
    assert matched.estimate.value == pytest.approx(0.0, abs=1e-9)
    assert matched.verdict == SAME


def runs(loss, test, validation=None):
    """Settings × seeds, as they are along a ridge."""
    variables = {
        "train_loss": loss,
        "test_error": test,
        "validation_error": test if validation is None else validation,
    }
    return xr.Dataset({k: (("trial", "seed"), np.array(v, float)) for k, v in variables.items()})


def random_runs(seed=0, settings=20, seeds=6):
    """Two groups whose losses overlap in part, with noise in loss and error."""
    chance = np.random.default_rng(seed)

    def one(low, high, at):
        log_loss = np.linspace(low, high, settings)[:, None] + chance.normal(
            0, 0.02, (settings, seeds)
        )
        error = at + 2 * log_loss + log_loss**2 + chance.normal(0, 0.3, log_loss.shape)
        return runs(np.exp(log_loss), error)

    return one(-1.0, 1.0, 12.0), one(-1.5, 0.5, 10.0)


def residual(values, x):
    """What a parabola in x leaves of them, by NumPy's fit of polynomials."""
    return values - np.polyval(np.polyfit(x, values, 2), x)


def another(first, second, tolerance):
    """The coefficient by Frisch, Waugh and Lovell: a parabola is taken out of the errors and of the groups first."""

    def kept(each):
        validation = each["validation_error"].values.mean(axis=1)
        near = validation <= validation.min() + 2 * tolerance
        return each["train_loss"].values[near], each["test_error"].values[near]

    (l1, e1), (l2, e2) = kept(first), kept(second)
    low = max(l1.mean(1).min(), l2.mean(1).min())
    high = min(l1.mean(1).max(), l2.mean(1).max())
    (l1, e1), (l2, e2) = (
        (loss[(loss.mean(1) >= low) & (loss.mean(1) <= high)], error[(loss.mean(1) >= low) & (loss.mean(1) <= high)])
        for loss, error in ((l1, e1), (l2, e2))
    )  # fmt: skip
    loss, error = np.concatenate([l1, l2]), np.concatenate([e1, e2])
    group = np.concatenate([np.ones(len(l1)), np.zeros(len(l2))])

    def gain(drawn):
        x = np.log(loss[:, drawn].mean(axis=1))
        of_group = residual(group, x)
        return of_group @ residual(error[:, drawn].mean(axis=1), x) / (of_group @ of_group)

    return gain


@pytest.mark.parametrize("tolerance", [0.7, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_matched_is_another_least_squares_and_its_interval_a_jackknife(seed, tolerance):
    first, second = random_runs(seed)
    found = generalization.matched(first, second, tolerance, 0.95)
    gain, every = another(first, second, tolerance), np.arange(6)
    assert found.value == pytest.approx(gain(every), rel=1e-9)
    without = np.array([gain(np.delete(every, i)) for i in every])
    error = np.sqrt(5 * np.mean((without - without.mean()) ** 2))
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert found.high - found.value == pytest.approx(2.5705818366 * error, rel=1e-8)
    assert found.seeds == 6


def test_matched_is_exact_where_the_error_is_a_parabola_of_log_loss():
    x = np.linspace(-1, 1, 15)[:, None] + np.zeros(4)
    first, second = (
        runs(np.exp(x + s), g + 10 + x + s + 2 * (x + s) ** 2) for s, g in ((0.3, 1.7), (0.0, 0.0))
    )
    found = generalization.matched(first, second, 50.0, 0.95)
    assert found.value == pytest.approx(1.7, abs=1e-9)
    assert found.high - found.low < 1e-9
    back = generalization.matched(second, first, 50.0, 0.95)
    assert back.value == pytest.approx(-1.7, abs=1e-9)


def test_only_settings_near_the_best_by_validation_take_part():
    first, second = random_runs()
    wanted = generalization.matched(first, second, 0.7, 0.95)
    validation = first["validation_error"].mean("seed")
    far = (validation > validation.min() + 1.4).values
    assert far.any()
    first["test_error"][far] = -50.0
    assert generalization.matched(first, second, 0.7, 0.95) == wanted
    # better than all others, but for the seed with which it diverged
    first["validation_error"][far] = 0.0
    first["validation_error"][far, 0] = np.nan
    assert generalization.matched(first, second, 0.7, 0.95) == wanted
    first["test_error"][~far] = first["test_error"][~far] + 1.0
    moved = generalization.matched(first, second, 0.7, 0.95)
    assert moved.value == pytest.approx(wanted.value + 1.0)


@pytest.mark.parametrize(
    ("losses", "others"),
    [
        ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]),
        ([1, 2, 3, 4, 5, 6], [6, 8, 9, 10, 11, 12]),
        ([1, 5, 6], [2, 3, 7]),
        ([], [1, 2, 3]),
    ],
    ids=["apart", "one in common", "too few", "none"],
)
def test_what_cannot_be_matched_is_not_measured(losses, others):
    pair = [runs(np.outer(each, [1, 1]), np.full((len(each), 2), 9.0)) for each in (losses, others)]
    if not losses:
        pair[0] = runs(np.ones((3, 2)), np.full((3, 2), np.nan))
    found = generalization.matched(*pair, 5.0, 0.95)
    assert np.isnan(found[:4]).all()
    assert found.seeds == 2


def test_the_claim_says_that_it_is_not_measured():
    finding = measured(fake(lower=5.0))
    assert [line.verdict for line in finding.verdicts] == [HOLDS, MISSING]
