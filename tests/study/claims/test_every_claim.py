"""What any claim of the profiles must return, each measured on made-up results of its trainings."""

import json
import zlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from toys import every_run, made_up, recorded, tiny_task

from decoupled_wd.study.claims.drawings import Drawing
from decoupled_wd.study.claims.verdicts import MISSING
from decoupled_wd.study.profiles import CLAIMS, PROFILES

EXPERIMENTS = {
    f"{e.claim}-{type(e.design).__name__}": e for plan in PROFILES.values() for e in plan
}
# claims (i) and (xii) look at weights in every step, which no sweep does
OWN = ("i-", "xii-")
TRAINED = [name for name in EXPERIMENTS if not name.startswith(OWN)]
PAGE = Path(__file__).parents[3] / "docs" / "study.md"
METRICS = ("train_loss", "validation_error", "test_error", "weight_norm", "gradient_norm")


@made_up
def by_chance(training, point):
    """Numbers by chance, which are the same for the same training."""
    every = training.evaluate_every or training.task.epochs
    shape = (*point["seed"].shape, training.task.epochs // every)
    chance = np.random.default_rng(zlib.crc32(str(training.place).encode()))
    return {name: chance.uniform(10, 30, shape) for name in METRICS}


@made_up
def diverged(training, point):
    return {name: np.full(point["seed"].shape, np.nan) for name in METRICS}


@made_up
def diverged_at_the_highest(training, point):
    """All runs of the highest learning rate, and all others by chance."""
    shape = point["seed"].shape
    chance = np.random.default_rng(zlib.crc32(str(training.place).encode()))
    rate = next(iter(point.values()))
    gone = (rate == rate.max()) & (rate.min() < rate.max())
    return {name: np.where(gone, np.nan, chance.uniform(10, 30, shape)) for name in METRICS}


def small(name, looks=(2, 4)):
    """The design with few seeds, if it takes any."""
    design = EXPERIMENTS[name].design
    return replace(design, looks=looks) if name in TRAINED else design


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if not name.startswith("xii-")])
def test_a_claim_returns_verdicts_and_drawings_in_numbers(name):
    design, task = small(name), tiny_task()
    for look in range(len(design.looks)):
        finding = design.measure(by_chance, task, look)
        assert finding.verdicts
        for verdict in finding.verdicts:
            assert verdict.statement
            assert verdict.where.startswith(task.name)
            assert verdict.sense in ("<", ">", "≈")
            assert not verdict.estimate.low > verdict.estimate.high
            if verdict.estimate.standard_error:
                assert verdict.looks == len(design.looks)
                # of what is tuned together, a search has one seed or two
                assert verdict.estimate.seeds in (design.looks[look], design.looks[look] // 2)
            assert 0 <= verdict.p_value <= 1
        assert all(isinstance(drawing, Drawing) for drawing in finding.drawings.values())
        json.dumps([verdict.record() for verdict in finding.verdicts], allow_nan=False)


@pytest.mark.parametrize("name", TRAINED)
def test_a_later_look_trains_the_seeds_that_it_adds_and_no_run_twice(name):
    design, task = small(name), tiny_task()
    asked = []
    for look in (0, 1):
        run, trainings = recorded(by_chance)
        design.measure(run, task, look)
        asked.append({training.key: training for training in trainings})
        trained = asked[look].values()
        runs = [(one.experiment, each) for one in trained for each in every_run(one)]
        assert len(set(runs)) == len(runs)
    first, second = asked
    # all that the first look trained is asked for again, and is kept
    assert set(first) < set(second)
    places = [training.place for training in second.values()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("name", TRAINED)
def test_where_all_runs_diverged_nothing_is_measured(name):
    finding = small(name).measure(diverged, tiny_task(), 1)
    noisy = [v for v in finding.verdicts if v.estimate.seeds > 1]
    assert noisy
    assert {verdict.verdict for verdict in noisy} == {MISSING}


@pytest.mark.parametrize("name", TRAINED)
def test_runs_that_diverged_at_the_highest_rate_do_not_stop_the_study(name):
    finding = small(name).measure(diverged_at_the_highest, tiny_task(), 0)
    assert finding.verdicts
    json.dumps([verdict.record() for verdict in finding.verdicts], allow_nan=False)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_equal_sizes_are_one_experiment(name):
    design = EXPERIMENTS[name].design
    assert (
        type(design)(**{each.name: getattr(design, each.name) for each in fields(design)}) == design
    )
    with pytest.raises(AttributeError):
        design.looks = (1,)


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_page_of_verdicts_says_what_came_out(claim):
    assert f"\n- **({claim}) " in PAGE.read_text()
