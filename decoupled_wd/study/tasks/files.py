"""Training and test data of a file: an .npz of the user's, or a folder of idx files as MNIST's.

What is wrong with them is told before anything is trained, with the file and the array.
"""

import gzip
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from decoupled_wd.study.tasks.npz import header, load_array

Array: TypeAlias = npt.NDArray[Any]


class Arrays(NamedTuple):
    """Holds inputs ``[n, ...]`` and integer labels ``[n]`` to train and to test with."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
"""The files of a folder, by the names that MNIST, Fashion-MNIST and their like have."""


def read(path: Path) -> Arrays:
    """Reads the four arrays, and checks that they can be learned.

    Args:
        path: an .npz file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``, or a folder
          with the files `IDX`. Inputs are real numbers ``[n, ...]``, labels integers ``[n]`` or
          ``[n, 1]``.

    Raises:
        ValueError: names the file, and the array that is missing, damaged, of Python objects, or
          not of such a shape, type or range.
        OSError: the file is not there, or not to be read.
    """
    if path.is_dir():
        arrays = Arrays(*(_idx(path / name, 3 if "idx3" in name else 1) for name in IDX))
        _check_shapes(path, arrays._asdict())
    else:
        # what the headers say is checked first: an array that does not fit is never loaded
        _check_shapes(path, {name: header(path, name) for name in Arrays._fields})
        arrays = Arrays(*(load_array(path, name) for name in Arrays._fields))
    for name in ("x_train", "x_test"):
        _check_finite(path, name, getattr(arrays, name))
    if (arrays.x_train == arrays.x_train[:1]).all():
        raise ValueError(f"{path}: x_train is the same in every row; check what was stored")
    return arrays._replace(y_train=arrays.y_train.ravel(), y_test=arrays.y_test.ravel())


def name_of(path: Path) -> str:
    """Returns the name of a data set, which becomes that of a folder.

    Examples:
        >>> name_of(Path("my data, 2nd.npz"))
        'my-data-2nd'
    """
    return re.sub(r"\W+", "-", path.resolve().stem, flags=re.ASCII).strip("-") or "data"


class _Described(Protocol):
    """Describes an array, as the array itself does, and its header."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...


def _check_shapes(path: Path, arrays: Mapping[str, _Described]) -> None:
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if len(x.shape) < 2 or not math.prod(x.shape) or x.dtype.kind not in "buif":
            raise ValueError(
                f"{path}: x_{split} must be real numbers [n, ...] and not empty, got {x.dtype} "
                f"{list(x.shape)}; store one input in each row, as [n, features], [n, height, "
                "width] or [n, height, width, channels]"
            )
        rows = x.shape[0]
        if y.dtype.kind not in "iu" or y.shape not in [(rows,), (rows, 1)]:
            raise ValueError(
                f"{path}: y_{split} must be integers [{rows}], one for each row of x_{split}, "
                f"got {y.dtype} {list(y.shape)}; number the classes from 0"
            )
    shapes = [list(arrays[name].shape[1:]) for name in ("x_train", "x_test")]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{path}: x_train and x_test must hold inputs of one shape, got {shapes[0]} and "
            f"{shapes[1]}; reshape one"
        )


def _check_finite(path: Path, name: str, x: Array) -> None:
    # what float32 cannot hold becomes infinite, and is refused below
    with np.errstate(over="ignore"):
        lost = ~np.isfinite(x.astype(np.float32, copy=False))
    if lost.any():
        first = tuple(np.argwhere(lost)[0].tolist())
        raise ValueError(
            f"{path}: {name}{list(first)} is {x[first]}, which is no finite float32; "
            "remove or fill such values"
        )


def _idx(path: Path, dimensions: int) -> Array:
    """Reads one gzipped array of unsigned bytes.

    Source: the idx format of LeCun's MNIST: two zeros, the type 8, the number of dimensions, each
      of them as four bytes with the highest first, and the bytes.
    """
    try:
        with gzip.open(path) as file:
            start = file.read(4 + 4 * dimensions)
            shape = np.frombuffer(start[4:], ">u4").tolist()
            if start[:4] != bytes([0, 0, 8, dimensions]) or len(shape) != dimensions:
                raise ValueError(f"it starts with {start[:4].hex(' ')}")
            # one byte more than was promised would be one too many
            content = file.read(math.prod(shape) + 1)
        if len(content) != math.prod(shape):
            raise ValueError(f"its header promises {math.prod(shape)} bytes")
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} is no gzipped idx file of unsigned bytes in {dimensions} dimensions "
            f"({error}); get it anew"
        ) from error
    return np.frombuffer(content, np.uint8).reshape(shape)


def draw(
    arrays: Arrays, train_size: int, validation_size: int, test_size: int
) -> tuple[tuple[int, ...], dict[str, tuple[Array, Array]]]:
    """Draws three splits at random, the same ones every time, and scales them.

    Returns the shape of an input, channels last, and ``train``, ``validation`` and ``test``. At
    most a quarter of the training examples is for validation.

    Examples:
        >>> x, y = np.arange(8.0)[:, None], np.arange(8) % 2
        >>> shape, splits = draw(Arrays(x, y, x, y), 5, 9, 9)
        >>> shape, [len(labels) for _, labels in splits.values()]
        ((1, 1), [5, 2, 8])
    """
    x, y, x_test, y_test = arrays
    # one channel where there is none
    x, x_test = (each[..., None] if each.ndim < 4 else each for each in (x, x_test))
    rng = np.random.default_rng(0)
    rows, test = rng.permutation(len(x)), rng.permutation(len(x_test))[:test_size]
    held_out = min(validation_size, len(x) // 4)
    validation, train = rows[:held_out], rows[held_out:][:train_size]
    mean, deviation = scale_of(x[train])
    splits = {
        "train": ((x[train] - mean) / deviation, y[train]),
        "validation": ((x[validation] - mean) / deviation, y[validation]),
        "test": ((x_test[test] - mean) / deviation, y_test[test]),
    }
    return x.shape[1:], splits


def scale_of(x: Array) -> tuple[Array, Array]:
    """Returns the mean and deviation of each channel, or feature of flat inputs.

    Channels are last. What never changes gets the deviation 1, and so becomes 0.

    Examples:
        >>> [each.ravel().tolist() for each in scale_of(np.array([[[1.0], [5.0]], [[3.0], [5.0]]]))]
        [[2.0, 5.0], [1.0, 1.0]]
    """
    axes = tuple(range(x.ndim - 1)) if x.ndim > 3 else 0
    # float32 would lose digits in sums over so many rows
    mean = x.mean(axes, np.float64, keepdims=True)
    deviation = x.std(axes, np.float64, keepdims=True)
    return mean, np.where(deviation == 0, 1.0, deviation)
