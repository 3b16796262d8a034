"""The files that say what is in a store: claimed, written and checked before any training."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import xarray as xr

from decoupled_wd.study.grid import layout


def claim(path: Path, files: Mapping[str, bytes], wanted: xr.Dataset) -> None:
    """Refuses a folder that may not become, or go on as, this store.

    The folder must be new, empty, or its own.

    Nothing is changed. Own is a folder whose description is the wanted one as far as it is there;
    while it is incomplete, the folder must hold nothing else than files of this store.

    Raises:
      ValueError: the folder is of something else, or a store of another sweep, or damaged.
    """
    if not path.exists() or not any(path.iterdir()):
        return
    described = [name for name in files if (path / name).exists()]
    # an array alone is no proof: it may be another's
    if described:
        known = any(map(layout.is_sweep, layout.copies_of_attributes(path)))
    else:
        known = not any(map(layout.is_block, _entries(path)))
    if not known or not (layout.has_whole_description(path) or _is_own(path, files)):
        raise ValueError(f"store {path} is a folder of something else; pass a new or an empty one")
    check(path, described, files, wanted)


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes what of `files` is not there.

    It also unlinks what a killed writer of this store left.
    """
    folders = {name.rpartition("/")[0] for name in files}
    for name, leftover in _entries(path).items():
        if layout.is_leftover(name) and name.rpartition("/")[0] in folders:
            leftover.unlink(missing_ok=True)
    # each comes whole into its place: what a kill leaves is a leftover and never half a file
    for name in layout.in_order(files):
        file = path / name
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = layout.unfinished(file)
            try:
                partial.write_bytes(files[name])
                partial.replace(file)
            except OSError:
                partial.unlink(missing_ok=True)
                raise


def check(path: Path, names: Iterable[str], files: Mapping[str, bytes], wanted: xr.Dataset) -> None:
    """Refuses a store whose description is not the wanted one.

    Raises:
      ValueError: names each thing in which the sweep differs, or the files that are damaged.
    """
    stale = [name for name in names if _content(path / name) != files[name]]
    if not stale:
        return
    differing = _differing(path, wanted)
    if differing:
        raise ValueError(
            f"store {path} holds another sweep; it differs in {', '.join(differing)}. "
            f"Pass the arguments of that sweep (program is the model, loss, metric and optimizer; "
            f"block follows from memory; its numbers stand for that jaxlib and device) "
            f"or another folder"
        )
    damaged = ", ".join(str(path / name) for name in stale)
    raise ValueError(
        f"store {path}: its description is damaged; delete {damaged} and run again: "
        f"what is deleted is written anew, finished blocks are kept"
    )


def _is_own(path: Path, files: Mapping[str, bytes]) -> bool:
    """Tells whether all in the folder is of this store.

    That is its description, its blocks, the lock, and what a kill leaves.
    """
    folders = {name.partition("/")[0] for name in files if "/" in name}
    return all(
        name in folders if each.is_dir() else _is_file_of(name, files, folders)
        for name, each in _entries(path).items()
    )


def _is_file_of(name: str, files: Iterable[str], folders: Iterable[str]) -> bool:
    if name in {*files, layout.LOCK} or layout.finished_name(name) in files:
        return True
    numbers = layout.is_block(name) or layout.is_leftover(name)
    return numbers and name.partition("/")[0] in folders


def _entries(path: Path) -> dict[str, Path]:
    """Lists what is in the folder and in its folders."""
    tops = list(path.iterdir())
    below = (each for top in tops if top.is_dir() for each in top.iterdir())
    return {each.relative_to(path).as_posix(): each for each in (*tops, *below)}


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _differing(path: Path, wanted: xr.Dataset) -> list[str]:
    """Lists the attributes and coordinates that the store has otherwise.

    There are none if one of its copies is right in all.
    """
    copies = [found for found in layout.copies_of_attributes(path) if found]
    # as they come back from JSON
    now = json.loads(json.dumps(wanted.attrs))
    if any(found == now for found in copies):
        return []
    found = copies[0] if copies else {}
    wrong = {
        name: (found.get(name, "none"), value)
        for name, value in now.items()
        if found and name != layout.VALUES and found.get(name) != value
    }
    # the digest of the axes says that they differ; which does, and how, their values must say
    if not found or found.get(layout.VALUES) != now.get(layout.VALUES):
        now_axes = {str(name): axis.values.tolist() for name, axis in wanted.coords.items()}
        wrong |= {
            name: (axis, now_axes[name])
            for name, axis in layout.coordinates(path, now_axes).items()
            if axis != now_axes[name]
        }
    return [f"{name} (store: {then}, now: {value})" for name, (then, value) in wrong.items()]
