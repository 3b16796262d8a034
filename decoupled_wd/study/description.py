"""The files of a Zarr store that say what is in it: all but the numbers of its blocks."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.storage import MemoryStore

CHECKSUM = "checksum"
LAST = ".zgroup"  # written after all other files: with it, the description is whole


def template(
    axes: Mapping[str, Any], metrics: Mapping[str, Any], attributes: Mapping[str, Any]
) -> xr.Dataset:
    """Metrics over the axes, floats NaN and others 0, and a checksum for each cell."""
    shape = tuple(len(axis) for axis in axes.values())
    dims = tuple(axes)
    variables: dict[str, Any] = {
        name: (dims, np.full(shape, np.nan if np.issubdtype(dtype, np.inexact) else 0, dtype))
        for name, dtype in metrics.items()
    }
    variables[CHECKSUM] = (dims[:-1], np.zeros(shape[:-1], np.uint32))
    return xr.Dataset(variables, coords=dict(axes), attrs=dict(attributes))


def files(dataset: xr.Dataset, block: tuple[int, ...]) -> dict[str, bytes]:
    """The store of a template, by file."""
    encoding = {
        name: {"chunks": (*block, *array.shape[len(block) :])} for name, array in dataset.items()
    }
    memory: dict[str, Any] = {}
    dataset.to_zarr(MemoryStore(memory), encoding=encoding, zarr_format=2, consolidated=True)
    return {name: content.to_bytes() for name, content in memory.items()}


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Write what `files` gives unless it is there, and clean up after a kill."""
    if path.exists() and any(path.iterdir()) and not (path / CHECKSUM).exists():
        raise ValueError(f"store {path} is a folder of something else; pass a new or an empty one")
    for leftover in path.rglob("*.partial"):
        leftover.unlink()
    if (path / LAST).exists():
        return
    # the checksums' folder is first: what a kill leaves is known again
    for name in sorted(files, key=lambda name: (name == LAST, not name.startswith(CHECKSUM))):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.partial")
        partial.write_bytes(files[name])
        partial.replace(file)


def check(path: Path, files: Mapping[str, bytes], wanted: xr.Dataset) -> None:
    """ValueError that names each thing in which the store at `path` differs from the wanted one."""
    stale = [name for name, content in files.items() if _content(path / name) != content]
    if not stale:
        return
    found, now = _found(path, wanted), {**wanted.attrs, **_coordinates(wanted)}
    differing = [
        f"{name} (store: {found[name]}, now: {value})"
        for name, value in now.items()
        if name in found and found[name] != value
    ]
    raise ValueError(
        f"store {path} holds another sweep, or its description is damaged; it differs in "
        f"{', '.join(differing or stale)}. Pass the arguments of that sweep (program is the model, loss, "
        f"metric and optimizer; block follows from memory) or another folder. If they are those, delete the "
        f"file {path / LAST} and run again: the description is written anew, finished blocks are kept"
    )


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _coordinates(dataset: xr.Dataset) -> dict[str, Any]:
    return {str(name): axis.values.tolist() for name, axis in dataset.coords.items()}


def _found(path: Path, wanted: xr.Dataset) -> dict[str, Any]:
    """What can be read of the store's attributes and coordinates."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        found |= json.loads((path / ".zattrs").read_bytes())
    for name in map(str, wanted.coords):
        with contextlib.suppress(Exception):  # whatever a codec makes of a damaged file
            found[name] = np.asarray(zarr.open_array(path, path=name, mode="r")[:]).tolist()
    return found
