"""The command as a user runs it: what it prints, what it writes, and how it refuses."""

import json
import subprocess
import sys

import pytest
import xarray as xr

from decoupled_wd.study.claims import CONTENDERS
from decoupled_wd.study.cli import main

KEYS = {
    "optimizer",
    "best_error",
    "learning_rate",
    "weight_decay",
    "ridge_slope",
    "ridge_slope_low",
    "ridge_slope_high",
    "top10_correlation",
}
SMALL = ["--dataset", "digits", "--grid", "4", "--epochs", "2", "--seeds", "2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "new" / "folder"
    command = [sys.executable, "-c", "from decoupled_wd.study.cli import main; main()", "study"]
    done = subprocess.run(
        [*command, *SMALL, "--out", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_the_table_is_printed_and_written(finished):
    out, printed = finished
    records = json.loads((out / "table.json").read_text())
    assert [record["optimizer"] for record in records] == ["SGD", "SGDW", "Adam", "AdamW"]
    assert all(set(record) == KEYS for record in records)
    for record in records:
        assert 0 < record["best_error"] < 100
        assert f"{record['best_error']:.2f}" in printed
    assert "128 runs in" in printed


def test_the_raw_results_describe_themselves(finished):
    out, _ = finished
    with xr.open_datatree(out / "results.nc", engine="netcdf4") as results:
        assert list(results.children) == list(CONTENDERS)
        assert results.attrs["dataset"] == "digits"
        assert "--grid 4" in results.attrs["command"]
        assert {"version_jax", "version_optax", "epochs", "batch_size"} <= set(results.attrs)
        error = results["AdamW"]["test_error"]
        assert dict(error.sizes) == {"learning_rate": 4, "weight_decay": 4, "seed": 2}
        assert error.attrs["units"] == "percent"
        assert error["weight_decay"].values[0] == 0
        assert float(error["learning_rate"].max()) == pytest.approx(0.1)


def test_the_figure_is_a_png(finished):
    out, _ = finished
    assert (out / "heatmaps.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grid", "0"], "--grid: must be a whole number >= 2, got '0'"),
        (["--grid", "many"], "--grid: must be a whole number >= 2, got 'many'"),
        (["--epochs", "-3"], "--epochs"),
        (["--seeds", "0"], "--seeds: must be a whole number >= 1"),
        (["--dataset", "cifar10"], "choose from"),
        (["--out", "{file}/results"], "is not a folder to write to"),
        (["--out", "{file}"], "is not a folder to write to"),
    ],
)
def test_bad_arguments_are_refused_before_training(arguments, words, tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = [word.format(file=tmp_path / "file") for word in arguments]
    with pytest.raises(SystemExit, match="2"):
        main(["study", *arguments])
    assert words in capsys.readouterr().err


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["study", "--help"])
    shown = capsys.readouterr().out
    for option in ("--dataset", "--grid", "--epochs", "--seeds", "--out"):
        assert option in shown
    assert "40 for mnist1d" in shown
