import random
import zipfile

import numpy as np
import pytest
from mnist1d.data import get_dataset_args, make_dataset
from sklearn.datasets import load_digits

from decoupled_wd.study.tasks import data


@pytest.fixture(scope="module")
def mnist1d():
    return data.load("mnist1d")


@pytest.fixture
def toy():
    x, y = np.zeros((4, 3), np.float32), np.array([0, 1, 1, 0], np.int32)
    return data.Dataset(
        "toy", x, y, x.copy(), y.copy(), x.copy(), y.copy(), num_classes=2, shape=(3, 1)
    )


def test_mnist1d_has_the_sizes_of_the_study(mnist1d):
    assert mnist1d.x_train.shape == (2000, 40)
    assert mnist1d.x_validation.shape == (2000, 40)
    assert mnist1d.x_test.shape == (4000, 40)
    assert mnist1d.shape == (40, 1)
    assert mnist1d.x_train.dtype == np.float32
    assert mnist1d.y_train.dtype == np.int32
    labels = np.concatenate([mnist1d.y_train, mnist1d.y_validation, mnist1d.y_test])
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 800))


def test_mnist1d_is_standardised_and_every_point_is_different(mnist1d):
    x = np.concatenate([mnist1d.x_train, mnist1d.x_validation, mnist1d.x_test])
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-5)
    assert len(np.unique(x, axis=0)) == 8000


def test_mnist1d_is_the_package_s_own_data_set():
    settings = get_dataset_args()
    settings.num_samples, settings.train_split = 100, 0.5
    state = np.random.get_state()  # noqa: NPY002
    expected = make_dataset(settings)
    np.random.set_state(state)  # noqa: NPY002
    made = data.mnist1d(train_size=50, validation_size=20, test_size=30)
    np.testing.assert_allclose(made.x_train, expected["x"], rtol=1e-6)
    x, y = (
        np.concatenate(parts)
        for parts in ((made.x_validation, made.x_test), (made.y_validation, made.y_test))
    )
    np.testing.assert_allclose(x, expected["x_test"], rtol=1e-6)
    np.testing.assert_array_equal(y, expected["y_test"])


def test_mnist1d_leaves_the_global_generators_alone():
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    data.mnist1d(train_size=10, validation_size=10, test_size=10)
    for before, after in zip(numpy_state, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(before, after)
    assert random.getstate() == python_state


def test_mnist1d_puts_the_generators_back_after_a_failure(monkeypatch):
    def fail(settings):
        np.random.seed(0)  # noqa: NPY002
        raise RuntimeError("no data today")

    monkeypatch.setattr(data, "make_dataset", fail)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    with pytest.raises(RuntimeError):
        data.mnist1d(train_size=10, validation_size=10, test_size=10)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_mnist1d_depends_on_its_seed_only():
    first, again, other = (
        data.mnist1d(train_size=20, validation_size=10, test_size=20, seed=s) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.x_train, again.x_train)
    assert not np.array_equal(first.x_train, other.x_train)


@pytest.mark.parametrize("train_size", [1, 55, 79, 298])  # int(300 · (55 / 300)) is 54
def test_mnist1d_never_loses_a_point_to_rounding(train_size):
    made = data.mnist1d(train_size=train_size, validation_size=1, test_size=299 - train_size)
    assert [len(made.y_train), len(made.y_validation)] == [train_size, 1]


@pytest.mark.parametrize(
    "sizes", [(0, 10, 20), (20, 10, 0), (20, 0, 20), (-10, 10, 20), (15, 10, 10)]
)
def test_mnist1d_meets_bad_sizes_at_the_door(sizes):
    train, validation, test = sizes
    with pytest.raises(ValueError, match=f"test_size.*got {train}, {validation} and {test}"):
        data.mnist1d(train_size=train, validation_size=validation, test_size=test)


def test_digits_is_a_partition_of_the_real_images():
    digits = data.load("digits")
    pixels, _ = load_digits(return_X_y=True)
    ours = np.concatenate([digits.x_train, digits.x_validation, digits.x_test])
    np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(pixels / 16, axis=0))
    assert [len(digits.x_train), len(digits.x_validation)] == [300, 500]
    assert digits.shape == (8, 8, 1)
    assert ours.min() == 0
    assert ours.max() == 1


def test_digits_is_stratified_and_its_labels_belong_to_its_images():
    digits = data.digits()
    pixels, labels = load_digits(return_X_y=True)
    for y in (digits.y_train, digits.y_validation, digits.y_test):
        shares = np.bincount(y) / len(y)
        np.testing.assert_allclose(shares, np.bincount(labels) / len(labels), atol=1 / 300)
    known = {row.tobytes(): label for row, label in zip(pixels, labels, strict=True)}
    for x, y in ((digits.x_train, digits.y_train), (digits.x_validation, digits.y_validation)):
        originals = (x * 16.0).astype(np.float64)
        assert [known[row.tobytes()] for row in originals] == y.tolist()


def test_digits_comes_out_the_same_every_time():
    np.testing.assert_array_equal(data.digits().x_train, data.digits().x_train)
    assert not np.array_equal(data.digits().x_train, data.digits(seed=1).x_train)


@pytest.mark.parametrize(
    ("train_size", "validation_size"), [(0, 500), (9, 500), (300, 9), (300, 1488), (1797, 500)]
)
def test_digits_meets_a_bad_size_at_the_door(train_size, validation_size):
    with pytest.raises(ValueError, match=f"got {train_size} and {validation_size} of 1797"):
        data.digits(train_size=train_size, validation_size=validation_size)


def test_load_lists_the_known_names():
    with pytest.raises(ValueError, match=f"{', '.join(data.DATASETS)}; got 'cifar10'"):
        data.load("cifar10")


def test_load_checks_what_it_loads(monkeypatch, toy):
    monkeypatch.setitem(data.DATASETS, "toy", lambda: toy._replace(num_classes=1))
    with pytest.raises(ValueError, match=r"y_train\[1\] is 1"):
        data.load("toy")


def test_validated_returns_a_good_data_set(toy):
    assert data.validated(toy) is toy


@pytest.mark.parametrize(
    ("field", "index", "value", "message"),
    [
        ("x_train", (2, 1), np.nan, r"toy: x_train\[2, 1\] is nan"),
        ("x_test", (0, 2), -np.inf, r"toy: x_test\[0, 2\] is -inf"),
        ("x_validation", (1, 0), np.inf, r"toy: x_validation\[1, 0\] is inf"),
        ("y_validation", 0, 7, r"toy: y_validation\[0\] is 7"),
        ("y_train", 3, 2, r"toy: y_train\[3\] is 2; labels must be in 0…1"),
        ("y_test", 1, -1, r"toy: y_test\[1\] is -1"),
    ],
)
def test_validated_names_the_first_offending_index(toy, field, index, value, message):
    getattr(toy, field)[index] = value
    with pytest.raises(ValueError, match=message):
        data.validated(toy)


@pytest.mark.parametrize(
    ("field", "array", "message"),
    [
        ("x_train", np.zeros((4, 3)), r"x_train must be float32.*got float64"),
        ("x_train", np.zeros((4, 3, 1), np.float32), r"x_train.*got float32 \[4, 3, 1\]"),
        ("x_test", np.zeros((0, 3), np.float32), r"x_test.*not empty"),
        (
            "x_test",
            np.zeros((4, 2), np.float32),
            r"x_test has 2 features, but shape \(3, 1\) has 3",
        ),
        ("x_validation", np.zeros((4, 3)), r"x_validation must be float32.*got float64"),
        ("y_validation", np.zeros(3, np.int32), r"y_validation must be int32 \[4\]"),
        ("y_train", np.zeros(3, np.int32), r"y_train must be int32 \[4\].*got int32 \[3\]"),
        ("y_test", np.zeros(4), r"y_test must be int32.*got float64"),
    ],
)
def test_validated_names_the_array_of_a_wrong_shape_or_type(toy, field, array, message):
    with pytest.raises(ValueError, match=message):
        data.validated(toy._replace(**{field: array}))


@pytest.fixture
def cifar(tmp_path):
    """A file like CIFAR-10's with some arrays replaced, or left out where None."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (12, 32, 32, 3), np.uint8),
        "y_train": rng.integers(0, 10, (12, 1)),
        "x_test": rng.integers(0, 256, (5, 32, 32, 3), np.uint8),
        "y_test": rng.integers(0, 10, 5, np.uint8),
    }

    def write(**changes):
        path = tmp_path / "cifar.npz"
        np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
        return path

    write.arrays = arrays
    return write


def test_cifar10_is_normalised_by_the_training_images_alone(cifar):
    task = data.validated(data.cifar10(cifar(), validation_size=4))
    x = cifar.arrays["x_train"].astype(float)
    expected = (x - x[:8].mean((0, 1, 2))) / x[:8].std((0, 1, 2))
    np.testing.assert_allclose(task.x_train, expected[:8].reshape(8, -1), atol=1e-5)
    np.testing.assert_allclose(task.x_validation, expected[8:].reshape(4, -1), atol=1e-5)
    np.testing.assert_array_equal(task.y_validation, cifar.arrays["y_train"][8:, 0])
    np.testing.assert_array_equal(task.y_test, cifar.arrays["y_test"])
    assert task.x_test.shape == (5, 3072)
    assert task.shape == (32, 32, 3)


BAD_LABELS = np.array([0, 1, 10, 3, 4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, r"cifar.npz: has no array y_test; it has \["),
        ({"x_test": np.zeros((5, 3, 32, 32), np.uint8)}, r"x_test must be uint8.*\[5, 3, 32, 32\]"),
        ({"x_train": np.full((12, 32, 32, 3), np.nan)}, r"x_train must be uint8.*got float64"),
        ({"x_train": np.zeros((0, 32, 32, 3), np.uint8)}, r"x_train.*not empty"),
        ({"x_train": np.zeros((12, 32, 32, 3), np.uint8)}, r"channel 0 of x_train is the same"),
        ({"y_test": BAD_LABELS}, r"cifar.npz: y_test\[2\] is 10; labels must be in 0…9"),
        ({"y_test": np.arange(5) - 1}, r"y_test\[0\] is -1"),
        ({"y_test": np.full(5, np.nan)}, r"y_test must be integers.*got float64"),
        ({"y_train": np.zeros(11, int)}, r"y_train must be integers \[12\].*got int64 \[11\]"),
        ({"y_train": np.array([None] * 12)}, r"cifar.npz: y_train cannot be read"),
    ],
)
def test_cifar10_names_the_file_and_the_array(cifar, changes, message):
    with pytest.raises(ValueError, match=message):
        data.cifar10(cifar(**changes), validation_size=4)


@pytest.mark.parametrize("size", [0, 12, 5000])
def test_cifar10_needs_images_on_both_sides_of_the_split(cifar, size):
    with pytest.raises(ValueError, match=f"12 images in x_train, got {size}"):
        data.cifar10(cifar(), validation_size=size)


def repacked(path, member, change, compression=zipfile.ZIP_STORED):
    """The same archive with the bytes of one member changed."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents[member] = change(contents[member])
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def unread(monkeypatch):
    """No array may be loaded: what is wrong is known before."""

    def load(*_):
        raise AssertionError("an array was loaded")

    monkeypatch.setattr(data, "load_array", load)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "has no array y_test; it has"),
        ({"x_test": np.zeros((5, 3, 32, 32), np.uint8)}, r"x_test must be uint8"),
        ({"x_test": np.zeros((), np.uint8)}, r"x_test must be uint8.*got uint8 \[\]"),
        ({"y_test": np.zeros((5, 2), int)}, r"y_test must be integers \[5\]"),
        ({"y_test": np.array([None] * 5)}, "y_test cannot be read.*Python objects"),
        ({"y_test": np.array(list("abcde"))}, "y_test must be integers.*got <U1"),
    ],
)
def test_cifar10_checks_all_arrays_before_it_loads_one(cifar, unread, changes, message):
    with pytest.raises(ValueError, match=message):
        data.cifar10(cifar(**changes), validation_size=4)
    with pytest.raises(ValueError, match="12 images in x_train, got 12"):
        data.cifar10(cifar(), validation_size=12)


@pytest.mark.parametrize("shape", ["99999999999, 32, 32, 3", "11, 32, 32, 3", "-12, 32, 32, 3"])
def test_cifar10_is_not_deceived_by_a_header(cifar, unread, shape):
    def lie(content):
        end = content.index(b"\n") + 1
        header = content[:end].replace(b"(12, 32, 32, 3)", f"({shape})".encode())
        return header[: end - 1].rstrip().ljust(end - 1)[: end - 1] + b"\n" + content[end:]

    path = repacked(cifar(), "x_train.npy", lie)
    with pytest.raises(
        ValueError, match=r"x_train cannot be read \(its header promises -?\d+ bytes"
    ):
        data.cifar10(path, validation_size=4)


def test_cifar10_refuses_a_small_file_of_huge_arrays_unread(cifar, unread):
    path = cifar(x_train=np.zeros((1000, 32, 32, 3), np.uint8), y_train=np.zeros(1000, int))
    repacked(path, "x_test.npy", bytes, zipfile.ZIP_DEFLATED)
    with pytest.raises(
        ValueError, match=r"x_train is 307.... bytes compressed to .*no photographs"
    ):
        data.cifar10(path)


def test_cifar10_reads_what_savez_compressed_writes(cifar, tmp_path):
    np.savez_compressed(tmp_path / "small.npz", **cifar.arrays)
    packed = data.cifar10(tmp_path / "small.npz", validation_size=4)
    np.testing.assert_array_equal(packed.x_test, data.cifar10(cifar(), validation_size=4).x_test)


def test_cifar10_says_which_array_is_damaged(cifar):
    def cut(content):
        return content[:40]

    for member in ("x_test", "y_train"):
        with pytest.raises(ValueError, match=f"cifar.npz: {member} cannot be read"):
            data.cifar10(repacked(cifar(), f"{member}.npy", cut), validation_size=4)
    # the directory at the end of the file is whole, the compressed bytes are not
    path = repacked(cifar(), "x_test.npy", bytes, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    content[1000:1100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cifar.npz: x_train cannot be read"):
        data.cifar10(path, validation_size=4)


def test_classes_are_counted_from_the_labels(monkeypatch):
    pixels, labels = load_digits(return_X_y=True)
    few = labels < 4
    monkeypatch.setattr(data, "load_digits", lambda **_: (pixels[few], labels[few]))
    made = data.validated(data.digits(train_size=100, validation_size=100))
    assert made.num_classes == 4


@pytest.mark.parametrize(
    "change", [lambda y: y + 1, lambda y: y - 1, lambda y: 2 * y, lambda y: y / 2]
)
def test_labels_that_are_no_classes_are_refused(monkeypatch, change):
    pixels, labels = load_digits(return_X_y=True)
    monkeypatch.setattr(data, "load_digits", lambda **_: (pixels, change(labels)))
    with pytest.raises(ValueError, match="digits: labels must be integers from 0 to the number"):
        data.digits()


@pytest.mark.parametrize("classes", [2, 3, 26])
def test_a_data_set_has_as_many_classes_as_labels(classes):
    train = np.ones((classes, 2, 3)), np.arange(classes)[::-1]
    few = np.zeros((1, 2, 3)), [0]
    made = data.from_splits("letters", (2, 3), train=train, validation=few, test=few)
    assert data.validated(made).num_classes == classes
    assert made.x_train.shape == (classes, 6)
    with pytest.raises(ValueError, match=rf"y_train\[0\] is {classes - 1}; labels must be in 0…"):
        data.validated(made._replace(num_classes=classes - 1))


def test_a_label_that_is_in_no_split_is_met_at_the_door():
    one = np.zeros((2, 3)), [0, 2]
    with pytest.raises(ValueError, match=r"toy: labels must be integers .* got int64 \[0, 2\]"):
        data.from_splits("toy", (3,), train=one, validation=one, test=one)


def test_cifar10_says_what_is_no_npz_file(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / "text.npz").write_text("no arrays")
    np.save(tmp_path / "one.npy", np.zeros(3))
    for name in ("broken.npz", "text.npz", "one.npy"):
        with pytest.raises(ValueError, match=f"{name}: x_train cannot be read"):
            data.cifar10(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        data.cifar10(tmp_path / "missing.npz")
