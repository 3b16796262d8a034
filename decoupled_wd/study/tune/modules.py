"""What to tune: a module of the user's, or one of the study's networks on data."""

import importlib.util
import inspect
import math
import sys
from pathlib import Path
from typing import Any

from decoupled_wd.study.claims.optimizers import CONTENDERS, contender
from decoupled_wd.study.tasks.task import Task, held_out
from decoupled_wd.study.tune.search import tune

OCTAVES = 5
"""How far the ranges reach to both sides of the middle of the study's grids."""
# more than half of a weight a step is no decay
_MOST = {"weight_decay": 0.5}
OPTIONS = ("seconds", "runs", "storage", "study_name", "progress")
"""Arguments of `tune` that the command gives it, whatever a module has of that name."""
REPORTED = ("coupling", "mask")
"""What a module may define for the report alone: the unit of its λ, and which weights decay."""


def of_module(path: Path) -> dict[str, Any]:
    """Returns what a module defines for `tune` and its report, by its names.

    Raises:
      ValueError: there is no such module, it cannot be run, or it lacks what `tune` needs; the
        message names what.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if path.suffix != ".py" or not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python module; pass a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    # what lies beside the module can be imported by it
    sys.path.insert(0, str(path.parent.resolve()))
    # as an import does: dataclasses look up their module there
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    # whatever a user's module raises is told with its name
    except Exception as error:
        raise ValueError(
            f"{path} cannot be run ({type(error).__name__}: {error}); see that "
            f"`python {path}` ends without an error"
        ) from error
    arguments = inspect.signature(tune).parameters
    needed = [each for each, what in arguments.items() if what.default is what.empty]
    if missing := [name for name in needed if not hasattr(module, name)]:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; define what study.tune takes: {', '.join(needed)}"
        )
    taken = [name for name in (*arguments, *REPORTED) if name not in OPTIONS]
    names = [name for name in taken if hasattr(module, name)]
    return {name: getattr(module, name) for name in names}


def of_task(task: Task, optimizer: str) -> dict[str, Any]:
    """Returns the arguments of `tune` for a task of the study, under cosine annealing.

    λ is the paper's, what a step at the peak removes of each weight, or that of L2.

    Args:
      task: data, network and recipe.
      optimizer: one of `CONTENDERS`.
    """
    middle = CONTENDERS[optimizer]
    centres = {"learning_rate": middle.learning_rate, "weight_decay": middle.weight_decay}
    return {
        "make_optimizer": contender(optimizer, "cosine", task.steps),
        "space": {
            name: (centre * 2.0**-OCTAVES, min(centre * 2.0**OCTAVES, _MOST.get(name, math.inf)))
            for name, centre in centres.items()
        },
        "init": task.model.init,
        "loss": task.model.loss,
        "metric": task.model.evaluate,
        "train": (task.dataset.x_train, task.dataset.y_train),
        "test": held_out(task.dataset),
        "epochs": task.epochs,
        "batch_size": task.batch_size,
    }
