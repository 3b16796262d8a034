"""What may be varied beside α and λ, and what laws say of the best λ as it varies."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from decoupled_wd import normalized
from decoupled_wd.study.tasks.networks import OF_WIDTH
from decoupled_wd.study.tasks.task import Task


def _first(task: Task, size: int) -> Task:
    """Returns the task with only the first training points."""
    data = task.dataset
    data = data._replace(x_train=data.x_train[:size], y_train=data.y_train[:size])
    return task._replace(dataset=data)


def _of_width(task: Task, width: int) -> Task:
    """Returns the task with a network of this width."""
    if task.of_width is None:
        raise ValueError(
            f"the network of {task.name} has no width to vary; take one of {', '.join(OF_WIDTH)}"
        )
    return task._replace(model=task.of_width(width))


VARY: Mapping[str, Callable[[Task, int], Task]] = MappingProxyType(
    {
        "epochs": lambda task, epochs: task._replace(epochs=epochs),
        "training points": _first,
        "batch size": lambda task, size: task._replace(batch_size=size),
        "width": _of_width,
    }
)
"""What may be varied, and how a task gets another one: the numbers in T·B/b, and the width."""


class Law(NamedTuple):
    """Holds what is said of the best λ along one axis."""

    at: Callable[[Task, int], float]
    """``at(task, value)``, the place on the axis."""
    statements: tuple[tuple[str, str, float], ...]
    """Each with the sense and the bound of its exponent d log λ* / d log place."""
    other: str
    """What λ is called in the unit of another law."""
    unit: Callable[[Task, int], float]
    """``unit(task, value)``, λ of a unit of that."""


LAWS: Mapping[str, Law] = MappingProxyType(
    {
        "steps": Law(
            lambda task, _: task.steps,
            (
                ("The best λ falls as the number of steps rises", "<", 0.0),
                # λ_norm = λ·√steps: its exponent is larger by a half, and nearer to 0 from −¼ on
                (
                    "The best normalised λ moves less with the number of steps than the best λ",
                    "<",
                    -0.25,
                ),
            ),
            "normalised λ",
            lambda task, _: normalized(
                1.0,
                batch_size=task.batch_size,
                dataset_size=len(task.dataset.y_train),
                epochs=task.epochs,
            ),
        ),
        "batch size": Law(
            lambda _, size: size,
            (
                ("The best λ rises with the batch size", ">", 0.0),
                # half-way between a constant timescale in epochs and the paper's normalisation
                ("The best λ follows the batch size rather than its root", ">", 0.75),
            ),
            "λ / batch size",
            lambda _, size: size,
        ),
        "width": Law(
            lambda _, width: width,
            # half-way between a decay that stays and one that falls as width^−½
            (("The best λ stays as the width rises, rather than falls as its root", ">", -0.25),),
            "λ·√width",
            lambda _, width: width**-0.5,
        ),
    }
)
"""The axes along which an exponent is measured."""
