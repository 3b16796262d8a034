"""Which experiments a study consists of, in small and in full."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from decoupled_wd.study.claims import generalization, interaction
from decoupled_wd.study.tasks import Run, Task
from decoupled_wd.study.verdicts import Finding

Measure = Callable[[Run, Task], Finding]


class Experiment(NamedTuple):
    """One claim on one data set and network."""

    claim: str
    """Number in the study, ``i`` to ``vii``."""
    dataset: str
    network: str
    measure: Measure
    """``measure(run, task)``."""
    seconds: float
    """How long it took on two x86-64 cores."""


CLAIMS: Mapping[str, str] = MappingProxyType(
    {
        "i": "L2 and weight decay are the same for SGD and not for Adam",
        "ii": "Decoupled, learning rate and weight decay can be tuned apart",
        "iii": "Tuned AdamW generalises better than tuned Adam + L2",
        "iv": "The best λ falls with the number of steps, the normalised λ does not",
        "v": "Warm restarts are good at any time",
        "vi": "Which optimiser to choose, at equal tuning budgets",
        "vii": "Super-convergence with AdamW and one cycle",
    }
)

PROFILES: Mapping[str, tuple[Experiment, ...]] = MappingProxyType(
    {
        "default": (
            Experiment("ii", "mnist1d", "mlp", partial(interaction.measure, grid=8, seeds=5), 70),
            Experiment(
                "iii", "mnist1d", "mlp", partial(generalization.measure, grid=8, seeds=5), 1
            ),
        ),
        "full": (),
    }
)
