"""A run is found again by what defines it, and by nothing else."""

import subprocess
import sys
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from decoupled_wd.study.claims.optimizers import contender
from decoupled_wd.study.grid.types import Points
from decoupled_wd.study.tasks import task as tasks
from decoupled_wd.study.tasks.data import Dataset
from decoupled_wd.study.tasks.models import Model
from decoupled_wd.study.tasks.task import Recipe, Task, Training, runner, task

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)


def network():
    """A linear model, another one with each call."""

    def loss(w, x, y, key):
        return optax.softmax_cross_entropy_with_integer_labels(x @ w, y).mean()

    def evaluate(w, train, test):
        return {"train_loss": loss(w, *train, None)}

    return Model(lambda key: jnp.zeros((3, 2)), loss, evaluate)


DATA = Dataset("toy", X, Y, X[:4], Y[:4], X[4:8], Y[4:8], num_classes=2, shape=(3,))
LEARNED = Task("toy, linear", DATA, network(), epochs=1, batch_size=10, tolerance=1.0)
GRID = {"learning_rate": [0.001, 0.01]}


@dataclass(frozen=True)
class Sgd:
    """SGD with a multiple of its learning rate."""

    factor: float = 1.0
    label = ("same",)

    def __call__(self, learning_rate):
        return optax.sgd(self.factor * learning_rate)


class ByDecay(Sgd):
    """SGD whose learning rate has another name."""

    def __call__(self, weight_decay):
        return optax.sgd(weight_decay)


class Counted:
    """A `Run` and how many it trained."""

    def __init__(self, store=None):
        self.trained = 0
        self.run = runner(store, self.count)

    def count(self, name, finished, cells):
        self.trained += finished == 0

    def __call__(self, make=Sgd(), space=GRID, learned=LEARNED, **options):
        return self.run(Training(learned, make, space, **options)).train_loss


def test_two_optimisers_with_one_label_are_two_runs():
    run = Counted()
    slow, fast = run(Sgd()), run(Sgd(10.0))
    assert run.trained == 2
    assert (slow.values != fast.values).all()
    np.testing.assert_array_equal(slow, Counted()(Sgd()))


def test_axes_of_other_names_are_another_run():
    run = Counted()
    assert run(Sgd()).dims[0] == "learning_rate"
    assert run(ByDecay(), {"weight_decay": [0.001, 0.01]}).dims[0] == "weight_decay"


def test_a_store_refuses_a_second_optimiser_with_one_label(tmp_path):
    run = Counted(tmp_path)
    first = run(Sgd())
    with pytest.raises(ValueError, match=r"holds another sweep; it differs in program \("):
        run(Sgd(10.0))
    np.testing.assert_array_equal(Counted(tmp_path)(Sgd()), first)


def changed():
    data = DATA
    return {
        "values": {"space": {"learning_rate": [0.001, 0.02]}},
        "number of seeds": {"seeds": range(2)},
        "other seeds": {"seeds": range(1, 2)},
        "points": {"space": Points(GRID)},
        "epochs": {"learned": LEARNED._replace(epochs=2)},
        "batch size": {"learned": LEARNED._replace(batch_size=5)},
        "training data": {
            "learned": LEARNED._replace(dataset=data._replace(x_train=data.x_train + 1))
        },
        "test data": {"learned": LEARNED._replace(dataset=data._replace(x_test=data.x_test + 1))},
        "network": {"learned": LEARNED._replace(model=network())},
        "evaluations": {"learned": LEARNED._replace(epochs=2), "evaluate_every": 1},
    }


@pytest.mark.parametrize("options", changed().values(), ids=changed())
def test_whatever_else_changes_makes_another_run(options):
    run = Counted()
    run(Sgd())
    if "evaluate_every" in options:
        run(Sgd(), learned=options["learned"])
    before = run.trained
    run(Sgd(), **options)
    assert run.trained == before + 1


def test_what_is_trained_for_another_experiment_is_not_trained_again():
    run = Counted()
    space = {"learning_rate": [0.01], "weight_decay": [0.0]}
    for experiment in (("claim ii",), ("claim iii",)):
        run(contender("AdamW", "cosine", LEARNED.steps), space, experiment=experiment)
    assert run.trained == 1


def test_points_have_the_seeds_of_a_training_or_their_own():
    run = Counted()
    grid = run(seeds=range(3, 6))
    assert grid.dims == ("learning_rate", "seed", "epoch")
    assert grid.seed.values.tolist() == [3, 4, 5]
    listed = run(space=Points(GRID), seeds=range(3, 6))
    np.testing.assert_array_equal(listed.values, grid.values)
    # then the seeds of the training say no more than where it lies
    own = run(space=Points({**GRID, "seed": [5, 3]}), seeds=range(3, 6))
    assert own.dims == ("trial", "epoch")
    np.testing.assert_array_equal(own.values, [grid.values[0, 2], grid.values[1, 0]])


@pytest.mark.parametrize(
    ("seeds", "folder"),
    [(range(1), ()), (range(2), ("seeds 0 to 1",)), (range(8, 16), ("seeds 8 to 15",))],
)
def test_seeds_that_are_added_have_a_place_of_their_own(tmp_path, seeds, folder):
    training = Training(LEARNED, Sgd(), GRID, seeds=seeds, experiment=("ridge",))
    assert training.place == ("toy", "linear", "ridge", "same", *folder)
    runner(tmp_path)(training)
    assert tmp_path.joinpath(*training.place, ".zgroup").exists()


def test_equal_optimisers_are_those_with_equal_fields():
    made = [contender("AdamW", "cosine", 5), contender("AdamW", "fixed", 5)]
    made += [contender("Adam", "fixed", 5), contender("AdamW", "cosine", 6)]
    assert len({*made, *made}) == 4


def test_a_data_set_without_a_recipe_is_told_so(monkeypatch):
    monkeypatch.setattr(tasks, "RECIPES", {"mnist1d": Recipe(1, 1, 1.0)})
    with pytest.raises(ValueError, match="for mnist1d; got 'digits'; make a Task with its own"):
        task("digits", "mlp")


MISSING = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import decoupled_wd.study
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "words", "not_words"),
    [
        ("xarray", "install it with: pip install 'decoupled-wd[study]'", "None"),
        ("zarr", "decoupled_wd.study needs zarr; install", "None"),
        (
            "decoupled_wd.study.grid.blocks",
            "No module named 'decoupled_wd.study.grid.blocks'",
            "install",
        ),
        ("json", "No module named 'json'", "install it"),
    ],
)
def test_only_a_missing_extra_is_reported_as_one(module, words, not_words):
    done = subprocess.run(
        [sys.executable, "-c", MISSING.format(module=module)],
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert words in last
    assert not_words not in last


@pytest.mark.slow
def test_sweep_is_the_function_alone():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import decoupled_wd.study.cli, decoupled_wd.study as s; print(callable(s.sweep))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "True"
