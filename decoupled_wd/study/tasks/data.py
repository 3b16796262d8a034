"""The data sets of the study: small enough for two CPU cores, hard enough for decay to matter.

MNIST-1D and digits are made or shipped offline, come out bit for bit the same every time, and leave
the caller's random numbers alone. Fashion-MNIST, CIFAR-10 (the paper's own) and data of the user's
are read from files.
"""

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from mnist1d.data import get_dataset_args, make_dataset  # type: ignore[import-untyped]
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

from decoupled_wd.study.tasks import files
from decoupled_wd.study.tasks.npz import header, load_array


class Dataset(NamedTuple):
    """Holds a classification task in three splits.

    Inputs are float32 [n, features]; labels are int32 [n] in 0…num_classes−1.
    """

    name: str
    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int32]
    x_validation: npt.NDArray[np.float32]
    y_validation: npt.NDArray[np.int32]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int32]
    num_classes: int
    shape: tuple[int, ...]
    """The shape of one input before it was flattened, channels last."""


@contextlib.contextmanager
def _global_generators_kept() -> Iterator[None]:
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


Split: TypeAlias = tuple[npt.ArrayLike, npt.ArrayLike]


def from_splits(
    name: str,
    shape: tuple[int, ...],
    *,
    train: Split,
    validation: Split,
    test: Split,
    num_classes: int | None = None,
) -> Dataset:
    """Makes a data set of inputs and labels, of any number of classes.

    Args:
        name: what it is called in errors.
        shape: the shape of one input, channels last; inputs are flattened.
        train: inputs ``[n, ...]`` and labels ``[n]``, integers from 0.
        validation: the same, for choosing.
        test: the same, for judging.
        num_classes: how many classes there are; by default as many as there are different labels.

    Raises:
        ValueError: labels that are to be counted are not the integers from 0 on, each at least
          once.

    Examples:
        >>> letters = np.zeros((26, 4, 4)), np.arange(26)
        >>> splits = {"train": letters, "validation": letters, "test": letters}
        >>> made = from_splits("letters", (4, 4, 1), **splits)
        >>> made.num_classes, made.x_train.shape
        (26, (26, 16))
    """
    splits = (train, validation, test)
    x_train, x_validation, x_test = (
        np.asarray(x, np.float32).reshape(-1, math.prod(shape)) for x, _ in splits
    )
    classes = num_classes or _count_classes(name, *(y for _, y in splits))
    y_train, y_validation, y_test = (np.asarray(y, np.int32) for _, y in splits)
    arrays = (x_train, y_train, x_validation, y_validation, x_test, y_test)
    return Dataset(name, *arrays, classes, shape)


def _count_classes(name: str, *labels: npt.ArrayLike) -> int:
    """Counts the labels: integers from 0, each at least once."""
    found = np.unique(np.concatenate([np.ravel(each) for each in labels]))
    if found.dtype.kind not in "iu" or not np.array_equal(found, np.arange(len(found))):
        raise ValueError(
            f"{name}: labels must be integers from 0 to the number of classes − 1, each at least "
            f"once, got {found.dtype} {found[:20].tolist()}; number the classes anew"
        )
    return len(found)


def mnist1d(
    *, train_size: int = 2000, validation_size: int = 2000, test_size: int = 4000, seed: int = 42
) -> Dataset:
    """Makes MNIST-1D: ten noisy, shifted and sheared waveforms of 40 samples.

    Inputs have mean 0 and standard deviation 1 over all points together. They are generated in
    about two seconds and never downloaded; the global generators that the package seeds are put
    back.

    Args:
        train_size: number of training points.
        validation_size: number of validation points.
        test_size: number of test points; the three sizes together are a multiple of 10.
        seed: seed of the generator; 42 is the package's own.

    Raises:
        ValueError: a size is not positive, or the ten classes cannot have the same size.

    Examples:
        >>> mnist1d(train_size=30, validation_size=10, test_size=20).x_train.shape
        (30, 40)

    Source: Greydanus & Kobak, arXiv 2011.14439.
    """
    sizes = train_size, validation_size, test_size
    total = sum(sizes)
    if min(sizes) < 1 or total % 10:
        raise ValueError(
            "train_size, validation_size and test_size must be positive and add up to a multiple "
            "of "
            f"10 (equal classes), got {train_size}, {validation_size} and {test_size}; for example "
            f"2000, 2000 and 4000"
        )
    settings = get_dataset_args()
    settings.num_samples, settings.seed = total, seed
    # The package truncates total·train_split; the half keeps rounding from losing a point.
    settings.train_split = (train_size + 0.5) / total
    with _global_generators_kept():
        made = make_dataset(settings)
    # the package knows two splits: validation is a part of its test
    x, y = made["x_test"], made["y_test"]
    return from_splits(
        "mnist1d",
        (40, 1),
        train=(made["x"], made["y"]),
        validation=(x[:validation_size], y[:validation_size]),
        test=(x[validation_size:], y[validation_size:]),
    )


def digits(*, train_size: int = 300, validation_size: int = 500, seed: int = 0) -> Dataset:
    """Loads handwritten digits: real 8×8 grey images, flattened.

    Their 64 pixels are in [0, 1].

    The training split is small, since with most of the 1797 images the task saturates and every
    regularisation looks alike; all splits are stratified, and all other images are the test set.

    Args:
        train_size: number of training images.
        validation_size: number of validation images.
        seed: seed of the splits.

    Raises:
        ValueError: a split would have fewer images than there are classes.

    Examples:
        >>> digits().x_train.shape, digits().x_validation.shape, digits().x_test.shape
        ((300, 64), (500, 64), (997, 64))

    Source: UCI ML handwritten digits (Alpaydin & Kaynak 1998), as shipped with scikit-learn.
    """
    # with most of the images the task saturates, and every regularisation looks alike
    pixels, labels = load_digits(return_X_y=True)
    sizes = train_size, validation_size, len(labels) - train_size - validation_size
    classes = _count_classes("digits", labels)
    if min(sizes) < classes:
        raise ValueError(
            "train_size and validation_size must leave each of the three splits an image of each "
            "of the "
            f"{classes} classes, got {train_size} and {validation_size} of {len(labels)} images"
        )
    split = partial(train_test_split, random_state=seed)
    x_train, x, y_train, y = split(pixels / 16, labels, train_size=train_size, stratify=labels)
    x_validation, x_test, y_validation, y_test = split(x, y, train_size=validation_size, stratify=y)
    return from_splits(
        "digits",
        (8, 8, 1),
        train=(x_train, y_train),
        validation=(x_validation, y_validation),
        test=(x_test, y_test),
    )


def cifar10(path: str | Path, *, validation_size: int = 5000) -> Dataset:
    """Loads CIFAR-10, colour images of 32×32 pixels, from a file of yours.

    Each channel gets mean 0 and deviation 1, as of the training images. The last
    `validation_size` of ``x_train`` are the validation set. Shapes, types and sizes are checked
    before an array is loaded.

    Args:
        path: an .npz file with ``x_train``, ``x_test``, uint8 [n, 32, 32, 3], and ``y_train``,
            ``y_test``, integers 0…9 [n] or [n, 1].
        validation_size: number of validation images.

    Raises:
        ValueError: names the file, and the array that is missing or not of this shape, type or
          range.

    Examples:
        >>> data = cifar10("cifar10.npz")  # doctest: +SKIP
        >>> data.x_train.shape  # doctest: +SKIP
        (45000, 3072)

    Source: Krizhevsky 2009; the split and normalisation are the usual ones.
    """
    length = _check_cifar10(path, "x_train", "y_train")
    _check_cifar10(path, "x_test", "y_test")
    size = length - validation_size
    if min(size, validation_size) < 1:
        raise ValueError(
            f"{path}: validation_size must leave both splits one of the {length} images in "
            f"x_train, got {validation_size}"
        )
    y, y_test = (_cifar10_labels(path, name) for name in ("y_train", "y_test"))
    x, x_test = (load_array(path, name) for name in ("x_train", "x_test"))
    channels = [x[:size, ..., channel] for channel in range(3)]
    mean, deviation = np.array([[c.mean(), c.std()] for c in channels], np.float32).T
    for channel in np.flatnonzero(deviation == 0)[:1]:
        raise ValueError(f"{path}: channel {channel} of x_train is the same in every pixel")
    return from_splits(
        "cifar10",
        (32, 32, 3),
        num_classes=_CIFAR10_CLASSES,
        train=((x[:size] - mean) / deviation, y[:size]),
        validation=((x[size:] - mean) / deviation, y[size:]),
        test=((x_test - mean) / deviation, y_test),
    )


_CIFAR10_CLASSES = 10


def _check_cifar10(path: str | Path, x_name: str, y_name: str) -> int:
    """Counts the images of a split, if its headers are right."""
    images, labels = header(path, x_name), header(path, y_name)
    length = images.shape[0] if images.shape else 0
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or not length:
        raise ValueError(
            f"{path}: {x_name} must be uint8 [n, 32, 32, 3] and not empty, got {images.dtype} "
            f"{list(images.shape)}; store the images as they are distributed, channels last"
        )
    # a file of a few kilobytes may promise terabytes of zeros
    if images.bytes > 100 * images.compressed_bytes:
        raise ValueError(
            f"{path}: {x_name} is {images.bytes} bytes compressed to {images.compressed_bytes}, "
            "which no photographs are; check what was stored"
        )
    if labels.dtype.kind not in "iu" or labels.shape not in [(length,), (length, 1)]:
        raise ValueError(
            f"{path}: {y_name} must be integers [{length}] or [{length}, 1], one for each image, "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    return length


def _cifar10_labels(path: str | Path, name: str) -> npt.NDArray[Any]:
    labels = load_array(path, name).reshape(-1)
    for row in np.flatnonzero((labels < 0) | (labels >= _CIFAR10_CLASSES))[:1]:
        raise ValueError(
            f"{path}: {name}[{row}] is {labels[row]}; labels must be in 0…{_CIFAR10_CLASSES - 1}"
        )
    return labels


FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""


def from_file(
    path: str | Path,
    *,
    train_size: int = 2000,
    validation_size: int = 2000,
    test_size: int = 5000,
) -> Dataset:
    """Loads a data set of yours, or Fashion-MNIST, from files.

    Of more examples than the sizes some are drawn at random, the same ones every time; of fewer a
    quarter of the training examples is for validation. Images get mean 0 and deviation 1 in each
    channel, and flat inputs in each feature, as of the examples that are trained on.

    Args:
        path: an .npz file with ``x_train`` and ``x_test``, real numbers ``[n, features]``, ``[n,
          height, width]`` or ``[n, height, width, channels]``, and ``y_train`` and ``y_test``,
          integers from 0 ``[n]``; or a folder of gzipped idx files with the names of MNIST's.
        train_size: number of training examples, if there are as many.
        validation_size: number of validation examples, at most a quarter of `x_train`.
        test_size: number of test examples, if there are as many.

    Raises:
        ValueError: names the file, and the array that is missing, damaged, of Python objects, or
          not of such a shape, type or range; there is one class only.
        OSError: the file is not there, or not to be read.

    Examples:
        >>> data = from_file(FASHION_MNIST)  # doctest: +SKIP
        >>> data.name, data.x_train.shape, data.num_classes  # doctest: +SKIP
        ('fashion-mnist', (2000, 784), 10)

    Source: Xiao et al., arXiv 1708.07747 (Fashion-MNIST).
    """
    path = Path(path)
    arrays = files.read(path)
    classes = _count_classes(str(path), arrays.y_train, arrays.y_test)
    if classes < 2:
        raise ValueError(
            f"{path}: labels must be of two classes or more, got {classes}; add others"
        )
    shape, splits = files.draw(arrays, train_size, validation_size, test_size)
    return from_splits(files.name_of(path), shape, num_classes=classes, **splits)


DATASETS: Mapping[str, Callable[[], Dataset]] = {
    "mnist1d": mnist1d,
    "digits": digits,
    "fashion-mnist": partial(from_file, FASHION_MNIST),
}


def load(name: str | Path) -> Dataset:
    """Loads the data set of this name, or of a file, and checks it.

    Raises:
        ValueError: the name is unknown, or the data set fails a check.
        OSError: the file is not there, or not to be read.

    Examples:
        >>> load("digits").num_classes
        10
    """
    if isinstance(name, Path):
        return validated(from_file(name))
    if name not in DATASETS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}; got {name!r}")
    return validated(DATASETS[name]())


def validated(dataset: Dataset) -> Dataset:
    """Returns the same data set, if it passes every check.

    Shapes must agree, inputs must be finite, and labels must be in range.

    Raises:
        ValueError: names the data set, the array and the first offending index.

    Examples:
        >>> import numpy as np
        >>> x, y = np.zeros((2, 3), np.float32), np.array([0, 5], np.int32)
        >>> validated(Dataset("toy", x, y, x, y, x, y, num_classes=2, shape=(3, 1)))
        Traceback (most recent call last):
        ValueError: toy: y_train[1] is 5; labels must be in 0…1
    """
    for split in ("train", "validation", "test"):
        _check_split(dataset, f"x_{split}", f"y_{split}")
    return dataset


def _check_split(dataset: Dataset, x_name: str, y_name: str) -> None:
    name, x, y = dataset.name, getattr(dataset, x_name), getattr(dataset, y_name)
    if x.ndim != 2 or x.size == 0 or x.dtype != np.float32:
        raise ValueError(
            f"{name}: {x_name} must be float32 [n, features] and not empty, "
            f"got {x.dtype} {list(x.shape)}; reshape and cast it"
        )
    if x.shape[1] != math.prod(dataset.shape):
        raise ValueError(
            f"{name}: {x_name} has {x.shape[1]} features, but shape {dataset.shape} has "
            f"{math.prod(dataset.shape)}; they must agree"
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
