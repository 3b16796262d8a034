"""The files of a Zarr store that say what is in it: all but the numbers of its blocks."""

import contextlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.storage import MemoryStore

CHECKSUM = "checksum"
LOCK = f"{CHECKSUM}/.lock"  # in an array, where readers look for no groups
ATTRIBUTES, CONSOLIDATED = ".zattrs", ".zmetadata"
LAST = ".zgroup"  # written after all other files: with it, the description is whole
VALUES = "values"  # the attribute that is the digest of the axes
LEFTOVER = re.compile(
    r"\.[0-9a-f]{32}\.partial$"
)  # Zarr and `write` give unfinished files such names


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


def claim(path: Path, files: Mapping[str, bytes], wanted: xr.Dataset) -> None:
    """ValueError unless `path` may become or go on as this store: new, empty, or provably its own.

    Nothing is changed. Own is a folder whose description is the wanted one as far as it is there; while it is
    incomplete, the folder must hold nothing else than files of this store.
    """
    if not path.exists() or not any(path.iterdir()):
        return
    described = [name for name in files if (path / name).exists()]
    whole = (path / LAST).is_file() and (path / CHECKSUM).is_dir()
    # an array alone is no proof: it may be another's
    known = any(map(_is_sweep, _copies(path))) if described else not _blocks(path)
    if not known or not (whole or _is_own(path, files)):
        raise ValueError(f"store {path} is a folder of something else; pass a new or an empty one")
    check(path, described, files, wanted)


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Write what of `files` is not there, and unlink what a killed writer of this store left."""
    folders = {name.rpartition("/")[0] for name in files}
    for name, leftover in _entries(path).items():
        if _is_leftover(name) and name.rpartition("/")[0] in folders:
            leftover.unlink(missing_ok=True)
    # the attributes are first: by them, what a kill leaves is known again
    for name in sorted(files, key=lambda name: (name == LAST, name != ATTRIBUTES)):
        file = path / name
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_name(f"{file.name}.{uuid.uuid4().hex}.partial")
            try:
                partial.write_bytes(files[name])
                partial.replace(file)
            except OSError:
                partial.unlink(missing_ok=True)
                raise


def check(path: Path, names: Iterable[str], files: Mapping[str, bytes], wanted: xr.Dataset) -> None:
    """ValueError that names each thing in which those files of the store at `path` are not the wanted ones."""
    stale = [name for name in names if _content(path / name) != files[name]]
    if not stale:
        return
    differing = _differing(path, wanted)
    if differing:
        raise ValueError(
            f"store {path} holds another sweep; it differs in {', '.join(differing)}. Pass the arguments of that "
            f"sweep (program is the model, loss, metric and optimizer; block follows from memory; its numbers "
            f"stand for that jaxlib and device) or another folder"
        )
    damaged = ", ".join(str(path / name) for name in stale)
    raise ValueError(
        f"store {path}: its description is damaged; delete {damaged} and run again: what is deleted is written "
        f"anew, finished blocks are kept"
    )


def _is_own(path: Path, files: Mapping[str, bytes]) -> bool:
    """Whether all in the folder is of this store: its description, blocks, the lock, what a kill leaves."""
    folders = {name.partition("/")[0] for name in files if "/" in name}
    return all(
        name in folders
        if each.is_dir()
        else name in {*files, LOCK}
        or LEFTOVER.sub("", name) in files
        or (name.partition("/")[0] in folders and (_is_block(name) or _is_leftover(name)))
        for name, each in _entries(path).items()
    )


def _entries(path: Path) -> dict[str, Path]:
    """What is in the folder and in its folders, by its path from there."""
    tops = list(path.iterdir())
    below = (each for top in tops if top.is_dir() for each in top.iterdir())
    return {each.relative_to(path).as_posix(): each for each in (*tops, *below)}


def _blocks(path: Path) -> list[str]:
    return [name for name in _entries(path) if _is_block(name)]


def _is_block(name: str) -> bool:
    return re.fullmatch(r"[^/]+/\d+(\.\d+)*", name) is not None


def _is_leftover(name: str) -> bool:
    """Whether a kill left it: the name that Zarr and `write` give to a file of a store until it is whole."""
    whole = LEFTOVER.sub("", name)
    return whole != name and re.fullmatch(r"\.z\w+|[^/]+/(\.z\w+|\d+(\.\d+)*)", whole) is not None


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _differing(path: Path, wanted: xr.Dataset) -> list[str]:
    """Attributes and coordinates that the store has otherwise; none if one of its copies is right in all."""
    copies = [found for found in _copies(path) if found]
    now = json.loads(json.dumps(wanted.attrs))
    if any(found == now for found in copies):
        return []
    found = copies[0] if copies else {}
    axes = _coordinates(path, wanted)
    wrong = {
        name: (found.get(name, "none"), value)
        for name, value in now.items()
        if found and name != VALUES and found.get(name) != value
    }
    if not found or found.get(VALUES) != now.get(VALUES):
        now_axes = {str(name): axis.values.tolist() for name, axis in wanted.coords.items()}
        wrong |= {
            name: (axis, now_axes[name]) for name, axis in axes.items() if axis != now_axes[name]
        }
    return [f"{name} (store: {then}, now: {value})" for name, (then, value) in wrong.items()]


def _copies(path: Path) -> list[dict[str, Any]]:
    """The attributes as the store has them twice, empty where they cannot be read."""
    return [_attributes(path, ATTRIBUTES), _attributes(path, CONSOLIDATED, "metadata", ATTRIBUTES)]


def _attributes(path: Path, name: str, *keys: str) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        found = json.loads((path / name).read_bytes())
        for key in keys:
            found = found[key]
        return dict(found)
    return {}


def _is_sweep(attributes: Mapping[str, Any]) -> bool:
    return attributes.keys() >= {"axes", "metrics", "block"}


def _coordinates(path: Path, wanted: xr.Dataset) -> dict[str, Any]:
    """What can be read of the store's axes."""
    found: dict[str, Any] = {}
    for name in map(str, wanted.coords):
        with contextlib.suppress(Exception):  # whatever a codec makes of a damaged file
            found[name] = np.asarray(zarr.open_array(path, path=name, mode="r")[:]).tolist()
    return found
