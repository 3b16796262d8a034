"""Arrays of an .npz file, whose headers are read first: what is not wanted is never loaded.

NumPy alone would take the memory that a header asks for, whatever is behind it.
"""

import contextlib
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Header(NamedTuple):
    """Holds what an .npz file says of one of its arrays."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    bytes: int
    compressed_bytes: int


def header(path: str | Path, name: str) -> Header:
    """Reads what a file says of an array, not the array itself.

    What it says must agree with the size of the array.

    Raises:
        ValueError: names the file, and the array that is missing, damaged, or of Python objects.
    """
    # zipfile alone reads a header without its array
    with _reading(path, name), zipfile.ZipFile(path) as archive:
        files = {file.filename.removesuffix(".npy"): file for file in archive.infolist()}
        file = files.get(name)
        if file is None:
            raise LookupError(f"has no array {name}; it has {sorted(files)}")
        with archive.open(file) as array:
            version = np.lib.format.read_magic(array)
            if version not in _READ_HEADER:
                raise ValueError(f"version {version} of the .npy format")
            shape, _, dtype = _READ_HEADER[version](array)
            # where the header ends and the data should begin
            promised = array.tell() + math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never loaded")
        if promised != file.file_size:
            raise ValueError(f"its header promises {promised} bytes, and it has {file.file_size}")
        return Header(shape, dtype, file.file_size, file.compress_size)


# version 3.0 is for names of fields beyond Latin-1, which plain arrays lack
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def load_array(path: str | Path, name: str) -> npt.NDArray[Any]:
    """Loads an array; `header` tells whether it is worth its memory.

    Raises:
        ValueError: names the file and the array, which cannot be read.
    """
    with _reading(path, name), np.load(path) as arrays:
        array: npt.NDArray[Any] = arrays[name]
        return array


@contextlib.contextmanager
def _reading(path: str | Path, name: str) -> Iterator[None]:
    """Names the file and the array in a ValueError, whatever is wrong."""
    try:
        yield
    except LookupError as error:
        raise ValueError(f"{path}: {error.args[0]}") from error
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.filename is not None:
            # it is not there, or not to be read
            raise
        raise ValueError(
            f"{path}: {name} cannot be read ({error}); write the file with numpy.savez"
        ) from error


_UNREADABLE = (
    ValueError,
    TypeError,
    EOFError,
    # a position before the file's beginning
    OSError,
    MemoryError,
    # encrypted, or compressed by another method
    RuntimeError,
    zlib.error,
    zipfile.BadZipFile,
)
