"""The groups above a study's sweeps: damage is found before any training."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from test_store import content, filled

from decoupled_wd.study.grid.groups import check_groups, index
from decoupled_wd.study.grid.locks import locked

SWEEPS = ("digits/mlp/cosine/Adam", "digits/mlp/cosine/AdamW", "mnist1d/resnet/fixed/SGD")


@pytest.fixture
def tree(tmp_path):
    tmp_path = tmp_path / "tree"
    for sweep in SWEEPS:
        filled(tmp_path / sweep)
    index(tmp_path)
    return tmp_path


def test_the_sweeps_open_as_one_tree(tree):
    with xr.open_datatree(tree, engine="zarr", chunks=None) as opened:
        for sweep in SWEEPS:
            assert opened[sweep]["error"].shape == (5, 3, 2)
    before = content(tree)
    index(tree)
    assert content(tree) == before


def test_without_sweeps_the_tree_is_empty(tmp_path):
    """Claim (i) trains none; its report once ended in an error of Zarr's."""
    check_groups(tmp_path / "new")
    index(tmp_path / "new")
    with xr.open_datatree(tmp_path / "new", engine="zarr", chunks=None) as opened:
        assert [*opened.children] == []
    check_groups(tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *itertools.product((".zgroup", ".zmetadata", "digits/.zgroup"), (b"", b"{", b"[]", b"{}")),
        (".zgroup", b'{"zarr_format": 3}'),
        (".zmetadata", b'{"zarr_consolidated_format": 1}'),
        (".zmetadata", b"\xff\xfe"),
        ("digits/mlp/.zattrs", b"null"),
    ],
)
def test_a_damaged_file_is_named_with_a_remedy_that_works(tree, name, text):
    (tree / "digits/mlp/.zattrs").write_text("{}")
    before = content(tree)
    (tree / name).write_bytes(text)
    with pytest.raises(ValueError, match="damaged above its sweeps; delete ") as error:
        check_groups(tree)
    assert f"delete {tree / name} and run again" in str(error.value)
    (tree / name).unlink()
    check_groups(tree)
    index(tree)
    assert {k: v for k, v in content(tree).items() if k != name} == {
        k: v for k, v in before.items() if k != name
    }


def test_all_damaged_files_are_named_at_once(tree):
    for name in (".zgroup", "digits/.zgroup"):
        (tree / name).write_bytes(b"{")
    with pytest.raises(ValueError, match=r"delete .*/\.zgroup, .*/digits/\.zgroup and run"):
        check_groups(tree)


def test_a_folder_that_is_not_there_yet_has_no_damage(tmp_path):
    check_groups(tmp_path / "new")
    check_groups(tmp_path)


def test_files_of_a_user_are_left_alone(tree):
    (tree / "digits" / "notes.json").write_text(json.dumps("mine"))
    (tree / "photos").mkdir()
    (tree / "photos" / "a.partial").write_bytes(np.arange(3).tobytes())
    before = content(tree)
    check_groups(tree)
    index(tree)
    assert content(tree) == before


STUDY = "import sys; from decoupled_wd.study.cli import main; main(sys.argv[1:])"


def test_the_command_finds_damage_before_it_trains(tree):
    root = tree.rename(tree.with_name("default.zarr"))
    (root / ".zgroup").write_bytes(b"{")
    command = [sys.executable, "-c", STUDY, "--claims", "iii", "--out", str(root.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"delete {root / '.zgroup'} and run again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_second_command_on_one_folder_is_told_of_the_first(tmp_path):
    with locked(tmp_path / ".lock", "the folder"):
        command = [sys.executable, "-c", STUDY, "--out", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"is in use by process {os.getpid()} (" in done.stderr
    assert "Traceback" not in done.stderr
