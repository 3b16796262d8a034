"""A network of the user's: found by its name, called with the data set, and checked before training."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from decoupled_wd.study.tasks.data import Dataset
from decoupled_wd.study.tasks.models import NETWORKS, Model, from_module
from decoupled_wd.study.tasks.networks import network
from decoupled_wd.study.tasks.task import task

X, Y = np.ones((6, 12), np.float32), np.arange(6, dtype=np.int32) % 3
DATA = Dataset("toy", X, Y, X, Y, X, Y, num_classes=3, shape=(2, 3, 2))


def linear(data):
    features = int(np.prod(data.shape))
    return from_module(lambda rngs: nnx.Linear(features, data.num_classes, rngs=rngs))


def changed(**functions):
    return lambda data: linear(data)._replace(**functions)


def fail(*_):
    raise RuntimeError("no network today")


@pytest.fixture
def module(monkeypatch):
    """Puts a function into a module that can be imported."""

    def put(function):
        monkeypatch.setitem(sys.modules, "nets", SimpleNamespace(make=function, size=3))
        return "nets:make"

    return put


def test_it_is_called_with_the_data_set_and_its_model_is_trained(module):
    seen = []
    made = network(module(lambda data: seen.append(data) or linear(data)), DATA)
    assert seen == [DATA]
    params = made.init(jax.random.key(0))
    assert params["kernel"].shape == (12, 3)
    assert float(made.loss(params, X, Y, jax.random.key(1))) > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_of_the_study_pass_the_checks_too(module, name):
    data = DATA._replace(shape=(6, 2))
    assert isinstance(network(module(NETWORKS[name]), data), Model)
    assert isinstance(network(name, data), Model)


def test_its_task_has_its_name(module):
    assert task("digits", module(linear)).name == "digits, nets.make"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cnn", "network must be one of mlp, .*, or MODULE:FUNCTION; got 'cnn'"),
        (":make", "or MODULE:FUNCTION; got ':make'"),
        ("nets:", "or MODULE:FUNCTION; got 'nets:'"),
        ("", "or MODULE:FUNCTION; got ''"),
        ("no_nets:make", "no_nets cannot be imported .*No module named 'no_nets'.*start in its"),
        (".nets:make", "cannot be imported"),
        ("nets.py:make", "nets.py cannot be imported"),
        ("nets:mak", "network nets:mak: the module has no function mak"),
        ("nets:size", "network nets:size: the module has no function size"),
    ],
)
def test_a_name_that_leads_to_no_function_is_refused(module, name, message):
    module(linear)
    with pytest.raises(ValueError, match=message):
        network(name, DATA)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fail, r"make\(dataset\) raises RuntimeError: no network today; correct it"),
        (lambda: linear(DATA), r"make\(dataset\) raises TypeError: .* takes 0 positional"),
        (lambda data: None, r"must return a .*Model, got None; make one .* with from_module"),
        (lambda data: nnx.Linear(12, 3, rngs=nnx.Rngs(0)), "must return a .*Model, got"),
        (lambda data: tuple(linear(data)), "must return a .*Model, got"),
        (changed(init=fail), "nets:make: init raises RuntimeError: no network today"),
        (changed(init=3), "nets:make: init raises TypeError"),
        (changed(loss=fail), "nets:make: loss raises RuntimeError"),
        (changed(loss=lambda params, x, y, key: x), "loss must give one float, got .*average it"),
        (changed(loss=lambda params, x, y, key: (0.0, 1)), "loss must give one float"),
        (changed(loss=lambda params, x, y, key: y[0]), "loss must give one float"),
        (changed(evaluate=fail), "nets:make: evaluate raises RuntimeError"),
        (changed(evaluate=lambda *_: jnp.zeros(())), "one float for each of .'test_error', "),
        (changed(evaluate=lambda *_: {"train_loss": jnp.zeros(())}), "one float for each of"),
        (
            changed(
                evaluate=lambda *_: dict.fromkeys(
                    ("train_loss", "validation_error", "test_error"), jnp.zeros(2)
                )
            ),
            "one float for each of",
        ),
        (
            lambda data: from_module(lambda rngs: nnx.Linear(5, 3, rngs=rngs)),
            "nets:make: loss raises TypeError: dot_general requires contracting dimensions",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_part(module, function, message):
    with pytest.raises(ValueError, match=message):
        network(module(function), DATA)


def test_a_module_that_fails_is_told_with_its_error(tmp_path, monkeypatch):
    (tmp_path / "broken_nets.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"broken_nets cannot be imported .*nothing_of_this_name"):
        network("broken_nets:make", DATA)
