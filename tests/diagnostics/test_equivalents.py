"""One decay in many units: against the couplings themselves, known pairs, and the command that prints it."""

import math
import subprocess
import sys
from importlib.metadata import EntryPoint

import numpy as np
import optax
import pytest
import reference

import decoupled_wd as dwd
from decoupled_wd import cli

RUN = {"batch_size": 128, "dataset_size": 50_000, "epochs": 100}


@pytest.mark.parametrize("from_", [*dwd.FRAMEWORKS, dwd.Coupling(2, 1)])
def test_every_row_takes_the_same_fraction_at_the_peak(from_):
    table = dwd.equivalents(0.1, from_=from_, learning_rate=0.02)
    source = from_ if isinstance(from_, dwd.Coupling) else dwd.FRAMEWORKS[from_]
    c = 0.1 * 0.02**source.p
    assert table["fraction"] == pytest.approx(c)
    for name, coupling in dwd.FRAMEWORKS.items():
        assert table[name] * 0.02**coupling.p == pytest.approx(c), name


def evaluated(formula, **values):
    """The number that a product such as ``λ·lr^2·η`` stands for."""
    factors = [factor.partition("^") for factor in formula.split("·")]
    return math.prod(values[symbol] ** float(power or 1) for symbol, _, power in factors)


@pytest.mark.parametrize("name", dwd.FRAMEWORKS)
def test_the_formula_of_a_row_is_what_its_coupling_does_away_from_the_peak(name):
    table = dwd.equivalents(0.1, from_="torch", learning_rate=0.02)
    (row,) = [row for row in table.rows if row.unit == name]
    fraction = dwd.FRAMEWORKS[name].fraction(row.value, lambda count: 0.02 * 0.3, 0.02)
    values = {"λ": row.value, "α": 0.02, "η": 0.3, "lr": 0.02 * 0.3}
    assert evaluated(row.meaning, **values) == pytest.approx(float(fraction(0)))


@pytest.mark.parametrize(
    ("value", "from_", "learning_rate", "to", "expected"),
    [
        (0.1, "fastai", 3e-3, "paper", 3e-4),
        (1e-5, "composer", 1e-3, "torch", 1e-2),
        (1e-5, "tensorflow_addons", 1e-3, "keras", 1e-2),
        (0.1, "optax", 3e-4, "optax.adafactor", 3e-5),
    ],
)
def test_known_pairs(value, from_, learning_rate, to, expected):
    assert dwd.equivalents(value, from_=from_, learning_rate=learning_rate)[to] == pytest.approx(
        expected
    )


def test_optax_adamw_and_adafactor_remove_what_the_table_says():
    table = dwd.equivalents(0.1, from_="torch", learning_rate=0.01)
    inner = {
        "optax": optax.adamw(0.01, weight_decay=table["optax"]),
        "optax.adafactor": optax.adafactor(0.01, weight_decay_rate=table["optax.adafactor"]),
    }
    for name, optimizer in inner.items():
        params = np.ones((4, 4), np.float32)
        updates, _ = optimizer.update(0 * params, optimizer.init(params), params)
        assert float(-updates.mean()) == pytest.approx(table["fraction"], rel=1e-5), name


def test_scales_of_time_and_budget():
    table = dwd.equivalents(1e-3, from_="paper", learning_rate=0.1, **RUN)
    steps = 100 * 50_000 / 128
    assert table["timescale"] == pytest.approx(1000)
    assert (1 - 1e-3) ** table["half-life"] == pytest.approx(0.5)
    assert table["timescale in epochs"] == pytest.approx(1000 / (50_000 / 128))
    assert reference.normalized(table["normalised λ"], 128, 50_000, 100) == pytest.approx(1e-3)
    assert table["left"] == pytest.approx((1 - 1e-3) ** steps)
    shorter = dwd.equivalents(1e-3, from_="paper", learning_rate=0.1, steps=10, **RUN)
    assert shorter["left"] == pytest.approx((1 - 1e-3) ** 10)
    alone = dwd.equivalents(1e-3, from_="paper", learning_rate=0.1, steps=10)
    assert alone["left"] == shorter["left"]


def test_no_decay_lasts_for_ever():
    table = dwd.equivalents(0.0, from_="torch", learning_rate=0.1)
    assert table["timescale"] == table["half-life"] == math.inf
    assert "∞" in str(table)


def test_text_and_html_show_the_rows():
    table = dwd.equivalents(0.1, from_="torch", learning_rate=3e-4)
    head, *lines, remark = str(table).splitlines()
    assert head.split()[:3] == ["unit", "value", "meaning"]
    assert lines[0].split() == ["paper", "3e-05", "λ·η"]
    assert len(lines) == len(dwd.FRAMEWORKS) + 3
    assert "α = 0.0003" in remark
    assert "<td>torch</td><td>0.1</td><td>λ·lr</td>" in table._repr_html_()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weight_decay": -1.0}, ValueError, "weight_decay must be finite and >= 0"),
        ({"from_": "Torhc"}, ValueError, "did you mean 'torch'"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be finite and > 0"),
        ({"steps": 0}, ValueError, "steps must be finite and >= 1"),
        ({"epochs": 3}, ValueError, "epochs=3: pass batch_size and dataset_size together"),
        ({"batch_size": 3}, ValueError, "pass batch_size and dataset_size together"),
        ({"batch_size": 0, "dataset_size": 3}, ValueError, "batch_size must be finite and > 0"),
        ({**RUN, "epochs": 0}, ValueError, "epochs must be finite and > 0"),
        ({"learning_rate": optax.constant_schedule(0.1)}, TypeError, "a schedule has no place"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"weight_decay": 0.1, "from_": "torch", "learning_rate": 0.1} | change
    with pytest.raises(error, match=message):
        dwd.equivalents(**arguments)


def test_a_unit_that_is_not_there():
    with pytest.raises(KeyError, match="'normalised λ' is not a row"):
        dwd.equivalents(0.1, from_="torch", learning_rate=0.1)["normalised λ"]


COMMAND = ["0.1", "--from", "torch", "--learning-rate", "3e-4"]


def test_the_command_prints_the_table(capsys):
    cli.convert([*COMMAND, "--batch-size", "128", "--dataset-size", "50000", "--epochs", "100"])
    table = dwd.equivalents(0.1, from_="torch", learning_rate=3e-4, **RUN)
    assert capsys.readouterr().out == f"{table}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0.1", "--learning-rate", "1"], "required: --from"),
        (["0.1", "--from", "torch"], "required: --learning-rate"),
        (["0.1", "--from", "pytorch", "--learning-rate", "1"], "did you mean 'torch'"),
        (["much", "--from", "torch", "--learning-rate", "1"], "must be a number, got 'much'"),
        (["-0.1", "--from", "torch", "--learning-rate", "1"], "must be finite and >= 0"),
        (["-1", "--from", "torch", "--learning-rate", "1"], "must be finite and >= 0, got -1"),
        (
            ["-1e-3", "--from", "torch", "--learning-rate", "1"],
            "must be finite and >= 0, got -1e-3",
        ),
        (["-inf", "--from", "torch", "--learning-rate", "1"], "must be finite and >= 0, got -inf"),
        (
            ["1e400", "--from", "torch", "--learning-rate", "1"],
            "must be a finite number, got '1e400'",
        ),
        (["0.1", "--from", "torch", "--learning-rate", "-3e-4"], ">= 0, got -3e-4"),
        (
            ["0.1", "--from", "torch", "--learning-rate=-3e-4"],
            "must be finite and > 0, got -0.0003",
        ),
        ([*COMMAND, "--steps", "nan"], "argument --steps: must be a finite number, got 'nan'"),
        ([*COMMAND, "--epochs", "3"], "pass batch_size and dataset_size together"),
    ],
)
def test_the_command_refuses(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.convert(arguments)
    assert message in capsys.readouterr().err


def test_the_command_needs_the_core_alone():
    program = (
        "import sys; from decoupled_wd.cli import convert; convert(sys.argv[1:]);"
        "heavy = {'flax', 'matplotlib', 'rich', 'xarray', 'decoupled_wd.study'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *COMMAND], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def commands(monkeypatch):
    points = {"convert": "decoupled_wd.cli:convert", "absent": "no_such_module:main"}
    group = [EntryPoint(name, value, "decoupled_wd.commands") for name, value in points.items()]
    monkeypatch.setattr(cli, "entry_points", lambda group_=None, **_: group)


def test_the_script_hands_over_to_the_command(commands, capsys):
    cli.main(["convert", *COMMAND])
    assert "big_vision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: command"),
        (["decay"], "invalid choice: 'decay'"),
        (["absent"], "absent needs no_such_module; install it with"),
    ],
)
def test_the_script_refuses(commands, arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert message in capsys.readouterr().err
