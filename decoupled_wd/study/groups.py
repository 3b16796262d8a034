"""The folders above a study's sweeps as groups of one Zarr tree."""

import json
from collections.abc import Iterator
from pathlib import Path

import zarr

from decoupled_wd.study.description import ATTRIBUTES, CHECKSUM, CONSOLIDATED, LAST


def check_groups(root: Path) -> None:
    """ValueError that names each damaged file of the groups above the sweeps in `root`, before any training.

    Args:
      root: the folder of `index`; it need not be there.
    """
    damaged = [
        str(folder / name)
        for folder in _groups(root)
        for name in (LAST, ATTRIBUTES, CONSOLIDATED)
        if (folder / name).exists() and not _is_object(folder / name)
    ]
    if damaged:
        raise ValueError(
            f"store {root} is damaged above its sweeps; delete {', '.join(damaged)} and run again: what is "
            f"deleted is written anew, finished blocks are kept"
        )


def index(root: Path) -> None:
    """Make the folders above the sweeps in `root` groups, so that it opens as one tree."""
    for folder in _groups(root):
        zarr.open_group(folder, mode="a", zarr_format=2)
    zarr.consolidate_metadata(root, zarr_format=2)


def _groups(root: Path) -> Iterator[Path]:
    """`root` and the folders between it and the sweeps, which have checksums."""
    if root.is_dir() and not (root / CHECKSUM).exists():
        yield root
        for folder in sorted(root.iterdir()):
            yield from _groups(folder)


def _is_object(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except (OSError, ValueError):
        return False
