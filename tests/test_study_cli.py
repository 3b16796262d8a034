"""The command as a user runs it: what it prints, what it writes, how it goes on, and how it refuses."""

import json
import shutil
import subprocess
import sys
from functools import partial

import pytest
import xarray as xr

from decoupled_wd.study.claims import generalization, interaction
from decoupled_wd.study.cli import main
from decoupled_wd.study.profiles import CLAIMS, PROFILES, Experiment

SMALL = """
import sys
from functools import partial
from decoupled_wd.study import cli, tasks
from decoupled_wd.study.claims import generalization, interaction
from decoupled_wd.study.profiles import Experiment

grid = partial(interaction.measure, grid=3, seeds=2)
gain = partial(generalization.measure, grid=3, seeds=2, fresh_seeds=2)
cli.PROFILES = {"default": tuple(
    Experiment(claim, "digits", "mlp", measure, 5) for claim, measure in (("ii", grid), ("iii", gain))
)}
tasks.RECIPES = {"digits": tasks.Recipe(epochs=2, batch_size=50, within=1.0)}
cli.main(sys.argv[1:])
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", SMALL, *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "new" / "folder"
    done = run("--out", str(out))
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_it_says_how_long_it_takes_before_it_starts(finished):
    first, *_ = finished[1].splitlines()
    assert first == "2 experiments, about 10 s on two x86-64 cores"


def test_it_is_quiet_when_not_on_a_terminal(finished):
    assert "\x1b" not in finished[1]
    assert "%" not in finished[1].replace("95 %", "")


def test_the_verdicts_are_printed_and_written(finished):
    out, printed = finished
    records = json.loads((out / "claims.json").read_text())
    assert [record["claim"] for record in records] == ["ii"] * 4 + ["iii"] * 2
    for record in records:
        assert record["verdict"] in printed or " " in record["verdict"]
        assert record["statement"].split()[0] in printed
    table = json.loads((out / "table.json").read_text())
    assert [record["optimizer"] for record in table] == ["SGD", "SGDW", "Adam", "AdamW"]


def test_the_report_and_its_figures_are_there(finished):
    out, _ = finished
    assert "decoupled-wd study --out" in (out / "report.html").read_text()
    names = {path.name for path in out.glob("*.png")}
    assert names == {
        "heatmaps-digits-mlp-cosine.png",
        "generalization-digits-mlp-cosine.png",
    }


def test_the_store_opens_as_one_tree(finished):
    out, _ = finished
    with xr.open_datatree(out / "default.zarr", engine="zarr", chunks=None) as tree:
        adamw = tree["digits/mlp/cosine/AdamW"]
        sizes = {"learning_rate": 3, "weight_decay": 3, "seed": 2, "epoch": 1}
        assert dict(adamw["test_error"].sizes) == sizes
        assert adamw.attrs["epochs"] == 2
        assert adamw["weight_decay"].values[0] == 0


def test_the_same_command_again_trains_nothing_and_says_the_same(finished, tmp_path):
    out, _ = finished
    again = tmp_path / "again"
    shutil.copytree(out, again)
    written = {path: path.stat().st_mtime_ns for path in again.rglob("*.0.0.0")}
    done = run("--out", str(again))
    assert done.returncode == 0, done.stderr
    assert (again / "claims.json").read_bytes() == (out / "claims.json").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*.0.0.0")} == written


def test_a_store_of_another_configuration_ends_in_a_line_that_says_so(finished, tmp_path):
    out, _ = finished
    shutil.copytree(out, tmp_path / "out")
    other = SMALL.replace("epochs=2", "epochs=4")
    done = subprocess.run(
        [sys.executable, "-c", other, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "decoupled-wd study: " in done.stderr
    assert "epochs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--profile", "huge"], "invalid choice: 'huge'"),
        (["--claims", "ii,viii"], "must be some of i,ii,iii,iv,v,vi,vii, got 'viii'"),
        (["--claims", ""], "got ''"),
        (["--out", "{file}/results"], "is not a folder to write to"),
        (["--out", "{file}"], "is not a folder to write to"),
    ],
)
def test_bad_arguments_are_refused_before_training(arguments, words, tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = [word.format(file=tmp_path / "file") for word in arguments]
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert words in capsys.readouterr().err


def test_help_names_the_options_and_the_times(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    for option in ("--profile", "--claims", "--distributed", "--out"):
        assert option in shown
    assert "full" in shown
    assert "min" in shown


def test_every_claim_is_measured_in_full_on_two_data_sets_and_two_networks():
    for claim in CLAIMS:
        where = {(e.dataset, e.network) for e in PROFILES["full"] if e.claim == claim}
        assert len({dataset for dataset, _ in where}) >= 2, claim
        assert len({network for _, network in where}) >= 2, claim
    assert {e.claim for e in PROFILES["default"]} == {"i", "ii", "iii", "iv", "v"}
    assert sum(e.seconds for e in PROFILES["default"]) < 180


def test_the_measures_of_a_claim_share_their_grids():
    """Claim (iii) reads what claim (ii) trained: the same sizes under the same names."""
    for plan in PROFILES.values():
        trained = {
            (e.dataset, e.network): sizes(e.measure)
            for e in plan
            if function(e) is interaction.measure
        }
        read = [e for e in plan if function(e) is generalization.measure]
        assert read
        for e in read:
            assert sizes(e.measure) == trained[e.dataset, e.network]


def function(experiment: Experiment):
    measure = experiment.measure
    return measure.func if isinstance(measure, partial) else measure


def sizes(measure):
    return {key: measure.keywords[key] for key in ("grid", "seeds")}
