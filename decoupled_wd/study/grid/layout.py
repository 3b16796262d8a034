"""Where everything lies in a store, and under which name: the one module that knows Zarr's files.

A store is a Zarr group of format 2, as xarray writes it::

    .zattrs, .zgroup, .zmetadata   the attributes, the group, and a copy of all descriptions
    rate/, seed/, epoch/ …         the axes
    error/0.1.0.0                  a metric: one file a block, named by its place in the grid
    checksum/0.1.0                 one number a cell, the same for all cells of a block
    checksum/.lock                 held by the process that trains

What of this Zarr and xarray can do is theirs: arrays, chunks, codecs, consolidated metadata, files
that are replaced whole. Kept by hand is what they cannot do. The codec crc32c protects the bytes
of one chunk, but a chunk that was swapped with another, or comes from another sweep, has a right
one: our checksum covers the place and the configuration too, and it is a file of its own, written
after all metrics of its block. Sharding puts many blocks into one file, which processes would have
to write in turn and which a kill would leave half written. xarray's region writes are the same
assignments to arrays, after it has read all descriptions again. And no library asks whether a
folder is another's before it writes there.
"""

import contextlib
import json
import re
import uuid
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from decoupled_wd.study.grid.blocks import Block

Attributes: TypeAlias = Mapping[str, object]
Arrays: TypeAlias = dict[str, zarr.Array[Any]]

FORMAT = 2
"""The version of our own layout; since 2 the checksum of a block covers its place."""
ZARR_FORMAT: Literal[2] = 2
CHECKSUM = "checksum"
# in an array, where readers look for no groups
LOCK = f"{CHECKSUM}/.lock"
ATTRIBUTES, CONSOLIDATED = ".zattrs", ".zmetadata"
LAST = ".zgroup"
"""Written after all other files: with it, the description is whole."""
DESCRIPTION = "zarr.json"
"""What Zarr's format 3 calls its descriptions."""
AXES, METRICS, BLOCK = "axes", "metrics", "block"
VALUES = "values"
"""The attribute that is the digest of the axes."""
RESERVED = frozenset({"seed", "epoch", CHECKSUM, DESCRIPTION})
"""Names that no hyperparameter and no metric can have."""

_INDEX = r"\d+(\.\d+)*"
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.partial$")


def store_of(out: Path, profile: str) -> Path:
    """Returns the store of a study, in the folder of its results."""
    return out / f"{profile}.zarr"


def lock_of(out: Path) -> Path:
    """Returns the lock of a study, in the folder of its results."""
    return out / ".lock"


def attributes(
    axes: Collection[str],
    metrics: Iterable[str],
    block: Iterable[int],
    values: str,
    configuration: Attributes,
) -> dict[str, object]:
    """Returns the attributes by which a sweep is known again.

    `values` is the digest of the axes.
    """
    return {
        "format": FORMAT,
        **configuration,
        AXES: ", ".join(axes),
        METRICS: ", ".join(metrics),
        BLOCK: list(block),
        VALUES: values,
    }


def is_sweep(found: Attributes) -> bool:
    """Tells whether these attributes are those of some sweep."""
    return found.keys() >= {AXES, METRICS, BLOCK}


def template(
    axes: Mapping[str, np.ndarray], metrics: Mapping[str, np.dtype], attributes: Attributes
) -> xr.Dataset:
    """Returns an empty store: metrics, and a checksum for each cell.

    Floats are NaN, other metrics and the checksums are 0.
    """
    shape = tuple(len(axis) for axis in axes.values())
    dims = tuple(axes)
    variables = {
        name: (dims, np.full(shape, np.nan if np.issubdtype(dtype, np.inexact) else 0, dtype))
        for name, dtype in metrics.items()
    }
    variables[CHECKSUM] = (dims[:-1], np.zeros(shape[:-1], np.uint32))
    return xr.Dataset(variables, coords=dict(axes), attrs=dict(attributes))


def files(dataset: xr.Dataset, block: tuple[int, ...]) -> dict[str, bytes]:
    """Returns the description of a template's store, by file."""
    # all epochs of a block lie in one file, which is there or is not
    encoding = {
        name: {"chunks": (*block, *array.shape[len(block) :])} for name, array in dataset.items()
    }
    memory: dict[str, Any] = {}
    dataset.to_zarr(
        MemoryStore(memory), encoding=encoding, zarr_format=ZARR_FORMAT, consolidated=True
    )
    return {name: content.to_bytes() for name, content in memory.items()}


def in_order(names: Iterable[str]) -> list[str]:
    """Sorts the files of a description into the order in which they are written.

    The attributes are first, since they say whose it is, and the group is last, since it says that
    all is there. So what a kill leaves is known again.
    """
    return sorted(names, key=lambda name: (name == LAST, name != ATTRIBUTES))


def has_whole_description(path: Path) -> bool:
    """Tells whether the writer of this store came to its end."""
    return (path / LAST).is_file() and (path / CHECKSUM).is_dir()


def open_arrays(path: Path, names: Iterable[str]) -> Arrays:
    """Opens arrays to be read and written, bit for bit.

    By default Zarr would leave chunks of NaN out.
    """
    with zarr.config.set({"array.write_empty_chunks": True}):
        return {name: zarr.open_array(path, path=name, mode="r+") for name in names}


def coordinates(path: Path, names: Iterable[str]) -> dict[str, list[Any]]:
    """Reads what can be read of the axes of a store."""
    found: dict[str, list[Any]] = {}
    for name in names:
        # whatever a codec makes of a damaged file
        with contextlib.suppress(Exception):
            found[name] = np.asarray(zarr.open_array(path, path=name, mode="r")[:]).tolist()
    return found


def copies_of_attributes(path: Path) -> list[dict[str, Any]]:
    """Reads the attributes, of which a store has two copies.

    Each is empty where it cannot be read.
    """
    return [_attributes(path, ATTRIBUTES), _attributes(path, CONSOLIDATED, "metadata", ATTRIBUTES)]


def _attributes(path: Path, name: str, *keys: str) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        found = json.loads((path / name).read_bytes())
        for key in keys:
            found = found[key]
        return dict(found)
    return {}


def marker(path: Path, where: Block, block: tuple[int, ...]) -> Path:
    """Returns the file of a block's checksum.

    Without it the block is trained anew.
    """
    index = (part.start // side for part, side in zip(where, block, strict=True))
    return path / CHECKSUM / ".".join(map(str, index))


def is_block(name: str) -> bool:
    """Tells whether a file is a block of some array.

    It is given by its path in the store.

    Examples:
      >>> is_block("error/0.1.0"), is_block("error/.zarray"), is_block("notes/1.txt")
      (True, False, False)
    """
    return re.fullmatch(rf"[^/]+/{_INDEX}", name) is not None


def unfinished(file: Path) -> Path:
    """Returns a new name for a file that is being written.

    It is of the kind that Zarr gives too.
    """
    return file.with_name(f"{file.name}.{uuid.uuid4().hex}.partial")


def finished_name(name: str) -> str:
    """Returns the name that an unfinished file would have got."""
    return _UNFINISHED.sub("", name)


def is_leftover(name: str) -> bool:
    """Tells whether a kill left this file.

    Such a file is the unfinished form of one that a store has.
    """
    whole = finished_name(name)
    return whole != name and re.fullmatch(rf"\.z\w+|[^/]+/(\.z\w+|{_INDEX})", whole) is not None


def sweeps_below(root: Path) -> list[Path]:
    """Lists the stores below a folder, which are known by their checksums."""
    return [each.parent for each in root.rglob(CHECKSUM) if each.is_dir()]


def damaged_group_files(folder: Path) -> list[Path]:
    """Lists the files that describe a group and cannot be read as such."""
    found = [folder / name for name in (LAST, ATTRIBUTES, CONSOLIDATED)]
    return [file for file in found if file.exists() and not _describes_group(file)]


def _describes_group(file: Path) -> bool:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    # an empty file of attributes is legal, a group without its format is none
    needed = {LAST: {"zarr_format": 2}, CONSOLIDATED: {"zarr_consolidated_format": 1}}
    if not isinstance(found, dict) or not found.items() >= needed.get(file.name, {}).items():
        return False
    return file.name != CONSOLIDATED or isinstance(found.get("metadata"), dict)


def make_groups(root: Path, folders: Iterable[Path]) -> None:
    """Makes folders groups, and writes a copy of all descriptions into their root."""
    for folder in folders:
        zarr.open_group(folder, mode="a", zarr_format=ZARR_FORMAT)
    with warnings.catch_warnings():
        # a user's own files beside the sweeps are none of our business
        warnings.filterwarnings("ignore", "Object at .* is not recognized")
        zarr.consolidate_metadata(root, zarr_format=ZARR_FORMAT)
