"""Searches and their choices on made-up results, counted by hand, and seeds that are trained once."""

import itertools

import numpy as np
import pytest
import xarray as xr
from scipy.stats import ttest_1samp, ttest_rel
from toys import every_run, luck, made_up, recorded, tiny, tiny_task

import decoupled_wd as dwd
from decoupled_wd.study.claims import tuning
from decoupled_wd.study.claims.optimizers import CONTENDERS, DECOUPLED, Decayed, contender, octaves
from decoupled_wd.study.claims.tuning import (
    PILOTS,
    at_the_end,
    chosen,
    difference,
    grown,
    halton,
    search_of,
    tuned,
)
from decoupled_wd.study.grid.types import Points
from decoupled_wd.study.statistics import FRESH, mean
from decoupled_wd.study.tasks.task import Training, runner

TASK = tiny()._replace(name="toy")
BOX = {"learning_rate": (2.0**-6, 2.0**2), "weight_decay": (2.0**-9, 1.0)}
ADAMW = Decayed("Adam", DECOUPLED, "cosine", TASK.steps)


def searches(numbers, trials=8):
    return search_of(TASK, ADAMW, BOX, trials=trials, searches=numbers, experiment=("toy",))


def valley(training, point):
    """Lowest where α·λ is 2^-4; a run is as lucky as its seed, and tests another way than it validates."""
    away = np.abs(np.log2(point["learning_rate"] * point["weight_decay"]) + 4)
    lucky = luck(point["seed"])
    return {"validation_error": 20 + away + lucky, "test_error": 30 + away**2 + 0.5 * lucky}


def test_halton_is_spread_evenly_over_the_logarithms():
    points = halton(36, 5, BOX)
    assert list(points) == list(BOX)
    # of 36 = 4·9 one stands in each of 4 × 9 boxes, in bases 2 and 3
    shares = [np.log(points[name] / low) / np.log(high / low) for name, (low, high) in BOX.items()]
    counts, *_ = np.histogram2d(*shares, [4, 9], [[0, 1], [0, 1]])
    assert (counts == 1).all()


def test_each_seed_scrambles_anew():
    first, same, second = (halton(16, seed, BOX)["learning_rate"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert not np.isin(first, second).any()


def test_searches_are_independent_and_the_same_in_whichever_part_they_are_trained():
    both, second = searches(range(1, 3)), searches(range(2, 3))
    assert isinstance(both.space, Points)
    np.testing.assert_array_equal(both.space["seed"], np.repeat([1, 2], 8))
    for name in BOX:
        np.testing.assert_array_equal(both.space[name][8:], second.space[name])
        assert not np.isin(both.space[name][:8], second.space[name]).any()
        np.testing.assert_array_equal(both.space[name][:8], halton(8, 1, BOX)[name])
    assert both.place != second.place


@pytest.mark.parametrize("look", [0, 1, 2])
@pytest.mark.parametrize("listed", [False, True])
def test_what_grows_is_what_all_seeds_at_once_are(look, listed):
    def training(seeds):
        if listed:
            return searches(seeds)
        space = {"learning_rate": [0.1, 0.2], "weight_decay": [0.3, 0.1]}
        return Training(TASK, ADAMW, space, seeds=seeds)

    looks = (2, 3, 7)
    run, trainings = recorded(made_up(valley))
    found = grown(run, training, looks, look, first=PILOTS)
    ends = [PILOTS, *(PILOTS + seeds for seeds in looks[: look + 1])]
    assert [(each.seeds[0], each.seeds[-1] + 1) for each in trainings] == [
        *itertools.pairwise(ends)
    ]
    whole = made_up(valley)(training(range(PILOTS, ends[-1])))
    for name in ("validation_error", "test_error", "seed"):
        np.testing.assert_array_equal(found[name], whole[name])
    assert found.sizes["epoch"] == 1
    runs = [each for one in trainings for each in every_run(one)]
    assert len(set(runs)) == len(runs)


def by_hand(found, numbers):
    """The best trial of each search, by a loop."""
    best = []
    for number in numbers:
        mine = [i for i, seed in enumerate(found["seed"].values) if seed == number]
        cost = [found["validation_error"].values[i] for i in mine]
        best.append(mine[cost.index(np.nanmin(cost))])
    return best


def test_each_search_chooses_its_own_lowest_validation_error():
    found = at_the_end(made_up(valley), searches(range(1, 6)))
    found["validation_error"][3] = np.nan
    best = by_hand(found, range(1, 6))
    choices = chosen(found)
    for name in (*BOX, "test_error"):
        np.testing.assert_array_equal(choices[name], found[name].values[best])
    np.testing.assert_array_equal(choices["seed"], range(1, 6))


def test_of_common_points_each_seed_chooses_its_own():
    points = Points(learning_rate=[0.1, 0.2, 0.4], weight_decay=[0.3, 0.1, 0.2])
    validation = np.array([[5.0, 4.0], [3.0, 6.0], [np.nan, 5.0]])
    run = made_up(lambda training, point: {"validation_error": validation})
    found = at_the_end(run, Training(TASK, ADAMW, points, seeds=range(2, 4)))
    np.testing.assert_array_equal(chosen(found)["learning_rate"], [0.2, 0.1])
    np.testing.assert_array_equal(chosen(found)["seed"], [2, 3])


@pytest.mark.parametrize("fresh_seeds", [1, 3])
def test_what_a_choice_is_worth_is_told_by_fresh_seeds(fresh_seeds):
    training = searches(range(1, 6))
    found = at_the_end(made_up(valley), training)
    run, trainings = recorded(made_up(valley))
    worth = tuned(run, training, found, (5,), 0, fresh_seeds=fresh_seeds)
    best = by_hand(found, range(1, 6))
    away = np.abs(np.log2(found["learning_rate"] * found["weight_decay"]) + 4).values[best]
    for number, each, square in zip(range(1, 6), worth, away**2, strict=True):
        seeds = FRESH + number * fresh_seeds + np.arange(fresh_seeds)
        assert each == pytest.approx(30 + square + 0.5 * luck(seeds).mean(), rel=1e-12)
    (again,) = trainings
    assert again.experiment == ("chosen", "toy")
    assert again.make_optimizer == training.make_optimizer
    assert np.unique(again.space["seed"]).size == 5 * fresh_seeds
    assert np.min(again.space["seed"]) >= FRESH


def test_a_later_look_judges_the_choices_of_the_searches_that_it_adds_alone():
    looks, trainings = (2, 5), []
    for look in (0, 1):
        found = at_the_end(made_up(valley), searches(range(1, 1 + looks[look])))
        run, asked = recorded(made_up(valley))
        worth = tuned(run, searches(range(1, 2)), found, looks, look)
        trainings.append(asked)
        if not look:
            earlier = worth
    np.testing.assert_array_equal(worth[:2], earlier)
    first, (same, second) = trainings[0][0], trainings[1]
    assert first.key == same.key
    assert not set(every_run(same)) & set(every_run(second))
    assert [len(each.space["seed"]) for each in (same, second)] == [4, 6]


def test_a_search_that_diverged_everywhere_is_worth_nothing():
    training = searches(range(1, 4))
    found = at_the_end(made_up(valley), training)
    found["validation_error"][8:16] = np.nan
    worth = tuned(made_up(valley), training, found, (3,), 0)
    np.testing.assert_array_equal(np.isnan(worth), [False, True, False])
    assert np.isnan(difference(worth, worth, 0.95)[:4]).all()


def test_differences_are_students_in_pairs_and_means_are_students():
    worse, better = np.random.default_rng(0).normal(40, 1, (2, 12))
    found = difference(worse, better, 0.9)
    wanted = ttest_rel(worse, better).confidence_interval(0.9)
    np.testing.assert_allclose(found[1:3], wanted, rtol=1e-11)
    assert found.value == pytest.approx((worse - better).mean(), rel=1e-14)
    wanted = ttest_1samp(worse, 0).confidence_interval(0.9)
    np.testing.assert_allclose(mean(worse, 0.9)[1:3], wanted, rtol=1e-12)


def test_at_the_end_is_the_last_evaluation():
    training = Training(TASK, ADAMW, {"weight_decay": [0.1]}, evaluate_every=1)
    run = made_up(lambda training, point: {"test_error": np.array([[[3.0, 2.0]]])})
    assert at_the_end(run, training)["test_error"].values.tolist() == [[2.0]]
    assert "epoch" not in at_the_end(run, training).coords


def test_a_pilot_is_the_grid_of_a_contender_with_the_first_seeds():
    pilot = tuning.grid_of(TASK, "AdamW", "cosine", grid=4, coupling=dwd.LR)
    assert pilot.seeds == range(PILOTS)
    assert pilot.make_optimizer == contender("AdamW", "cosine", TASK.steps, dwd.LR)
    expected = octaves("AdamW", 4, dwd.LR)
    assert all((pilot.space[name] == axis).all() for name, axis in expected.items())


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
    one, two = (tuning.grid_of(task, "AdamW", "cosine", grid=2) for task in (TASK, other))
    assert one.key == tuning.grid_of(TASK, "AdamW", "cosine", grid=2).key
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


def test_real_searches_are_labelled_as_made_up_ones_are():
    """The fake run of these tests against the real one: the same labels, dimensions and dtypes."""
    task = tiny_task()
    grid = Training(
        task, ADAMW, {"learning_rate": [0.1], "weight_decay": [0.1, 0.2]}, seeds=range(3, 5)
    )
    search = search_of(task, ADAMW, BOX, trials=3, searches=range(1, 3), experiment=())
    common = Training(task, ADAMW, Points(learning_rate=[0.1], weight_decay=[0.1]), seeds=range(2))

    def zero(training, point):
        shape = point["seed"].shape
        return {
            f"{part}": np.zeros(shape) for part in ("train_loss", "validation_error", "test_error")
        }

    for training in (grid, search, common):
        real, fake = runner()(training), made_up(zero)(training)
        assert set(real) == set(fake)
        for name in real:
            assert real[name].dims == fake[name].dims
        assert set(real.coords) == set(fake.coords)
        for name in real.coords:
            xr.testing.assert_allclose(real[name].variable, fake[name].variable)
            assert real[name].dtype.kind == fake[name].dtype.kind
