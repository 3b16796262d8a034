"""The finished cells of a sweep, in memory and, if wanted, in a Zarr store that survives any stop.

A block is written first, then a checksum for each of its cells: a cell with a checksum is
finished. Files are replaced whole, so that a kill leaves a block either written or not, and the
blocks of different processes are different files. The checksum covers the configuration and the
block's place: a block of another sweep or from elsewhere in the grid has none here.
"""

import contextlib
import errno
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import jax
import numpy as np
import xarray as xr
from jax.experimental import multihost_utils

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.grid import description, layout
from decoupled_wd.study.grid.blocks import Block, Results, blocks
from decoupled_wd.study.grid.layout import CHECKSUM
from decoupled_wd.study.grid.locks import locked

READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


class Store:
    """Keeps metrics over the axes of a grid, block by block.

    See `decoupled_wd.study.sweep` for the errors.
    """

    def __init__(
        self,
        path: Path | None,
        axes: Mapping[str, np.ndarray],
        metrics: Mapping[str, np.dtype],
        block: tuple[int, ...],
        configuration: layout.Attributes,
    ) -> None:
        """Describes the store at `path`; None keeps everything in memory."""
        values = digest(*axes.values())
        attributes = layout.attributes(axes, metrics, block, values, configuration)
        self._path, self._block = path, block
        self._data = layout.template(axes, metrics, attributes)
        # the same numbers in another sweep have another checksum
        self._salt = digest(json.dumps(attributes)).encode()
        self._arrays: layout.Arrays = {}
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Opens the store or makes it, and keeps other processes out."""
        if self._path is not None:
            with self._held:
                refused = self._open(self._path)
                self._read()
                # a finished store may lie where nothing can be written
                if refused and self.cells < self._data[CHECKSUM].size:
                    with _kept(self._path):
                        raise refused
                # all went well: the lock outlives this block, until __exit__
                self._held = self._held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Lets other processes in."""
        self._held.close()

    @property
    def cells(self) -> int:
        """Counts the finished cells."""
        return int(np.count_nonzero(self._data[CHECKSUM]))

    def has(self, where: Block) -> bool:
        """Tells whether a block is finished."""
        return bool(self._data[CHECKSUM].values[where].all())

    def write(self, where: Block, metrics: Results) -> None:
        """Keeps a block, then its checksum."""
        # the checksum is last: a kill before it leaves a block that is trained again
        shape = [part.stop - part.start for part in where]
        for name, values in {
            **metrics,
            CHECKSUM: np.full(shape, self._crc(where, metrics), np.uint32),
        }.items():
            if self._path is not None:
                with _kept(self._path):
                    self._arrays[name][where] = values
            self._data[name].values[where] = values

    def dataset(self) -> xr.Dataset:
        """Returns everything measured, once all processes are done."""
        if jax.process_count() > 1:
            # only now has every process written its share
            _barrier("the store is complete")
            self._read()
        if self.cells < self._data[CHECKSUM].size:
            raise ValueError(
                f"store must be one folder that all processes share, but in {self._path} the "
                f"blocks of others are missing"
            )
        return self._data.drop_vars(CHECKSUM)

    def _open(self, path: Path) -> OSError | None:
        """Locks the store, makes what is missing, and opens its arrays.

        Returns the error of a place that is read-only.
        """
        files = layout.files(self._data, self._block)
        refused = None
        with _kept(path):
            if jax.process_index() == 0:
                description.claim(path, files, self._data)
                refused = self._lock(path)
                if not refused:
                    # once more: it may have been made meanwhile
                    description.claim(path, files, self._data)
                    description.write(path, files)
            # the first process writes the description, and all others read it
            _barrier("the store exists")
            description.check(path, files, files, self._data)
            self._arrays = layout.open_arrays(path, map(str, self._data))
        return refused

    def _lock(self, path: Path) -> OSError | None:
        """Keeps other processes out.

        Returns the error, for a store that is there and that nobody can write to.
        """
        file = path / layout.LOCK
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(locked(file, f"store {path}"))
        except OSError as error:
            if error.errno in READ_ONLY and (path / layout.LAST).exists():
                return error
            raise
        return None

    def _read(self) -> None:
        damaged = [
            where
            for where in blocks(self._data[CHECKSUM].shape, self._block)
            if not self._load(where)
        ]
        if damaged:
            files = ", ".join(str(self._marker(where)) for where in damaged)
            raise ValueError(
                f"{self._path} is damaged in {len(damaged)} of its blocks; delete {files} and run "
                f"the same again to train only those anew"
            )

    def _load(self, where: Block) -> bool:
        """Takes in a block if it is finished.

        Returns False if its numbers are not those that were written.
        """
        try:
            found = {name: np.asarray(array[where]) for name, array in self._arrays.items()}
        except Exception:  # whatever a codec makes of a damaged file
            # without a checksum it was not finished, and is trained again
            return not self._marker(where).exists()
        checksum = found.pop(CHECKSUM)
        if not checksum.any():
            return True
        for name, values in {**found, CHECKSUM: checksum}.items():
            self._data[name].values[where] = values
        return bool((checksum == self._crc(where, found)).all())

    def _marker(self, where: Block) -> Path:
        return layout.marker(Path(str(self._path)), where, self._block)

    def _crc(self, where: Block, metrics: Results) -> int:
        """Returns the CRC-32 of place and numbers.

        It is never 0, which marks an unfinished cell.
        """
        crc = zlib.crc32(repr([part.start for part in where]).encode(), zlib.crc32(self._salt))
        for name in sorted(metrics):
            crc = zlib.crc32(np.ascontiguousarray(metrics[name]).tobytes(), crc)
        # 0 marks what was never written
        return crc or 1


def digest(*values: PyTree) -> str:
    """Returns a fingerprint of text and of trees of arrays."""
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(values):
        array = leaf if isinstance(leaf, str) else np.ascontiguousarray(leaf)
        sha.update(array.encode() if isinstance(array, str) else array.tobytes())
        # the same bytes are another array in another shape or dtype
        sha.update(f"{getattr(array, 'shape', '')}{getattr(array, 'dtype', '')}".encode())
    return sha.hexdigest()[:16]


@contextlib.contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Says in an OSError what to do about it."""
    try:
        yield
    except BlockingIOError:  # another process has it, which says what to do
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = (
            "finished cells are kept: make room or choose a writable folder and run the same again"
        )
        raise OSError(error.errno or errno.EIO, f"{reason}; {remedy}", str(path)) from error


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
