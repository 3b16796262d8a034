"""The folders above a study's sweeps as groups of one Zarr tree."""

import json
import warnings
from pathlib import Path

import zarr

from decoupled_wd.study.grid.layout import ATTRIBUTES, CHECKSUM, CONSOLIDATED, LAST


def check_groups(root: Path) -> None:
    """ValueError that names each damaged file of the groups above the sweeps in `root`, before any training.

    Args:
      root: the folder of `index`; it need not be there.
    """
    damaged = [
        str(folder / name)
        for folder in _groups(root)
        for name in (LAST, ATTRIBUTES, CONSOLIDATED)
        if (folder / name).exists() and not _is_whole(folder / name)
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
    with warnings.catch_warnings():
        # a user's own files beside the sweeps are none of our business
        warnings.filterwarnings("ignore", "Object at .* is not recognized")
        zarr.consolidate_metadata(root, zarr_format=2)


def _groups(root: Path) -> list[Path]:
    """`root` and the folders between it and the sweeps, which have checksums; no other folder is ours."""
    sweeps = [each.parent.relative_to(root) for each in root.rglob(CHECKSUM) if each.is_dir()]
    above = {root / parent for sweep in sweeps for parent in sweep.parents}
    return sorted(above | {root}) if root.is_dir() else []


def _is_whole(file: Path) -> bool:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    needed = {LAST: {"zarr_format": 2}, CONSOLIDATED: {"zarr_consolidated_format": 1}}
    if not isinstance(found, dict) or not found.items() >= needed.get(file.name, {}).items():
        return False
    return file.name != CONSOLIDATED or isinstance(found.get("metadata"), dict)
