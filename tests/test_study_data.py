import random

import numpy as np
import pytest
from mnist1d.data import get_dataset_args, make_dataset
from sklearn.datasets import load_digits

from decoupled_wd.study import data


@pytest.fixture(scope="module")
def mnist1d():
    return data.load("mnist1d")


@pytest.fixture
def toy():
    x, y = np.zeros((4, 3), np.float32), np.array([0, 1, 1, 0], np.int32)
    return data.Dataset("toy", x, y, x.copy(), y.copy(), num_classes=2)


def test_mnist1d_has_the_sizes_of_the_study(mnist1d):
    assert mnist1d.x_train.shape == (2000, 40)
    assert mnist1d.x_test.shape == (4000, 40)
    assert mnist1d.x_train.dtype == np.float32
    assert mnist1d.y_train.dtype == np.int32
    labels = np.concatenate([mnist1d.y_train, mnist1d.y_test])
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 600))


def test_mnist1d_is_standardised_and_every_point_is_different(mnist1d):
    x = np.concatenate([mnist1d.x_train, mnist1d.x_test])
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=1e-5)
    assert len(np.unique(x, axis=0)) == 6000


def test_mnist1d_is_the_package_s_own_data_set():
    settings = get_dataset_args()
    settings.num_samples, settings.train_split = 100, 0.5
    state = np.random.get_state()  # noqa: NPY002
    expected = make_dataset(settings)
    np.random.set_state(state)  # noqa: NPY002
    made = data.mnist1d(train_size=50, test_size=50)
    np.testing.assert_allclose(made.x_train, expected["x"], rtol=1e-6)
    np.testing.assert_array_equal(made.y_test, expected["y_test"])


def test_mnist1d_leaves_the_global_generators_alone():
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    data.mnist1d(train_size=10, test_size=10)
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
        data.mnist1d(train_size=10, test_size=10)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_mnist1d_depends_on_its_seed_only():
    first, again, other = (data.mnist1d(train_size=20, test_size=20, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.x_train, again.x_train)
    assert not np.array_equal(first.x_train, other.x_train)


@pytest.mark.parametrize("train_size", [1, 55, 79, 299])  # int(300 · (55 / 300)) is 54
def test_mnist1d_never_loses_a_point_to_rounding(train_size):
    made = data.mnist1d(train_size=train_size, test_size=300 - train_size)
    assert len(made.x_train) == train_size


@pytest.mark.parametrize("sizes", [(0, 20), (20, 0), (-10, 20), (15, 10)])
def test_mnist1d_meets_bad_sizes_at_the_door(sizes):
    with pytest.raises(ValueError, match=f"train_size and test_size.*got {sizes[0]} and"):
        data.mnist1d(train_size=sizes[0], test_size=sizes[1])


def test_digits_is_a_partition_of_the_real_images():
    digits = data.load("digits")
    pixels, _ = load_digits(return_X_y=True)
    ours = np.concatenate([digits.x_train, digits.x_test])
    np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(pixels / 16, axis=0))
    assert len(digits.x_train) == 300
    assert ours.min() == 0
    assert ours.max() == 1


def test_digits_is_stratified_and_its_labels_belong_to_its_images():
    digits = data.digits()
    pixels, labels = load_digits(return_X_y=True)
    shares = np.bincount(digits.y_train) / 300
    np.testing.assert_allclose(shares, np.bincount(labels) / len(labels), atol=1 / 300)
    known = {row.tobytes(): label for row, label in zip(pixels, labels, strict=True)}
    originals = (digits.x_train * 16.0).astype(np.float64)
    assert [known[row.tobytes()] for row in originals] == digits.y_train.tolist()


def test_digits_comes_out_the_same_every_time():
    np.testing.assert_array_equal(data.digits().x_train, data.digits().x_train)
    assert not np.array_equal(data.digits().x_train, data.digits(seed=1).x_train)


@pytest.mark.parametrize("train_size", [0, 9, 1788, 5000])
def test_digits_meets_a_bad_size_at_the_door(train_size):
    with pytest.raises(ValueError, match=f"train_size.*got {train_size}"):
        data.digits(train_size=train_size)


def test_load_lists_the_known_names():
    with pytest.raises(ValueError, match="mnist1d, digits; got 'cifar10'"):
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
        ("x_test", np.zeros((4, 2), np.float32), r"x_train has 3 features and x_test 2"),
        ("y_train", np.zeros(3, np.int32), r"y_train must be int32 \[4\].*got int32 \[3\]"),
        ("y_test", np.zeros(4), r"y_test must be int32.*got float64"),
    ],
)
def test_validated_names_the_array_of_a_wrong_shape_or_type(toy, field, array, message):
    with pytest.raises(ValueError, match=message):
        data.validated(toy._replace(**{field: array}))
