"""Wrong calls of `study.tune` and of its command: the call, the type of the error, words in its message."""

import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import optuna
from wrong_cli import refused

from decoupled_wd.study import tune_cli
from decoupled_wd.study.tune.search import tune
from decoupled_wd.study.tune.storages import storage_of

FOLDER = tempfile.gettempdir()
SINGLE = optuna.distributions.IntDistribution(2, 2)
OPTIONAL = optuna.distributions.CategoricalDistribution([1, 2])


def wrong(space=None, make=lambda rate: optax.sgd(rate), **options):
    """A search of a line in three dimensions with something wrong in it."""
    settings = {
        "init": lambda key: jnp.zeros(3),
        "loss": lambda w, x, key: jnp.mean((x @ w - 1) ** 2),
        "metric": lambda w, train, test: jnp.sum(w),
        "train": (np.ones((12, 3), np.float32),),
        "epochs": 2,
        "batch_size": 5,
        "runs": 40,
    }
    return tune(make, {"rate": (1e-3, 1.0)} if space is None else space, **(settings | options))


def ranged(given):
    return wrong({"rate": given})


RIGHT = """
import jax.numpy as jnp
make_optimizer = space = loss = metric = None
init, train, epochs, batch_size = lambda key: jnp.zeros(3), (jnp.ones((12, 3)),), 2, 5
"""


def module(text, *arguments):
    """The command on a module of this text, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mine.py")
        path.write_text(text)
        refused(tune_cli.main, str(path), *arguments, "--out", folder)


def command(*arguments):
    with tempfile.TemporaryDirectory() as folder:
        refused(tune_cli.main, *arguments, "--out", folder)


def two(w, train, test):
    return {"a": jnp.sum(w), "b": jnp.sum(w)}


WRONG = [
    # the space
    (lambda: ranged((1.0, 0.1)), ValueError, "range of rate is inverted, got (1, 0.1); pass (0.1,"),
    (lambda: ranged((0.1, 0.1)), ValueError, "range of rate is empty, got (0.1, 0.1); leave it"),
    (
        lambda: ranged(SINGLE),
        ValueError,
        "range of rate is empty, got IntDistribution(high=2, log=",
    ),
    (lambda: ranged((0.1,)), ValueError, "range of rate must be two finite numbers, got (0.1,)"),
    (lambda: ranged((0.1, np.inf)), ValueError, "range of rate must be two finite numbers"),
    (lambda: ranged((0.1, np.nan)), ValueError, "range of rate must be two finite numbers"),
    (lambda: ranged("ab"), ValueError, "range of rate must be two finite numbers, got 'ab'"),
    (lambda: ranged((0.1, True)), ValueError, "range of rate must be two finite numbers"),
    (lambda: ranged(OPTIONAL), ValueError, "or a FloatDistribution of Optuna"),
    (lambda: wrong({}), TypeError, "space must map hyperparameters to ranges, got {}; pass for"),
    (lambda: wrong([(0, 1)]), TypeError, "space must map hyperparameters to ranges"),
    (lambda: wrong({"decay": (0.1, 1)}), TypeError, "must take the hyperparameters decay by name"),
    (
        lambda: wrong({"seed": (0.1, 1)}, make=lambda seed: optax.sgd(seed)),
        ValueError,
        "'seed' cannot name a hyperparameter",
    ),
    (
        lambda: wrong({"steps": (0.1, 1)}, make=lambda steps: optax.sgd(steps)),
        ValueError,
        "'steps' cannot name a hyperparameter or metric: it is taken",
    ),
    # the budget
    (lambda: wrong(runs=0), ValueError, "runs must be a number > 0, got 0; raise the budget"),
    (lambda: wrong(seconds=-1), ValueError, "seconds must be a number > 0, got -1; raise"),
    (lambda: wrong(seconds=np.nan), ValueError, "seconds must be a number > 0, got nan"),
    (lambda: wrong(runs="ten"), ValueError, "runs must be a number > 0, got 'ten'"),
    (lambda: wrong(runs=np.inf), ValueError, "the search would never end; pass seconds=600"),
    (lambda: wrong(runs=32), ValueError, "runs must be at least 33, got 32: the finalists take 32"),
    (lambda: wrong(finalists=0), ValueError, "finalists must be a whole number from 1"),
    (lambda: wrong(seeds=3), ValueError, "seeds must be a whole number from 4 to 9999, got 3"),
    (lambda: wrong(seed=10_000), ValueError, "seed must be a whole number from 0 to 9999"),
    (lambda: wrong(startup=1.5), ValueError, "startup must be a whole number from 0"),
    # what sweep refuses
    (lambda: wrong(epochs=0), ValueError, "epochs must be a whole number >= 1, got 0"),
    (lambda: wrong(evaluate_every=3), ValueError, "evaluate_every=3 does not divide epochs=2"),
    (lambda: wrong(batch_size=13), ValueError, "batch_size=13 is larger than the 12 training"),
    (lambda: wrong(progress=None), TypeError, "progress must be a function, got None"),
    (lambda: wrong(memory=0), ValueError, "memory must be a number of bytes > 0, got 0"),
    (lambda: wrong(make=lambda rate: rate), TypeError, "make_optimizer must give an optax"),
    (lambda: wrong(train=([[np.nan]] * 12,)), ValueError, "train/0 holds NaN or infinity"),
    # the metric
    (lambda: wrong(metric=two), ValueError, "choose_by must be one of the metrics a, b, got None"),
    (lambda: wrong(choose_by="loss"), ValueError, "choose_by must be one of the metrics metric"),
    (lambda: wrong(judge_by="loss"), ValueError, "judge_by must be one of the metrics metric"),
    (
        lambda: wrong(loss=lambda w, x, key: jnp.nan * w.sum()),
        ValueError,
        "trials diverged: their metric or parameters became NaN or infinite; see that the loss",
    ),
    (
        lambda: wrong(metric=lambda w, train, test: jnp.inf, runs=34),
        ValueError,
        "trials diverged",
    ),
    (
        lambda: wrong(metric=lambda w, train, test: {"test_accuracy": jnp.sum(w)}),
        ValueError,
        "the search lowers its metric, got 'test_accuracy', which is good where it is high; let",
    ),
    # the storage
    (
        lambda: storage_of("postgresql+psycopg://me:secret@127.0.0.1:9/none"),
        ValueError,
        "storage postgresql+psycopg://me@127.0.0.1:9/none cannot be reached",
    ),
    (lambda: storage_of("mysterious://host/name"), ValueError, "mysterious://host/name cannot be"),
    (lambda: storage_of("sqlite:////none/trials.db"), ValueError, "cannot be reached"),
    (lambda: storage_of("/none/trials.log"), ValueError, "No such file or directory"),
    (lambda: storage_of(FOLDER), ValueError, "cannot be reached ([Errno 21] Is a directory"),
    (lambda: storage_of(3), TypeError, "storage must be a journal file, a database's URL or"),
    (lambda: storage_of(""), TypeError, "storage must be a journal file"),
    # the command
    (lambda: command("none.py"), ValueError, "none.py is no Python module; pass a file that ends"),
    (lambda: command(FOLDER), ValueError, "is no Python module"),
    (lambda: command("--data", "none.npz"), ValueError, "none.npz: No such file or directory"),
    (lambda: command(), ValueError, "one of the arguments MODULE.py --data is required"),
    (lambda: command("a.py", "--minutes", "0"), ValueError, "must be a number of minutes > 0"),
    (lambda: module(""), ValueError, "lacks make_optimizer, space, init, loss, metric, train,"),
    (
        lambda: module("make_optimizer = space = init = loss = metric = train = epochs = 1"),
        ValueError,
        "mine.py lacks batch_size; define what study.tune takes: make_optimizer, space",
    ),
    (
        lambda: command("a.py", "--target-tokens", "many"),
        ValueError,
        "must be a number, got 'many'",
    ),
    (
        lambda: module(RIGHT, "--target-batch", "0"),
        ValueError,
        "batch_size must be finite and > 0, got 0.0",
    ),
    (
        lambda: module(
            RIGHT.replace("space = ", "space = {'rate': (1, 2)}; "), "--target-batch", "9"
        ),
        ValueError,
        "--target-… need a hyperparameter learning_rate, from which λ is planned; add it",
    ),
    (lambda: module(RIGHT + "coupling = 'torchh'"), ValueError, "did you mean 'torch'?"),
    (
        lambda: module(RIGHT + "mask = 'matrices'"),
        ValueError,
        "must be a real number, got 'matrices'",
    ),
    (
        lambda: module(RIGHT, "--network", "mlp"),
        ValueError,
        "--network is for --data, and a module",
    ),
    (lambda: module(RIGHT, "--optimizer", "SGD"), ValueError, "--optimizer is for --data, and a"),
    (lambda: module("1 / 0"), ValueError, "cannot be run (ZeroDivisionError: division by zero)"),
    (lambda: module("("), ValueError, "cannot be run (SyntaxError"),
]
