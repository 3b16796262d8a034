"""The folders above a study's sweeps as groups of one Zarr tree."""

from pathlib import Path

import numpy as np
import xarray as xr

from decoupled_wd.study.grid import layout
from decoupled_wd.study.grid.store import digest


def check_groups(root: Path) -> None:
    """Refuses a tree whose groups above the sweeps are damaged, before any training.

    Args:
      root: the folder of `index`; it need not be there.

    Raises:
      ValueError: names each damaged file.
    """
    damaged = [str(file) for folder in _groups(root) for file in layout.damaged_group_files(folder)]
    if damaged:
        raise ValueError(
            f"store {root} is damaged above its sweeps; delete {', '.join(damaged)} and run again: "
            f"what is deleted is written anew, finished blocks are kept"
        )


def index(root: Path) -> None:
    """Makes one tree of `root`: the folders above sweeps become groups."""
    layout.make_groups(root, _groups(root))


def fingerprint(root: Path) -> str:
    """Returns one digest of the names, axes and numbers of all sweeps below a root.

    Two runs of a study that have the same digest had the same numbers to the last bit.
    """
    sweeps = sorted(layout.sweeps_below(root))
    return digest(*(part for each in sweeps for part in _content(root, each)))


def _content(root: Path, sweep: Path) -> tuple[str, dict[str, np.ndarray]]:
    with xr.open_zarr(sweep, chunks=None) as found:
        arrays = {str(name): found[name].values for name in sorted(found.variables, key=str)}
    return sweep.relative_to(root).as_posix(), arrays


def _groups(root: Path) -> list[Path]:
    """Lists `root` and the folders between it and the sweeps.

    No other folder is ours.
    """
    sweeps = [each.relative_to(root) for each in layout.sweeps_below(root)]
    # a folder without a sweep below it is somebody else's
    above = {root / parent for sweep in sweeps for parent in sweep.parents}
    # a study whose claims train no sweep has a root all the same
    return sorted(above | {root})
