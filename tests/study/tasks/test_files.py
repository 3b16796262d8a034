"""Data of files: what is drawn from them, how it is scaled, and which files are refused, and why."""

import gzip
import hashlib

import numpy as np
import pytest

from decoupled_wd.study.tasks import data, files
from decoupled_wd.study.tasks.task import task

RNG = np.random.default_rng(0)
IMAGES = {
    "x_train": RNG.integers(0, 256, (400, 6, 5, 3), np.uint8),
    "y_train": np.arange(400) % 3,
    "x_test": RNG.integers(0, 256, (50, 6, 5, 3), np.uint8),
    "y_test": np.arange(50).reshape(50, 1) % 3,
}


@pytest.fixture
def npz(tmp_path):
    """A file of images with some arrays replaced, or left out where None."""

    def write(**changes):
        path = tmp_path / "mine, 2nd.npz"
        arrays = {k: v for k, v in (IMAGES | changes).items() if v is not None}
        np.savez(path, **arrays)
        return path

    return write


def idx(array):
    sizes = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """A folder of idx files, in the order of `files.IDX`, with the bytes of one changed."""

    def write(number=None, change=bytes):
        x, y = IMAGES["x_train"][..., 0], IMAGES["y_train"].astype(np.uint8)
        for index, array in enumerate((x, y, x[:50], y[:50])):
            content = idx(array)
            content = change(content) if index == number else content
            (tmp_path / files.IDX[index]).write_bytes(gzip.compress(content))
        return tmp_path

    return write


def rows_of(ours, theirs):
    """The number in `theirs` of each row of `ours`."""
    known = {np.round(row, 3).tobytes(): number for number, row in enumerate(theirs)}
    return [known[np.round(row, 3).tobytes()] for row in ours]


def test_splits_are_rows_of_the_file_with_their_labels_and_none_twice(npz):
    made = data.validated(data.from_file(npz(), train_size=200, validation_size=60, test_size=20))
    assert (made.name, made.shape, made.num_classes) == ("mine-2nd", (6, 5, 3), 3)
    x, y = IMAGES["x_train"].astype(float), IMAGES["y_train"]
    train, validation, test = (
        getattr(made, f"x_{split}").reshape(-1, 6, 5, 3)
        for split in ("train", "validation", "test")
    )
    assert [len(train), len(validation), len(test)] == [200, 60, 20]
    # the scale is told by the rows that are trained on: try it, and find every row
    found = rows_of_scaled(train, x)
    mean, deviation = x[found].mean((0, 1, 2)), x[found].std((0, 1, 2))
    scaled = ((x - mean) / deviation).astype(np.float32)
    held_out = rows_of(validation, scaled)
    assert len({*found, *held_out}) == 260
    np.testing.assert_array_equal(made.y_train, y[found])
    np.testing.assert_array_equal(made.y_validation, y[held_out])
    scaled = ((IMAGES["x_test"] - mean) / deviation).astype(np.float32)
    np.testing.assert_array_equal(made.y_test, IMAGES["y_test"][rows_of(test, scaled), 0])


def rows_of_scaled(train, x):
    """The rows of x that a linear map of each channel has made `train`: their order of pixels is the same."""
    known = {np.argsort(row[..., 0].ravel(), kind="stable").tobytes(): n for n, row in enumerate(x)}
    return [known[np.argsort(row[..., 0].ravel(), kind="stable").tobytes()] for row in train]


def test_images_are_scaled_by_channel_and_flat_inputs_by_feature(npz):
    flat = RNG.normal(3, [1, 10, 100, 0], (400, 4))
    for x, axes in ((IMAGES["x_train"], (0, 1, 2)), (flat, 0)):
        made = data.from_file(npz(x_train=x, x_test=x[:50]))
        train = made.x_train.reshape(len(made.x_train), *x.shape[1:])
        np.testing.assert_allclose(train.mean(axes), 0, atol=1e-5)
        wanted = [1, 1, 1] if axes else [1, 1, 1, 0]
        np.testing.assert_allclose(train.std(axes), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "ours"),
    [
        ((7,), (7, 1)),
        ((1,), (1, 1)),
        ((4, 5), (4, 5, 1)),
        ((4, 5, 2), (4, 5, 2)),
        ((3, 4, 5, 2), (3, 4, 5, 2)),
    ],
)
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float16, np.float64, bool])
def test_inputs_may_have_any_shape_and_real_type(npz, shape, ours, kind):
    x = RNG.integers(0, 2, (400, *shape)).astype(kind)
    made = data.validated(data.from_file(npz(x_train=x, x_test=x[:50])))
    assert made.shape == ours
    assert (len(made.y_train), len(made.y_validation), len(made.y_test)) == (300, 100, 50)


def test_it_comes_out_the_same_every_time_and_is_not_in_the_file_s_order(npz):
    y = np.sort(IMAGES["y_train"])
    first, again = (data.from_file(npz(y_train=y)) for _ in range(2))
    np.testing.assert_array_equal(first.x_train, again.x_train)
    # a file that is sorted by class has all classes in every split
    for labels in (first.y_train, first.y_validation):
        assert np.bincount(labels).min() > 15


def test_a_folder_of_idx_files_is_the_same_as_its_arrays(folder, npz):
    x, y = IMAGES["x_train"][..., 0], IMAGES["y_train"]
    ours = data.from_file(folder())
    wanted = data.from_file(npz(x_train=x, y_train=y, x_test=x[:50], y_test=y[:50]))
    assert ours.shape == (6, 5, 1)
    for a, b in zip(ours[1:7], wanted[1:7], strict=True):
        np.testing.assert_array_equal(a, b)


BAD_X, BAD_TEST = IMAGES["x_train"].astype(float), IMAGES["x_test"].astype(float)
BAD_X[399, 2, 4, 1], BAD_TEST[7, 0, 0, 2] = np.nan, 1e39


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "has no array x_train; it has"),
        ({"x_train": np.zeros(400)}, r"x_train must be real numbers \[n, ...\].*float64 \[400\]"),
        ({"x_train": np.zeros((0, 3))}, r"x_train must be real numbers .* got float64 \[0, 3\]"),
        ({"x_test": np.zeros((50, 3), complex)}, r"x_test must be real numbers .* got complex128"),
        ({"x_test": np.array([["a"]] * 50)}, "x_test must be real numbers .* got <U1"),
        ({"x_test": np.array([[{}]] * 50)}, "x_test cannot be read.*holds Python objects"),
        ({"y_train": np.array([{}] * 400)}, "y_train cannot be read.*holds Python objects"),
        ({"x_test": np.zeros((50, 5, 6, 3))}, r"inputs of one shape, got \[6, 5, 3\] and \[5, 6"),
        ({"y_train": np.arange(399)}, r"y_train must be integers \[400\].*got int64 \[399\]"),
        (
            {"y_test": np.zeros((50, 3), int)},
            r"y_test must be integers \[50\].*got int64 \[50, 3\]",
        ),
        ({"y_test": np.arange(50) / 2}, "y_test must be integers .* got float64"),
        ({"y_test": np.arange(50) % 2 > 0}, "y_test must be integers .* got bool"),
        ({"y_test": np.arange(50) % 3 - 1}, r"labels must be integers from 0 .* \[-1, 0, 1, 2\]"),
        ({"y_test": np.arange(50) % 2 * 4}, r"each at least once, got int64 \[0, 1, 2, 4\]"),
        (
            {"y_train": np.zeros(400, int), "y_test": np.zeros(50, int)},
            "labels must be of two classes or more, got 1",
        ),
        ({"x_train": BAD_X}, r"x_train\[399, 2, 4, 1\] is nan, which is no finite float32"),
        ({"x_test": BAD_TEST}, r"x_test\[7, 0, 0, 2\] is 1e\+39, which is no finite float32"),
        ({"x_train": np.ones((400, 6, 5, 3))}, "x_train is the same in every row"),
    ],
)
def test_what_cannot_be_learned_is_refused_by_its_name(npz, changes, message):
    path = npz(**changes)
    with pytest.raises(ValueError, match=message) as caught:
        data.from_file(path)
    assert str(path) in str(caught.value)


def test_python_objects_are_never_unpickled(npz, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    path = npz(y_test=np.array([Trap()] * 50, object))
    with pytest.raises(ValueError, match=r"y_test cannot be read.*holds Python objects"):
        data.from_file(path)
    assert not (tmp_path / "sprung").exists()


def test_nothing_is_loaded_before_all_headers_are_checked(npz, monkeypatch):
    monkeypatch.setattr(files, "load_array", lambda *_: pytest.fail("an array was loaded"))
    with pytest.raises(ValueError, match="y_test must be integers"):
        data.from_file(npz(y_test=np.zeros(3)))


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content + b"0",
        lambda content: content[:6],
        lambda content: b"",
        lambda content: content[:2] + b"\x0d" + content[3:],
        lambda content: content[:3] + bytes([7 - content[3]]) + content[4:],
    ],
    ids=["short", "long", "cut", "empty", "floats", "dimensions"],
)
def test_a_damaged_idx_file_is_told_by_its_name(folder, number, change):
    with pytest.raises(ValueError, match=f"{files.IDX[number]} is no gzipped idx file of unsigned"):
        data.from_file(folder(number, change))


def test_what_is_not_gzipped_or_not_there_is_told_by_its_name(folder):
    where = folder()
    compressed = (where / files.IDX[2]).read_bytes()
    for content in (b"plain", compressed[:-9], compressed[:60] + bytes(20) + compressed[80:]):
        (where / files.IDX[2]).write_bytes(content)
        with pytest.raises(ValueError, match=f"{files.IDX[2]} is no gzipped idx file"):
            data.from_file(where)
    (where / files.IDX[2]).unlink()
    with pytest.raises(FileNotFoundError, match=files.IDX[2]):
        data.from_file(where)


def test_as_many_labels_as_images(folder):
    y = IMAGES["y_train"].astype(np.uint8)[:399]
    with pytest.raises(ValueError, match=r"y_train must be integers \[400\].*got uint8 \[399\]"):
        data.from_file(folder(1, lambda content: idx(y)))


def test_fewer_examples_than_a_batch_are_refused(npz):
    small = {name: array[:130] for name, array in IMAGES.items()}
    # 130 less a quarter for validation
    with pytest.raises(ValueError, match="a batch has 100 examples, and of x_train 98 are left"):
        task(npz(**small), "mlp")
    enough = {name: array[:133] for name, array in IMAGES.items()}
    assert task(npz(**enough), "mlp").steps == 20


def test_the_task_of_a_file_has_its_name_and_the_recipe_of_fashion_mnist(npz):
    learned = task(npz(), "resnet")
    assert learned.name == "mine-2nd, resnet"
    assert (learned.epochs, learned.batch_size, learned.steps) == (20, 100, 60)


SUMS = ["2e487a6c89124f78", "657fbd221bfc9f41", "c867c93ff9536059", "3d0e6c6ea990b53b"]


@pytest.mark.skipif(not data.FASHION_MNIST.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_fashion_mnist_is_what_its_authors_published():
    made = data.load("fashion-mnist")
    assert (made.name, made.shape, made.num_classes) == ("fashion-mnist", (28, 28, 1), 10)
    assert (len(made.y_train), len(made.y_validation), len(made.y_test)) == (2000, 2000, 5000)
    arrays = files.read(data.FASHION_MNIST)
    assert arrays.x_train.shape == (60000, 28, 28)
    np.testing.assert_array_equal(np.bincount(arrays.y_train), np.full(10, 6000))
    assert round(float(arrays.x_train.mean()) / 255, 4) == 0.286
    assert round(float(arrays.x_train.std()) / 255, 4) == 0.353
    # Debian compresses the files anew: the sums are those of what is in them
    found = [hashlib.sha256(each.tobytes()).hexdigest()[:16] for each in arrays]
    assert found == SUMS
