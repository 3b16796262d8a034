"""What any claim of the profiles must return, each measured on made-up results of its trainings."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from toys import tiny_task

from decoupled_wd.study.claims.drawings import Drawing
from decoupled_wd.study.profiles import CLAIMS, PROFILES

EXPERIMENTS = {
    f"{e.claim}-{type(e.design).__name__}": e for plan in PROFILES.values() for e in plan
}
VERDICTS = (Path(__file__).parents[3] / "docs" / "study.md").read_text()


def made_up(training):
    """Errors by chance, as a sweep returns them, which are the same for the same training."""
    every = training.evaluate_every or training.task.epochs
    coordinates = {
        **training.space,
        "seed": np.arange(training.seeds),
        "epoch": np.arange(every, training.task.epochs + 1, every),
    }
    shape = [len(axis) for axis in coordinates.values()]
    chance = np.random.default_rng(zlib.crc32(str(training.place).encode()))
    names = ("train_loss", "validation_error", "test_error")
    return xr.Dataset(
        {name: (tuple(coordinates), chance.uniform(10, 30, shape)) for name in names}, coordinates
    )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_claim_returns_verdicts_and_drawings_in_numbers(name):
    design, task = EXPERIMENTS[name].design, tiny_task()
    finding = design.measure(made_up, task)
    assert finding.verdicts
    for verdict in finding.verdicts:
        assert verdict.statement
        assert verdict.where.startswith(task.name)
        assert verdict.sense in ("<", ">", "≈")
        assert not verdict.estimate.low > verdict.estimate.high
    assert all(isinstance(drawing, Drawing) for drawing in finding.drawings.values())
    json.dumps([verdict.record() for verdict in finding.verdicts], allow_nan=False)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_equal_sizes_are_one_experiment(name):
    design = EXPERIMENTS[name].design
    assert type(design)(**vars(design)) == design
    with pytest.raises(AttributeError):
        design.seeds = 1


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_page_of_verdicts_says_what_came_out(claim):
    assert f"\n- **({claim}) " in VERDICTS
