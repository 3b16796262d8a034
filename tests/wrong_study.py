"""Wrong calls of `study.sweep` and of its store: the call, the type of the error, words in its message."""

import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from decoupled_wd.study import Points, sweep
from decoupled_wd.study.tasks import task as tasks

X = np.ones((12, 3), np.float32)
SEEDS = "seeds must be a number of seeds, or distinct whole numbers from 0 to 4294967295"
NAMES = "cannot name a hyperparameter or metric: it is taken, or no plain text; rename it"


def trained(*_):
    raise AssertionError("trained")


def wrong(make=lambda rate: optax.sgd(rate), hyperparameters=None, **options):
    """A sweep of a line in three dimensions with something wrong in it; nothing may be trained."""
    settings = {
        "init": lambda key: jnp.zeros(3),
        "loss": lambda w, x, key: jnp.mean((x @ w - 1) ** 2),
        "metric": lambda w, train, test: jnp.sum(w),
        "train": (X,),
        "epochs": 2,
        "batch_size": 5,
        "seeds": 1,
        "progress": trained,
    }
    grid = {"rate": [0.1]} if hyperparameters is None else hyperparameters
    return sweep(make, grid, **(settings | options))


def of(values):
    return wrong(hyperparameters={"rate": values})


def named(name):
    return wrong(lambda **_: optax.sgd(0.1), {name: [0.1]})


def points(metric=None, **lists):
    """A sweep of listed points with something wrong in them."""
    given = {} if metric is None else {"metric": lambda w, train, test: metric}
    return wrong(hyperparameters=Points(lists), **given)


def measured(value):
    return wrong(metric=lambda w, train, test: value)


def lost(value):
    return wrong(loss=lambda w, x, key: value if not callable(value) else value(w))


def started(value):
    return wrong(init=lambda key: value)


def in_folder(prepare):
    """A sweep into a folder that `prepare` makes of a new path, and that keeps what is in it."""
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent, "store")
        prepare(path)
        return wrong(store=path)


def from_npz(network="mlp", **arrays):
    """A task of a file of images with some arrays replaced."""
    x, y = np.arange(3600.0).reshape(400, 9), np.arange(400) % 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mine.npz")
        np.savez(path, **{"x_train": x, "y_train": y, "x_test": x, "y_test": y} | arrays)
        return tasks.task(path, network)


def file_of(*names):
    def prepare(path):
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text("{}")

    return prepare


WRONG = [
    # the store
    (lambda: wrong(store="s3://bucket/x"), ValueError, "got 's3://bucket/x': a sweep needs a lock"),
    (lambda: wrong(store="file:///tmp/x"), ValueError, "store must be a folder of a file system"),
    (lambda: wrong(store=Path("gs://bucket/x")), ValueError, "store must be a folder of a file"),
    (lambda: wrong(store="https://host/x.zarr"), ValueError, "copy it when it is finished"),
    (lambda: wrong(store="memory://x"), ValueError, "got 'memory://x'"),
    (lambda: wrong(store="simplecache::s3://x"), ValueError, "got 'simplecache::s3://x'"),
    (lambda: wrong(store=""), ValueError, "store must be the path of a folder, got ''"),
    (lambda: wrong(store=" "), ValueError, "store must be the path of a folder, got ' '"),
    (lambda: wrong(store="a\0b"), ValueError, "store must be the path of a folder"),
    (lambda: wrong(store=3), TypeError, "store must be the path of a folder, got 3"),
    (lambda: wrong(store=b"runs"), TypeError, "got b'runs'; pass a str or a Path"),
    (lambda: wrong(store=True), TypeError, "store must be the path of a folder, got True"),
    (lambda: wrong(store={"path": "x"}), TypeError, "store must be the path of a folder"),
    (lambda: in_folder(Path.touch), NotADirectoryError, "choose a writable folder"),
    (
        lambda: in_folder(lambda p: p.symlink_to("gone")),
        ValueError,
        "is a link to gone, which is not",
    ),
    (lambda: in_folder(lambda p: p.symlink_to(p)), (ValueError, OSError), "store"),
    (lambda: in_folder(file_of("thesis.txt")), ValueError, "is a folder of something else"),
    (lambda: in_folder(file_of("checksum")), ValueError, "is a folder of something else"),
    (lambda: in_folder(file_of("checksum/x", ".zgroup")), ValueError, "is a folder of something"),
    (lambda: in_folder(file_of(".git/config")), ValueError, "pass a new or an empty one"),
    (lambda: wrong(store=os.devnull), NotADirectoryError, "choose a writable folder"),
    # axes
    (lambda: wrong(hyperparameters=[0.1]), TypeError, "hyperparameters must map names to lists"),
    (lambda: wrong(hyperparameters="rate"), TypeError, "hyperparameters must map names to lists"),
    (lambda: of(0.1), ValueError, "rate must be a non-empty list of finite numbers, got 0.1"),
    (lambda: of([]), ValueError, "rate must be a non-empty list of finite numbers, got []"),
    (lambda: of([[0.1]]), ValueError, "rate must be a non-empty list of finite numbers"),
    (lambda: of([[0.1], [0.1, 0.2]]), ValueError, "rate must be a non-empty list of finite"),
    (lambda: of([1j]), ValueError, "rate must be a non-empty list of finite numbers, got [1j]"),
    (lambda: of(["0.1"]), ValueError, "rate must be a non-empty list of finite numbers"),
    (lambda: of([None]), ValueError, "rate must be a non-empty list of finite numbers"),
    (lambda: of([True, False]), ValueError, "rate must be a non-empty list of finite numbers"),
    (lambda: of([np.inf]), ValueError, "rate must be a non-empty list of finite numbers"),
    (lambda: of(None), ValueError, "rate must be a non-empty list of finite numbers, got None"),
    (lambda: of({0.1, 0.2}), ValueError, "rate must be a non-empty list of finite numbers"),
    (lambda: of([0.1, 1e39]), ValueError, "rate holds 1e+39, which float32 cannot hold"),
    (lambda: of([0.0, 1e-50]), ValueError, "rate holds 1e-50, which float32 cannot hold"),
    (lambda: of([1, 2**24 + 1]), ValueError, "rate holds 16777217, which float32 cannot hold"),
    (lambda: of([2**40 + 1]), ValueError, "which float32 cannot hold; change its unit"),
    # names
    (lambda: named(""), ValueError, f"'' {NAMES}"),
    (lambda: named("."), ValueError, f"'.' {NAMES}"),
    (lambda: named(".."), ValueError, f"'..' {NAMES}"),
    (lambda: named(".zgroup"), ValueError, f"'.zgroup' {NAMES}"),
    (lambda: named("checksum"), ValueError, f"'checksum' {NAMES}"),
    (lambda: named("a\\b"), ValueError, NAMES),
    (lambda: named("a\nb"), ValueError, NAMES),
    (lambda: named(3), ValueError, f"3 {NAMES}"),
    (lambda: named("zarr.json"), ValueError, f"'zarr.json' {NAMES}"),
    (lambda: named("r" * 300), ValueError, NAMES),
    (lambda: measured({"": 1.0}), ValueError, f"'' {NAMES}"),
    (lambda: measured({".": 1.0}), ValueError, f"'.' {NAMES}"),
    (lambda: measured({".zgroup": 1.0}), ValueError, f"'.zgroup' {NAMES}"),
    (lambda: measured({"rate": 1.0}), ValueError, f"'rate' {NAMES}"),
    (lambda: measured({1: 1.0}), ValueError, f"1 {NAMES}"),
    # what the functions give
    (lambda: measured({}), ValueError, "metric must give at least one number, got an empty dict"),
    (lambda: measured([[1.0], [2.0]]), ValueError, "metric must give numbers, got metric [[1.0]"),
    (lambda: measured([1.0, 2.0]), ValueError, "metric must give numbers, got metric [1.0, 2.0]"),
    (lambda: measured(None), ValueError, "metric must give numbers, got metric None"),
    (lambda: measured("good"), ValueError, "metric must give numbers, got metric 'good'"),
    (lambda: measured({"a": {"b": 1.0}}), ValueError, "metric must give numbers, got a {'b': 1.0}"),
    (lambda: measured(jax.random.key(0)), ValueError, "metric must give numbers, got metric"),
    (lambda: measured(jnp.ones(2)), ValueError, "metric must give scalars, got metric (2,)"),
    (lambda: lost(None), ValueError, "loss must give one float, got None"),
    (lambda: lost(lambda w: w), ValueError, "loss must give one float"),
    (lambda: lost(lambda w: (w[0], w)), ValueError, "loss must give one float"),
    (lambda: lost(lambda w: w[0] > 0), ValueError, "loss must give one float"),
    (lambda: lost(3), ValueError, "loss must give one float, got 3"),
    (lambda: started({}), ValueError, "init must give parameters, got a tree without arrays"),
    (
        lambda: started({"n": jnp.ones(3, int)}),
        TypeError,
        "init must give floats, got int32 at 'n'",
    ),
    (lambda: wrong(lambda rate: None), TypeError, "make_optimizer must give an optax optimiser"),
    (lambda: wrong(lambda rate: optax.sgd), TypeError, "make_optimizer must give an optax"),
    (lambda: wrong(lambda lr: optax.sgd(lr)), TypeError, "must take the hyperparameters rate by"),
    (
        lambda: wrong(lambda: optax.sgd(0.1)),
        TypeError,
        "must take the hyperparameters rate by name",
    ),
    (lambda: wrong(optax.sgd(0.1)), TypeError, "make_optimizer must be a function"),
    (lambda: wrong(init=jnp.ones(3)), TypeError, "init must be a function"),
    (lambda: wrong(loss="mse"), TypeError, "loss must be a function, got 'mse'"),
    (lambda: wrong(metric=None), TypeError, "metric must be a function, got None"),
    (lambda: wrong(progress=True), TypeError, "progress must be a function, got True"),
    # counts
    (lambda: wrong(epochs=np.float32(2)), ValueError, "epochs must be a whole number >= 1"),
    (lambda: wrong(epochs=True), ValueError, "epochs must be a whole number >= 1, got True"),
    (lambda: wrong(seeds=0), ValueError, "seeds must be a whole number >= 1, got 0"),
    (lambda: wrong(seeds=True), ValueError, "seeds must be a whole number >= 1, got True"),
    (lambda: wrong(seeds=2.0), ValueError, "seeds must be a whole number >= 1, got 2.0"),
    (lambda: wrong(seeds={0, 1}), ValueError, "seeds must be a whole number >= 1, got {0, 1}"),
    (lambda: wrong(seeds="5"), ValueError, f"{SEEDS}, got '5'; pass for example 5, or range(5"),
    (lambda: wrong(seeds=[]), ValueError, f"{SEEDS}, got []"),
    (lambda: wrong(seeds=range(3, 3)), ValueError, f"{SEEDS}, got range(3, 3)"),
    (lambda: wrong(seeds=[1, 0, 1]), ValueError, f"{SEEDS}, got [1, 0, 1]"),
    (lambda: wrong(seeds=[0, -1]), ValueError, f"{SEEDS}, got [0, -1]"),
    (lambda: wrong(seeds=[0.0, 1.0]), ValueError, f"{SEEDS}, got [0.0, 1.0]"),
    (lambda: wrong(seeds=[True, False]), ValueError, f"{SEEDS}, got [True, False]"),
    (lambda: wrong(seeds=[[0], [1]]), ValueError, f"{SEEDS}, got [[0], [1]]"),
    (lambda: wrong(seeds=[[0], [1, 2]]), ValueError, f"{SEEDS}, got [[0], [1, 2]]"),
    (lambda: wrong(seeds=[2**32]), ValueError, f"{SEEDS}, got [4294967296]"),
    (lambda: wrong(seeds=[2**70]), ValueError, f"{SEEDS}, got [1180591620717411303424]"),
    # points
    (
        lambda: points(rate=[0.1, 0.2], seed=[0]),
        ValueError,
        "one value of each for every point, got rate 2, seed 1; pass lists of one length",
    ),
    (lambda: wrong(lambda: optax.sgd(0.1), Points()), ValueError, "every point, got nothing; pass"),
    (
        lambda: wrong(lambda: optax.sgd(0.1), Points(seed=[0, 1])),
        ValueError,
        "Points must have a hyperparameter, and one value of each for every point, got seed 2; pass",
    ),
    (
        lambda: points(rate=[]),
        ValueError,
        "rate must be a non-empty list of finite numbers, got []",
    ),
    (lambda: points(rate=0.1), ValueError, "rate must be a non-empty list of finite numbers"),
    (lambda: points(rate=[np.nan]), ValueError, "rate must be a non-empty list of finite numbers"),
    (lambda: points(decay=[0.1]), TypeError, "must take the hyperparameters decay by name"),
    (lambda: points(trial=[0.1]), ValueError, f"'trial' {NAMES}"),
    (lambda: points(epoch=[0.1]), ValueError, f"'epoch' {NAMES}"),
    (lambda: points({"trial": 1.0}, rate=[0.1]), ValueError, f"'trial' {NAMES}"),
    (lambda: points({"rate": 1.0}, rate=[0.1]), ValueError, f"'rate' {NAMES}"),
    (lambda: points({"seed": 1.0}, rate=[0.1], seed=[0]), ValueError, f"'seed' {NAMES}"),
    (
        lambda: points(rate=[0.1, 0.2], seed=[0.0, 1.0]),
        ValueError,
        "seed of Points must hold whole numbers from 0 to 4294967295, got [0.0, 1.0]; number",
    ),
    (lambda: points(rate=[0.1], seed=[-1]), ValueError, "from 0 to 4294967295, got [-1]"),
    (lambda: points(rate=[0.1], seed=[2**32]), ValueError, "from 0 to 4294967295, got [4294967"),
    (lambda: points(rate=[0.1], seed=[None]), ValueError, "seed must be a non-empty list of"),
    (
        lambda: wrong(hyperparameters=Points(rate=[0.1], seed=[0]), seeds=2),
        ValueError,
        "seeds must be left out where Points have a seed, got 2; omit it",
    ),
    (
        lambda: wrong(hyperparameters=Points(rate=[0.1], seed=[0]), seeds=[0]),
        ValueError,
        "seeds must be left out where Points have a seed, got [0]; omit it",
    ),
    (lambda: wrong(batch_size=-5), ValueError, "batch_size must be a whole number >= 1, got -5"),
    (lambda: wrong(evaluate_every=0), ValueError, "evaluate_every must be a whole number >= 1"),
    (lambda: wrong(evaluate_every=3), ValueError, "does not divide epochs=2; pass a divisor"),
    (
        lambda: wrong(memory="1 GiB"),
        ValueError,
        "memory must be a number of bytes > 0, got '1 GiB'",
    ),
    (lambda: wrong(memory=np.nan), ValueError, "memory must be a number of bytes > 0, got nan"),
    (lambda: wrong(memory=-1), ValueError, "memory must be a number of bytes > 0, got -1"),
    (lambda: wrong(memory=True), ValueError, "memory must be a number of bytes > 0, got True"),
    # data
    (lambda: wrong(train=(np.full(12, 2**40),)), ValueError, "train/0 holds 1099511627776, which"),
    (lambda: wrong(train=([2**31] * 12,)), ValueError, "train/0 holds 2147483648, which int32"),
    (lambda: wrong(train=([2**70] * 12,)), TypeError, "train/0 must be an array of numbers"),
    (lambda: wrong(train=(np.full(12, 2**40, "u8"),)), ValueError, "which uint32 cannot hold"),
    (lambda: wrong(train=(np.full(12, 1e39),)), ValueError, "train/0 holds 1e+39, which float32"),
    (lambda: wrong(train=(np.full(12, 1e39j),)), ValueError, "which complex64 cannot hold"),
    (lambda: wrong(test=[2**40]), ValueError, "test/0 holds 1099511627776, which int32"),
    (lambda: wrong(test={"y": -1e300}), ValueError, "test/y holds 1e+300, which float32"),
    (lambda: wrong(train=(None,)), TypeError, "train/0 must be an array of numbers, got None"),
    (lambda: wrong(train=({"x": X},)), TypeError, "train/0 must be an array of numbers"),
    (lambda: wrong(train=([[1], [1, 2]],)), TypeError, "train/0 must be an array of numbers"),
    (lambda: wrong(train=(["a"] * 12,)), TypeError, "train/0 must be an array of numbers"),
    (lambda: wrong(train=(np.array(["2026"] * 12, "M8[Y]"),)), TypeError, "train/0 must be an"),
    (lambda: wrong(train=(jax.random.split(jax.random.key(0), 12),)), TypeError, "train/0 must be"),
    (lambda: wrong(train=(X[:0],)), ValueError, "batch_size=5 is larger than the 0 training"),
    (lambda: wrong(train={"x": X}), ValueError, "train must be a tuple of arrays, got dict"),
    (lambda: wrong(test=object()), TypeError, "test must be an array of numbers"),
    # tasks
    (lambda: tasks.task("digits", "cnn"), ValueError, "network must be one of"),
    (lambda: tasks.task("mnist", "mlp"), ValueError, "name must be one of"),
    (lambda: tasks.task(Path("none.npz"), "mlp"), FileNotFoundError, "none.npz"),
    (lambda: from_npz(x_train=np.ones((400, 9))), ValueError, "x_train is the same in every row"),
    (lambda: from_npz(x_train=np.ones(400)), ValueError, "x_train must be real numbers [n, ...]"),
    (lambda: from_npz(x_test=np.ones((400, 8))), ValueError, "of one shape, got [9] and [8]"),
    (lambda: from_npz(x_test=np.full((400, 9), np.nan)), ValueError, "x_test[0, 0] is nan"),
    (lambda: from_npz(y_train=np.arange(399)), ValueError, "y_train must be integers [400]"),
    (lambda: from_npz(y_train=np.ones(400)), ValueError, "y_train must be integers [400], one for"),
    (lambda: from_npz(y_test=-np.ones(400, int)), ValueError, "labels must be integers from 0"),
    (lambda: from_npz(y_test=np.full(400, 3)), ValueError, "got int64 [0, 1, 3]; number the"),
    (lambda: from_npz(y_test=np.array([{}] * 400)), ValueError, "it holds Python objects, which"),
    (
        lambda: from_npz(y_train=np.zeros(400, int), y_test=np.zeros(400, int)),
        ValueError,
        "labels must be of two classes or more, got 1",
    ),
    (
        lambda: from_npz(x_train=np.eye(40, 9), y_train=np.arange(40) % 2),
        ValueError,
        "a batch has 100 examples, and of x_train 30 are left",
    ),
    (lambda: from_npz("cnn"), ValueError, "or MODULE:FUNCTION; got 'cnn'"),
    (lambda: from_npz("no_such:net"), ValueError, "the module no_such cannot be imported"),
    (lambda: from_npz("math:net"), ValueError, "network math:net: the module has no function net"),
    (lambda: from_npz("builtins:len"), ValueError, "tasks.models.Model, got 9; make one"),
    (lambda: from_npz("math:sqrt"), ValueError, "sqrt(dataset) raises TypeError"),
]
