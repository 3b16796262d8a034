"""The command as a user runs it: on a module, on a file of data, stopped, and gone on with."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import optuna
import pytest
import searches

from decoupled_wd.study import tune_cli

MODULE = """
import jax, jax.numpy as jnp, numpy as np
import decoupled_wd as dwd
from beside import X

print("λ is read")
space = {"learning_rate": (1e-3, 1.0), "weight_decay": (1e-5, 0.1)}
init = lambda key: jax.random.normal(key, (4,))
loss = lambda w, x, key: jnp.mean((w - x) ** 2)
metric = lambda w, train, test: {"distance": jnp.mean((w - 1) ** 2)}
train = (X,)
coupling = "optax"
epochs, batch_size, finalists, seeds, runs = 8, 16, 2, 4, "not ours"


def make_optimizer(learning_rate, weight_decay):
    return dwd.adamw(learning_rate, weight_decay, coupling=coupling)
"""
COMMAND = "import sys; from decoupled_wd.study.tune_cli import main; main(sys.argv[1:])"
# as the console script starts it
SCRIPT = """
import sys
from decoupled_wd import cli
from decoupled_wd.study import tune_cli

class Point:
    name = "tune"
    load = staticmethod(lambda: tune_cli.main)

cli.entry_points = lambda group: [Point]
cli.main()
"""
USUAL = ["trials", "steps", "seconds", "fresh_seeds", "finalists"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "beside.py").write_text("import numpy as np\nX = np.ones((64, 4), np.float32)\n")
    return tmp_path


def start(folder, *arguments, program=COMMAND, **environment):
    paths = os.pathsep.join(map(str, sys.path))
    return subprocess.Popen(
        # as a command is started: without the current folder on the path
        [sys.executable, "-P", "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths} | environment,
    )


def run(folder, *arguments, **environment):
    process = start(folder, *arguments, **environment)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return printed, errors


def test_a_module_is_tuned_and_goes_on(folder):
    target = ["--target-tokens", "1e6", "--target-batch", "512"]
    printed, errors = run(folder, "mine.py", "--runs", "30", "--out", "new/out", *target)
    assert errors == ""
    page = (folder / "new/out/report.html").read_text()
    # λ of the search, of the unit that the module names, what decays, and the plan of 1953 steps
    assert "dwd.LR" in page
    assert "from mine import make_optimizer" in page
    assert "constant timescale" in page
    assert "the rules disagree by a factor of" in page
    assert printed.splitlines()[0] == "λ is read"
    best = json.loads((folder / "new/out/best.json").read_text())
    metric = ["distance", "distance_low", "distance_high"]
    assert sorted(best) == sorted(["learning_rate", "weight_decay", *metric, *USUAL])
    assert best["distance_low"] <= best["distance"] <= best["distance_high"]
    assert 1e-3 < best["learning_rate"] < 1
    low, high = best["finalists"]["learning_rate"]
    assert low <= best["learning_rate"] <= high
    assert best["fresh_seeds"] == 2
    assert 29 * 32 < best["steps"] <= 30 * 32
    assert f"learning_rate {best['learning_rate']:.4g}, weight_decay" in printed
    assert (
        f"report.html and best.json in new/out, after {best['trials']} trials"
        in printed.splitlines()[-1]
    )
    # quiet when not on a terminal
    assert "\x1b" not in printed
    printed, _ = run(
        folder, "mine.py", "--runs", "20", "--out", "new/out", PYTHONIOENCODING="ascii"
    )
    assert printed.splitlines()[0] == "lambda is read"
    again = json.loads((folder / "new/out/best.json").read_text())
    assert again["trials"] > best["trials"] + 5


def test_a_search_without_a_whole_run_has_a_choice_and_no_report(tmp_path, monkeypatch):
    """A pruner of the module's may let none come to its end."""
    found = replace(searches.search(5), study=optuna.create_study())
    settings = {"train": (np.ones((4, 1)),), "batch_size": 2, "epochs": 1}
    settings["init"] = lambda key: jnp.ones(3)
    monkeypatch.setattr(tune_cli, "_searched", lambda *_: found)
    monkeypatch.setattr(tune_cli, "_settings", lambda _: settings)
    out = tmp_path / "out"
    with pytest.raises(
        SystemExit, match=r"best\.json is written, and no report\.html: tuned has no"
    ):
        tune_cli.main(["mine.py", "--out", str(out)])
    assert json.loads((out / "best.json").read_text())["trials"] == 0


def test_a_choice_that_diverged_with_fresh_seeds_is_told(tmp_path, capsys):
    found = searches.search(5)
    found.study.ask()
    tune_cli._print(tmp_path, found)
    assert "after 5 trials and" in capsys.readouterr().out
    estimate = found.estimate._replace(value=math.nan, low=math.nan, high=math.nan)
    tune_cli._print(tmp_path, replace(found, estimate=estimate))
    printed = capsys.readouterr().out
    assert "diverged with some of 8 fresh seeds; lower the upper end of its ranges" in printed
    assert "nan" not in printed


@pytest.mark.slow
def test_data_needs_no_code(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 500)
    x = rng.normal(size=(500, 36)) + y[:, None]
    arrays = {"x_train": x[:400], "y_train": y[:400], "x_test": x[400:], "y_test": y[400:]}
    np.savez(tmp_path / "mine.npz", **arrays)
    run(tmp_path, "--data", "mine.npz", "--network", "mlp", "--runs", "34", "--out", "out")
    best = json.loads((tmp_path / "out/best.json").read_text())
    assert {"learning_rate", "weight_decay", "test_error"} <= set(best)
    assert best["test_error"] < 50


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept_and_loses_nothing_that_is_finished(folder):
    process = start(folder, "tune", "mine.py", "--minutes", "5", "--out", "out", program=SCRIPT)
    trials = folder / "out" / "trials.log"
    # 6 is a trial that has ended, in Optuna's journal
    while not (trials.exists() and trials.read_text().count('"op_code":6') > 3):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == (
        f"decoupled-wd tune: stopped; finished trials are kept in {os.path.join('out', trials.name)}"
        ", and the same command goes on from there"
    )
    assert not (folder / "out" / "best.json").exists()
    run(folder, "mine.py", "--runs", "12", "--out", "out")
    best = json.loads((folder / "out" / "best.json").read_text())
    assert best["trials"] > 4


@pytest.mark.slow
def test_another_module_in_the_same_folder_ends_in_a_line_that_says_so(folder):
    run(folder, "mine.py", "--runs", "12", "--out", "out")
    (folder / "mine.py").write_text(MODULE.replace("0.1)", "0.2)"))
    process = start(folder, "mine.py", "--runs", "12", "--out", "out")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.startswith("decoupled-wd tune: storage holds the study 'tune' of another search")
    assert "Traceback" not in errors
