"""The Zarr store: other configurations, full disks and damage end in an error whose remedy works."""

import errno
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from zarr.storage import LocalStore

from decoupled_wd.study import Points, sweep
from decoupled_wd.study.grid import locks
from decoupled_wd.study.grid import store as stores
from decoupled_wd.study.grid import sweep as grid
from decoupled_wd.study.grid.blocks import blocks

RATES, CELLS = [0.1, 0.2, 0.3], 18
X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)


def loss(w, x, key):
    return jnp.mean((x @ w - 1) ** 2)


def metric(w, train, test):
    return {"error": jnp.mean((test @ w - 1) ** 2), "positive": jnp.sum(w > 0)}


def run(
    store=None,
    make=lambda rate, l2: optax.chain(optax.add_decayed_weights(l2), optax.sgd(rate)),
    **options,
):
    """Six blocks of three cells: ``(rate, l2, seed)``, whole seeds in a block."""
    settings = {
        "hyperparameters": {"rate": RATES, "l2": [0.0, 0.1]},
        "init": lambda key: jax.random.normal(key, (3,)),
        "loss": loss,
        "metric": metric,
        "train": (X,),
        "test": X,
        "epochs": 2,
        "batch_size": 5,
        "seeds": 3,
    }
    return sweep(make, store=store, **(settings | options))


def content(folder):
    files = (file for file in Path(folder).rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "store"
    return path, run(path)


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "store"))


def resume(store, **options):
    """The results and the number of cells that were trained."""
    reports = []
    swept = run(store, progress=lambda *report: reports.append(report), **options)
    assert reports == sorted(reports)
    assert reports[-1] == (CELLS, CELLS)
    return swept, CELLS - reports[0][0]


def test_the_store_holds_what_the_sweep_returns(finished):
    path, swept = finished
    xr.testing.assert_identical(swept, run())
    with xr.open_zarr(path, chunks=None) as opened:
        xr.testing.assert_identical(opened.drop_vars("checksum").load(), swept)


def test_a_finished_store_is_read_and_nothing_else(finished, copy):
    again, trained = resume(str(copy))
    xr.testing.assert_identical(again, finished[1])
    assert trained == 0
    assert content(copy) == content(finished[0])


DIFFERENT = {
    "epochs": ({"epochs": 4}, r"epochs \(store: 2, now: 4\)"),
    "batch": ({"batch_size": 4}, r"batch_size \(store: 5, now: 4\)"),
    "values": (
        {"hyperparameters": {"rate": [0.1, 0.2, 0.4], "l2": [0.0, 0.1]}},
        r"in rate \(store: \[0.1, 0.2, 0.3\], now: \[0.1, 0.2, 0.4\]\)\.",
    ),
    "seeds": ({"seeds": 4}, r"seed \(store: \[0, 1, 2\], now: \[0, 1, 2, 3\]\)"),
    "axis": (
        {"make": optax.sgd, "hyperparameters": {"learning_rate": RATES}},
        r"axes \(store: rate, l2, seed, epoch, now: learning_rate, seed, epoch\)",
    ),
    "evaluations": ({"evaluate_every": 1}, r"epoch \(store: \[2\], now: \[1, 2\]\)"),
    "train": ({"train": (X + 1,)}, r"in data \(store: \w+, now: \w+\)\."),
    "test": ({"test": X + 1}, r"in data \(store: \w+, now: \w+\)\."),
    "memory": ({"memory": 1}, r"block \(store: \[1, 1, 3\], now: \[1, 1, 1\]\)\..*memory"),
    "loss": ({"loss": lambda w, x, key: 2 * loss(w, x, key)}, r"in program \(store.*is the model"),
    "constant": ({"loss": lambda w, x, key: jnp.mean((x @ w - X[:5, 0]) ** 2)}, r"in program \("),
    "optimizer": ({"make": lambda rate, l2: optax.adamw(rate, weight_decay=l2)}, r"in program \("),
    "init": ({"init": lambda key: 2 * jax.random.normal(key, (3,))}, r"in program \(store"),
    "metric": (
        {"metric": lambda w, *_: {"error": w[0], "positive": w[1] > 0}},
        r"in program \(",
    ),
    "name": ({"metric": lambda w, *_: w[0]}, r"metrics \(store: error, positive, now: metric\)"),
}


@pytest.mark.parametrize(("options", "words"), DIFFERENT.values(), ids=DIFFERENT)
def test_another_sweep_is_refused_by_what_differs_and_the_store_left_alone(
    finished, copy, options, words
):
    with pytest.raises(ValueError, match=words) as error:
        run(copy, **options)
    assert "or another folder" in str(error.value)
    assert content(copy) == content(finished[0])


POINTS = {"rate": [0.1, 0.3, 0.2], "l2": [0.1, 0.0, 0.1]}
OF_POINTS = {
    "another value": ({"hyperparameters": Points(POINTS | {"l2": [0.1, 0.0, 0.2]})}, "in points"),
    "another order": (
        {"hyperparameters": Points({name: values[::-1] for name, values in POINTS.items()})},
        "in points",
    ),
    "one more": (
        {"hyperparameters": Points({name: [*values, 0.1] for name, values in POINTS.items()})},
        r"trial \(store: \[0, 1, 2\], now: \[0, 1, 2, 3\]\)",
    ),
    "a seed each": (
        {"hyperparameters": Points(POINTS | {"seed": [0, 1, 2]}), "seeds": 1},
        r"axes \(store: trial, seed, epoch, now: trial, epoch\)",
    ),
    "other seeds": ({"seeds": range(1, 4)}, r"seed \(store: \[0, 1, 2\], now: \[1, 2, 3\]\)"),
    "a grid": (
        {"hyperparameters": POINTS},
        r"axes \(store: trial, seed, epoch, now: rate, l2, seed, epoch\)",
    ),
    "a grid of their number": (
        {"make": lambda trial: optax.sgd(0.1), "hyperparameters": {"trial": [0, 1, 2]}},
        "in program",
    ),
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    path = tmp_path_factory.mktemp("points") / "store"
    return path, run(path, hyperparameters=Points(POINTS))


def test_points_are_kept_and_found_again(listed):
    path, swept = listed
    before = content(path)
    xr.testing.assert_identical(run(path, hyperparameters=Points(POINTS)), swept)
    assert content(path) == before
    xr.testing.assert_identical(run(hyperparameters=Points(POINTS)), swept)


@pytest.mark.parametrize(("options", "words"), OF_POINTS.values(), ids=OF_POINTS)
def test_other_points_are_another_sweep(listed, tmp_path, options, words):
    copy = Path(shutil.copytree(listed[0], tmp_path / "store"))
    with pytest.raises(ValueError, match=words) as error:
        run(copy, **({"hyperparameters": Points(POINTS)} | options))
    assert "holds another sweep" in str(error.value)
    assert content(copy) == content(listed[0])


def test_the_seeds_of_points_are_part_of_what_they_are(tmp_path):
    def seeded(*seeds):
        points = Points(POINTS | {"seed": list(seeds)})
        return run(tmp_path / "store", hyperparameters=points, seeds=1)

    first = seeded(0, 1, 2)
    xr.testing.assert_identical(first, seeded(0, 1, 2))
    with pytest.raises(ValueError, match="differs in points"):
        seeded(0, 2, 1)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("all I have")
    with pytest.raises(ValueError, match="is a folder of something else; pass a new or an empty"):
        run(tmp_path)
    assert content(tmp_path) == {"thesis.txt": b"all I have"}
    with pytest.raises(NotADirectoryError, match="choose a writable folder"):
        run(tmp_path / "thesis.txt")


def test_an_empty_folder_and_one_that_is_not_there_yet_become_stores(finished, tmp_path):
    for path in (tmp_path, tmp_path / "a" / "b"):
        run(path)
        assert content(path) == content(finished[0])
        shutil.rmtree(path)


@pytest.mark.parametrize("writes", [0, 1, 7])
def test_a_full_disk_loses_no_finished_block(finished, tmp_path, monkeypatch, writes):
    path, left, write = tmp_path / "store", [writes], LocalStore.set

    async def full(self, key, value):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        await write(self, key, value)

    monkeypatch.setattr(LocalStore, "set", full)
    with pytest.raises(OSError, match="No space left") as error:
        run(path)
    monkeypatch.undo()
    assert error.value.errno == errno.ENOSPC
    assert "finished cells are kept: make room" in str(error.value)
    again, trained = resume(path)
    assert trained == CELLS - writes // 3 * 3
    xr.testing.assert_identical(again, finished[1])
    assert content(path) == content(finished[0])


@pytest.mark.parametrize("pages", [10, 28])
def test_a_small_disk_that_is_really_full(finished, tmp_path, pages):
    """During the store's creation, and during training."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={4 * pages}k", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk is not permitted here")
    try:
        with pytest.raises(OSError, match=r"No space left .* make room") as error:
            run(tmp_path / "store")
        assert error.value.errno == errno.ENOSPC
        subprocess.run(["mount", "-o", "remount,size=1m", str(tmp_path)], check=True)
        again, trained = resume(tmp_path / "store")
        assert (trained < CELLS) == (pages == 28)
        xr.testing.assert_identical(again, finished[1])
        assert content(tmp_path / "store") == content(finished[0])
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


DAMAGE = {
    "halved": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "emptied": lambda file: file.write_bytes(b""),
    "flipped": flip,
    "deleted": lambda file: file.unlink(),
}


@pytest.mark.parametrize("name", ["error/1.0.0.0", "positive/2.1.0.0", "checksum/0.1.0"])
@pytest.mark.parametrize("damage", ["halved", "emptied", "flipped"])
def test_a_damaged_block_alone_is_trained_again_after_the_remedy(finished, copy, name, damage):
    DAMAGE[damage](copy / name)
    DAMAGE[damage](copy / name)  # twice: also what is left of a block may be damaged
    if damage == "flipped":
        flip(copy / name)
    with pytest.raises(ValueError, match=r"is damaged in 1 of its blocks; delete .*") as error:
        run(copy)
    remedy = re.search(r"delete (.*) and run the same again", str(error.value)).group(1)
    Path(remedy).unlink()
    again, trained = resume(copy)
    assert trained == 3
    xr.testing.assert_identical(again, finished[1])
    assert content(copy) == content(finished[0])


def test_all_damaged_blocks_are_named_at_once(copy):
    for name in ("error/0.0.0.0", "positive/1.1.0.0"):
        (copy / name).write_bytes(b"")
    words = r"2 of its blocks; delete \S*checksum/0.0.0, \S*checksum/1.1.0 and run"
    with pytest.raises(ValueError, match=words):
        run(copy)


def small(path, metrics=None):
    """A store alone: blocks of four cells, cut off at the edges of a grid of 5 × 3, two evaluations; unlocked."""
    axes = {"rate": np.arange(5.0), "seed": np.arange(3), "epoch": np.array([1, 2])}
    metrics = metrics or {"error": np.dtype("float32"), "positive": np.dtype("int32")}
    with stores.Store(path, axes, metrics, (2, 2), {"epochs": 2}) as store:
        return store


def numbers(where, dtype):
    shape = [*(part.stop - part.start for part in where), 2]
    return np.random.default_rng(where[0].start).uniform(1, 9, shape).astype(dtype)


def filled(path):
    store = small(path)
    for where in blocks((5, 3), (2, 2)):
        store.write(where, {"error": numbers(where, "f4"), "positive": numbers(where, "i4")})
    return store.dataset()


def test_any_flipped_byte_is_found_or_harmless(tmp_path):
    whole = filled(tmp_path)
    for name in ("error/0.0.0", "positive/2.1.0", "checksum/1.0"):
        intact = (tmp_path / name).read_bytes()
        found = 0
        for index in range(0, len(intact), 3):
            flipped = bytearray(intact)
            flipped[index] ^= 0xFF
            (tmp_path / name).write_bytes(flipped)
            try:
                same = small(tmp_path).dataset().identical(whole)
            except ValueError as error:
                same = "is damaged in 1 of its blocks" in str(error)
                found += 1
            assert same, (name, index)
        assert found >= 5
        (tmp_path / name).write_bytes(intact)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_description_is_written_anew_after_the_remedy(tmp_path, damage):
    whole, intact = filled(tmp_path), None
    intact = content(tmp_path)
    for name in intact:
        if re.search(r"(error|positive|checksum)/[\d.]+$", name) or not intact[name]:
            continue
        DAMAGE[damage](tmp_path / name)
        if damage != "deleted":
            with pytest.raises(ValueError, match="its description is damaged; delete") as error:
                small(tmp_path)
            remedy = re.search(r"delete (.*) and run again", str(error.value)).group(1)
            assert remedy == str(tmp_path / name)
            Path(remedy).unlink()
        xr.testing.assert_identical(small(tmp_path).dataset(), whole)
        assert content(tmp_path) == intact, name


def test_blocks_of_another_sweep_are_not_taken_for_finished_ones(tmp_path):
    """Even if they lie where those of this sweep would."""
    filled(tmp_path / "other")
    axes = {"rate": np.arange(5.0) + 1, "seed": np.arange(3), "epoch": np.array([1, 2])}
    metrics = {"error": np.dtype("float32"), "positive": np.dtype("int32")}
    store = stores.Store(tmp_path / "this", axes, metrics, (2, 2), {"epochs": 2})
    with store:
        assert store.cells == 0
    for block in (tmp_path / "other").glob("[epc]*/*.*"):
        if block.name[0] != ".":
            shutil.copy(block, tmp_path / "this" / block.parent.name)
    with pytest.raises(ValueError, match="damaged in 6 of its blocks"), store:
        pass


def test_what_a_kill_leaves_is_cleaned_up(tmp_path):
    whole = filled(tmp_path)
    intact = content(tmp_path)
    for name in ("error/0.0.0", ".zattrs"):
        (tmp_path / f"{name}.{uuid.uuid4().hex}.partial").write_bytes(b"half")
    xr.testing.assert_identical(small(tmp_path).dataset(), whole)
    assert content(tmp_path) == intact


FOREIGN = {
    "a name of ours": ["checksum", "movie.mp4.partial", "sub/thesis.partial"],
    "a folder of ours": ["checksum/notes.txt", "error/thesis.partial"],
    "an array of another": ["checksum/0.0.0", "error/0.0.0.0"],
    "another Zarr group": [".zgroup", "temperature/.zarray", "temperature/0.0"],
    "a partial file": [".zattrs.partial"],
}


@pytest.mark.parametrize("names", FOREIGN.values(), ids=FOREIGN)
def test_nothing_of_anybody_s_is_touched(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("all I have")
    before = content(tmp_path)
    with pytest.raises(ValueError, match="is a folder of something else; pass a new or an empty"):
        run(tmp_path)
    assert content(tmp_path) == before


def test_a_user_s_files_beside_a_whole_store_stay(finished, copy):
    for name in ("notes.txt", "movie.mp4.partial", "error/thesis.partial", "sub/a.partial"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("all I have")
    before = content(copy)
    again, trained = resume(copy)
    assert trained == 0
    xr.testing.assert_identical(again, finished[1])
    assert content(copy) == before


@pytest.mark.parametrize("left", range(1, 16))
def test_a_creation_that_was_killed_goes_on(tmp_path, left):
    filled(tmp_path)
    intact = content(tmp_path)
    description = [name for name in intact if not re.search(r"(error|positive|checksum)/\d", name)]
    description.sort(
        key=lambda name: (name == ".zgroup", name not in (".zattrs", "checksum/.lock"))
    )
    for name in set(intact) - set(description[:left]):
        (tmp_path / name).unlink()
    (tmp_path / f".zgroup.{uuid.uuid4().hex}.partial").write_bytes(b"half")
    xr.testing.assert_identical(filled(tmp_path), filled(tmp_path))
    assert content(tmp_path) == intact


def test_two_blocks_that_were_swapped_are_found(copy, finished):
    for name in ("error", "positive", "checksum"):
        end = ".0" if name != "checksum" else ""
        one, other = (copy / name / f"{index}.0.0{end}" for index in (0, 2))
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
    with pytest.raises(ValueError, match=r"checksum/0\.0\.0, .*checksum/2\.0\.0 and run"):
        run(copy)


def test_a_store_of_an_older_format_is_refused_and_left_alone(copy):
    for name in (".zattrs", ".zmetadata"):
        text = (copy / name).read_text().replace('"format": 2,', "")
        (copy / name).write_text(text)
    before = content(copy)
    with pytest.raises(ValueError, match=r"holds another sweep.*format \(store: none, now: 2\)"):
        run(copy)
    assert content(copy) == before


def test_a_new_jaxlib_is_told_that_it_needs_another_folder(copy, monkeypatch):
    monkeypatch.setattr(grid, "version", lambda name: "99.0")
    with pytest.raises(ValueError, match=r"jaxlib \(store: .*, now: 99.0\)\.") as error:
        run(copy)
    assert "or another folder" in str(error.value)
    assert "delete" not in str(error.value)


HOLD = """
import sys, time
from pathlib import Path
from decoupled_wd.study.grid.locks import locked
with locked(Path(sys.argv[1]), "the folder"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(copy):
    """Another process that holds the store's lock."""
    command = [sys.executable, "-c", HOLD, str(copy / "checksum" / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_at_once_by_whom(finished, copy, holder):
    before = content(copy)
    words = rf"store .* is in use by process {holder.pid} \(.*python.*\); wait until it has ended"
    with pytest.raises(BlockingIOError, match=words):
        run(copy)
    assert content(copy) == before


def test_a_lock_ends_with_the_process_that_held_it(finished, copy, holder):
    holder.kill()
    holder.wait()
    xr.testing.assert_identical(run(copy), finished[1])
    assert content(copy) == content(finished[0])


def test_two_sweeps_of_one_process_too(copy):
    words = f"in use by process {os.getpid()} "
    with (
        locks.locked(copy / "checksum" / ".lock", "the folder"),
        pytest.raises(BlockingIOError, match=words),
    ):
        run(copy)
    run(copy)


@pytest.fixture
def read_only(copy):
    """A finished store on a file system that nobody can write to."""
    command = ["mount", "--bind", str(copy), str(copy)]
    try:
        subprocess.run(command, check=True, capture_output=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(copy)], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not permitted here")
    yield copy
    subprocess.run(["umount", str(copy)], check=True)


@pytest.mark.parametrize("locked_before", [True, False])
def test_a_finished_store_can_be_read_where_nothing_can_be_written(
    finished, copy, request, locked_before
):
    if not locked_before:
        (copy / "checksum" / ".lock").unlink()
    xr.testing.assert_identical(run(request.getfixturevalue("read_only")), finished[1])


def test_an_unfinished_one_is_refused_before_training(copy, request):
    (copy / "checksum" / "0.0.0").unlink()
    path = request.getfixturevalue("read_only")
    with pytest.raises(OSError, match=r"Read-only .* choose a writable folder"):
        run(path, progress=lambda *_: pytest.fail("trained"))


@pytest.mark.parametrize("name", ["a b", "[a] *?", "a\nb", "é λ", "a\udcffb", "-", "%20", "c:d"])
def test_folders_of_any_name(finished, tmp_path, name):
    run(tmp_path / name)
    assert content(tmp_path / name) == content(finished[0])


@pytest.mark.parametrize("value", [np.nan, -np.nan, -0.0, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_float_survives_bit_for_bit(tmp_path, value, dtype):
    where = (slice(4, 5), slice(2, 3))
    values = np.full((1, 1, 2), value, dtype)
    metrics = {"error": np.dtype(dtype)}
    small(tmp_path, metrics).write(where, {"error": values})
    again = small(tmp_path, metrics)
    assert again.has(where)
    assert again._data["error"].values[where].tobytes() == values.tobytes()


def test_diverged_cells_survive(tmp_path):
    options = {"hyperparameters": {"rate": [0.1, 1e38], "l2": [0.0]}}
    swept = run(tmp_path, **options)
    assert swept.error.isnull().sum() == 3
    reports = []
    again = run(tmp_path, progress=lambda *report: reports.append(report), **options)
    xr.testing.assert_identical(again, swept)
    assert reports == [(6, 6)]


def test_processes_without_a_shared_folder_are_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(stores, "_barrier", lambda name: None)
    with pytest.raises(ValueError, match="store must be one folder that all processes share"):
        run(tmp_path)
