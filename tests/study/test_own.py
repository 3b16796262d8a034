"""The profile images: on Fashion-MNIST, on a file of the user's, and with a network of the user's."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from decoupled_wd.study import own
from decoupled_wd.study.claims.optimizers import PAIRS
from decoupled_wd.study.cli import main
from decoupled_wd.study.profiles import PROFILES
from decoupled_wd.study.tasks.data import FASHION_MNIST

IMAGES = PROFILES["images"]
NETS = """
from flax import nnx
from decoupled_wd.study.tasks.models import from_module

def linear(data):
    features = 1
    for size in data.shape:
        features *= size
    return from_module(lambda rngs: nnx.Linear(features, data.num_classes, rngs=rngs))
"""
# the command with claims that train in seconds
SMALL = """
import sys
from decoupled_wd.study import cli, own
from decoupled_wd.study.tasks import task as tasks
from decoupled_wd.study.claims.interaction import Interaction
from decoupled_wd.study.experiment import Experiment

designs = {"mlp": Interaction(grid=6, looks=(2,)), "resnet": Interaction(grid=5, looks=(2,))}
cli.PROFILES = dict(cli.PROFILES) | {"images": tuple(
    Experiment("ii", "fashion-mnist", net, design, 5) for net, design in designs.items()
)}
tasks.RECIPES = {"fashion-mnist": tasks.Recipe(epochs=1, batch_size=100, tolerance=1.0)}
sys.argv[0] = "decoupled-wd"
cli.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 500)
    x = rng.normal(size=(500, 6, 6)) + y[:, None, None]
    path = tmp_path_factory.mktemp("data") / "mine.npz"
    np.savez(path, x_train=x[:400], y_train=y[:400], x_test=x[400:], y_test=y[400:])
    (path.parent / "nets.py").write_text(NETS)
    return path


def run(npz, *arguments, program=SMALL):
    return subprocess.run(
        # as a command is started: without the current folder on the path
        [sys.executable, "-P", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=npz.parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))},
    )


def test_a_text_too_short_for_a_batch_of_some_claim_is_refused_before_training(tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 27)
    experiments = own.with_own(PROFILES["modern"], None, None, text)
    with pytest.raises(
        ValueError, match=r"short\.txt: claim ix has batches of 64 rows, and 29 are"
    ):
        own.check_tasks(experiments)
    own.check_tasks([each for each in experiments if each.claim != "ix"])


@pytest.mark.slow
def test_a_file_and_a_network_of_the_user_s_are_measured(npz, tmp_path):
    done = run(npz, "--data", "mine.npz", "--network", "nets:linear", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "1 experiments, about 5 s on two x86-64 cores for Fashion-MNIST and the study's networks, "
        "and longer for what is not decided at once",
        "mine: 300 examples train, 100 choose and 100 judge; 4 classes",
    ]
    records = json.loads((tmp_path / "claims.json").read_text())
    assert {record["where"] for record in records} == {"mine, nets.linear, cosine"}
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "mine.npz" in page
    assert "nets:linear" in page
    with xr.open_datatree(tmp_path / "images.zarr", engine="zarr", chunks=None) as tree:
        runs = tree["mine/nets.linear/cosine/Adam/decoupled/seeds 0 to 1"]
        # the last of the profile's networks is the one whose sizes are taken
        assert dict(runs["test_error"].sizes) == {
            "learning_rate": 5,
            "weight_decay": 5,
            "seed": 2,
            "epoch": 1,
        }
        assert float(runs["test_error"].min()) < 70


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "none.npz"], "none.npz: No such file or directory; pass --data with an .npz"),
        (["--data", "."], "train-images-idx3-ubyte.gz: No such file or directory"),
        (["--data", "nets.py"], "nets.py: x_train cannot be read (File is not a zip file)"),
        (["--data", "mine.npz", "--profile", "full"], "--data is for the profile images, got"),
        (["--network", "mlp", "--profile", "default"], "--network is for the profile images"),
        (["--data", "mine.npz", "--network", "cnn"], "or MODULE:FUNCTION; got 'cnn'"),
        (["--data", "mine.npz", "--network", "nets:deep"], "the module has no function deep"),
        (["--data", "mine.npz", "--network", "os:getcwd"], "getcwd(dataset) raises TypeError"),
        (["--text", "none.txt"], "none.txt: No such file or directory; pass --text with a file"),
        (["--text", "mine.npz"], "mine.npz is no text in UTF-8: byte"),
        (["--text", "nets.py"], "nets.py: a batch has 16 rows of 32 characters, and of its"),
        (["--text", "nets.py", "--profile", "full"], "--text is for the profile modern, got"),
        (["--text", "nets.py", "--data", "mine.npz"], "--text is for the profile modern, got"),
        (["--data", "mine.npz", "--claims", "vi"], "--claims vi: the profile images does not"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error_before_training(
    npz, arguments, words, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(npz.parent)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--out", str(tmp_path)])
    assert words in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == []


def test_without_fashion_mnist_the_command_says_where_to_get_it(tmp_path, capsys, monkeypatch):
    missing = FileNotFoundError(2, "No such file or directory", str(FASHION_MNIST / "x.gz"))

    def task(*_):
        raise missing

    monkeypatch.setattr(own, "task_of", task)
    with pytest.raises(SystemExit, match="2"):
        main(["--profile", "images", "--out", str(tmp_path)])
    error = " ".join(capsys.readouterr().err.split())
    assert "fashion-mnist/x.gz: No such file or directory; pass --data" in error
    assert "install Debian's dataset-fashion-mnist" in error


def test_the_profile_measures_four_claims_with_two_networks_in_ninety_minutes():
    found = [(e.claim, e.dataset, e.network) for e in IMAGES]
    assert found == [
        (claim, "fashion-mnist", network)
        for network in ("mlp", "resnet")
        for claim in ("ii", "ii", "iii", "iv", "v")
    ]
    assert sum(e.seconds for e in IMAGES) < 90 * 60


@pytest.mark.parametrize(
    ("network", "networks", "grids"),
    [
        (None, ["mlp"] * 5 + ["resnet"] * 5, [8, 8, 6, 6]),
        ("mlp", ["mlp"] * 5, [8, 8]),
        ("resnet", ["resnet"] * 5, [6, 6]),
        ("nets:make", ["nets:make"] * 5, [6, 6]),
    ],
)
def test_a_network_is_chosen_from_the_profile_or_takes_the_place_of_the_resnet(
    npz, network, networks, grids
):
    chosen = own.with_own(IMAGES, npz, network)
    assert [e.network for e in chosen] == networks
    assert {e.dataset for e in chosen} == {npz}
    assert [e.design.grid for e in chosen if e.claim == "ii"] == grids
    # both pairs of optimisers, whichever network learns
    pairs = {pair for e in chosen if e.claim == "ii" for pair in e.design.pairs}
    assert pairs == set(PAIRS)


def test_without_data_of_the_user_s_the_profile_is_left_as_it_is():
    assert own.with_own(IMAGES, None, None) == [*IMAGES]
    assert own.profile_of(None, None, None) == "default"
    assert own.profile_of("full", None, None) == "full"
    assert own.profile_of(None, None, "mlp") == "images"
