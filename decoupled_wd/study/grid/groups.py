"""The folders above a study's sweeps as groups of one Zarr tree."""

from pathlib import Path

from decoupled_wd.study.grid import layout


def check_groups(root: Path) -> None:
    """Refuses a tree whose groups above the sweeps are damaged.

    That is told before any training.

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


def _groups(root: Path) -> list[Path]:
    """Lists `root` and the folders between it and the sweeps.

    No other folder is ours.
    """
    sweeps = [each.relative_to(root) for each in layout.sweeps_below(root)]
    # a folder without a sweep below it is somebody else's
    above = {root / parent for sweep in sweeps for parent in sweep.parents}
    return sorted(above | {root})
