"""The data sets of the study: small enough for two CPU cores, hard enough for decay to matter.

Both are made or shipped offline, both come out bit for bit the same every time, and neither touches
the caller's random numbers.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from mnist1d.data import get_dataset_args, make_dataset  # type: ignore[import-untyped]
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]


class Dataset(NamedTuple):
    """A classification task: float32 inputs [n, features], int32 labels [n] in 0…num_classes−1."""

    name: str
    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int32]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int32]
    num_classes: int


@contextlib.contextmanager
def _global_generators_kept() -> Iterator[None]:
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _dataset(
    name: str,
    x_train: npt.ArrayLike,
    y_train: npt.ArrayLike,
    x_test: npt.ArrayLike,
    y_test: npt.ArrayLike,
) -> Dataset:
    return Dataset(
        name=name,
        x_train=np.asarray(x_train, np.float32),
        y_train=np.asarray(y_train, np.int32),
        x_test=np.asarray(x_test, np.float32),
        y_test=np.asarray(y_test, np.int32),
        num_classes=10,
    )


def mnist1d(*, train_size: int = 2000, test_size: int = 4000, seed: int = 42) -> Dataset:
    """MNIST-1D: ten noisy, shifted and sheared waveforms of 40 samples each.

    Inputs have mean 0 and standard deviation 1 over all points together. Generated in about two
    seconds, never downloaded; the global generators that the package seeds are put back.

    Args:
        train_size: number of training points.
        test_size: number of test points; the two sizes together are a multiple of 10.
        seed: seed of the generator; 42 is the package's own.

    Raises:
        ValueError: a size is not positive, or the ten classes cannot have the same size.

    Example:
        >>> mnist1d(train_size=30, test_size=20).x_train.shape
        (30, 40)

    Source: Greydanus & Kobak, arXiv 2011.14439.
    """
    total = train_size + test_size
    if min(train_size, test_size) < 1 or total % 10:
        raise ValueError(
            f"train_size and test_size must be positive and add up to a multiple of 10 (equal "
            f"classes), got {train_size} and {test_size}; for example 2000 and 4000"
        )
    settings = get_dataset_args()
    settings.num_samples, settings.seed = total, seed
    # The package truncates total·train_split; the half keeps rounding from losing a point.
    settings.train_split = (train_size + 0.5) / total
    with _global_generators_kept():
        made = make_dataset(settings)
    return _dataset("mnist1d", made["x"], made["y"], made["x_test"], made["y_test"])


def digits(*, train_size: int = 300, seed: int = 0) -> Dataset:
    """Handwritten digits: real 8×8 grey images, flattened to 64 pixels in [0, 1].

    The training split is small and stratified, since with most of the 1797 images the task
    saturates and every regularisation looks alike; all other images are the test set.

    Args:
        train_size: number of training images, 10 to 1787.
        seed: seed of the split.

    Raises:
        ValueError: a split would have fewer images than there are classes.

    Example:
        >>> digits().x_train.shape, digits().x_test.shape
        ((300, 64), (1497, 64))

    Source: UCI ML handwritten digits (Alpaydin & Kaynak 1998), as shipped with scikit-learn.
    """
    pixels, labels = load_digits(return_X_y=True)
    if not 10 <= train_size <= len(labels) - 10:
        raise ValueError(
            f"train_size must leave both splits an image of each of the 10 classes: "
            f"10 to {len(labels) - 10}, got {train_size}"
        )
    x_train, x_test, y_train, y_test = train_test_split(
        pixels / 16, labels, train_size=train_size, stratify=labels, random_state=seed
    )
    return _dataset("digits", x_train, y_train, x_test, y_test)


DATASETS: Mapping[str, Callable[[], Dataset]] = {"mnist1d": mnist1d, "digits": digits}


def load(name: str) -> Dataset:
    """The data set of this name from `DATASETS`, checked by `validated`.

    Raises:
        ValueError: the name is unknown, or the data set fails a check.

    Example:
        >>> load("digits").num_classes
        10
    """
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}; got {name!r}")
    return validated(DATASETS[name]())


def validated(dataset: Dataset) -> Dataset:
    """The same data set, if its shapes agree, its inputs are finite and its labels in range.

    Raises:
        ValueError: names the data set, the array and the first offending index.

    Example:
        >>> import numpy as np
        >>> x, y = np.zeros((2, 3), np.float32), np.array([0, 5], np.int32)
        >>> validated(Dataset("toy", x, y, x, y, num_classes=2))
        Traceback (most recent call last):
        ValueError: toy: y_train[1] is 5; labels must be in 0…1
    """
    _check_split(dataset, "train", dataset.x_train, dataset.y_train)
    _check_split(dataset, "test", dataset.x_test, dataset.y_test)
    train_features, test_features = dataset.x_train.shape[1], dataset.x_test.shape[1]
    if train_features != test_features:
        raise ValueError(
            f"{dataset.name}: x_train has {train_features} features and x_test {test_features}; "
            f"they must agree"
        )
    return dataset


def _check_split(
    dataset: Dataset, split: str, x: npt.NDArray[np.float32], y: npt.NDArray[np.int32]
) -> None:
    name, x_name, y_name = dataset.name, f"x_{split}", f"y_{split}"
    if x.ndim != 2 or x.size == 0 or x.dtype != np.float32:
        raise ValueError(
            f"{name}: {x_name} must be float32 [n, features] and not empty, "
            f"got {x.dtype} {list(x.shape)}; reshape and cast it"
        )
    if y.shape != x.shape[:1] or y.dtype != np.int32:
        raise ValueError(
            f"{name}: {y_name} must be int32 [{len(x)}], one label for each row of {x_name}, "
            f"got {y.dtype} {list(y.shape)}"
        )
    for row, column in np.argwhere(~np.isfinite(x))[:1]:
        raise ValueError(
            f"{name}: {x_name}[{row}, {column}] is {x[row, column]}; "
            f"remove or fill values that are not finite"
        )
    for row in np.flatnonzero((y < 0) | (y >= dataset.num_classes))[:1]:
        raise ValueError(
            f"{name}: {y_name}[{row}] is {y[row]}; labels must be in 0…{dataset.num_classes - 1}"
        )
