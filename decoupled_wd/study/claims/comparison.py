"""Claim (xi): variants of AdamW's decay, each tuned like AdamW itself."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from decoupled_wd.study.claims.drawings import Bars, Drawing
from decoupled_wd.study.claims.tuning import (
    at_the_end,
    chosen,
    difference,
    search_of,
    searched,
)
from decoupled_wd.study.claims.variants import (
    ADAMC,
    PLAIN,
    VARIANTS,
    Varied,
    space,
    with_norms,
)
from decoupled_wd.study.claims.verdicts import OCTAVE, Finding, Verdict, level
from decoupled_wd.study.grid.types import Points
from decoupled_wd.study.statistics import FRESH, mean
from decoupled_wd.study.tasks.task import Run, Task, Training


@dataclass(frozen=True)
class Variants:
    """Measures what each variant gains over AdamW, if both have searches of as many trials.

    AdamC and AdamW are compared once more with the α and λ that AdamW's searches chose: the norms
    of weights and gradients of normalised layers at the end of the schedule.

    Source: cautious decay, arXiv 2510.12402; AdamC, 2506.02285; hyperball, 2606.16899; masks,
    common practice since Goyal et al., 1706.02677, against everything in 1711.05101.
    """

    names: tuple[str, ...]
    """Those of `VARIANTS` that are compared with AdamW."""
    trials: int
    looks: tuple[int, ...]
    """How many searches of each there are at each look."""

    def measure(self, run: Run, task: Task, look: int) -> Finding:
        """Trains, judges, and describes the tuned errors."""
        found, worth = {}, {}
        for name in (PLAIN, *self.names):
            found[name], worth[name] = self._tuned(run, task, name, look)
        verdicts = judge(worth, task, self.looks)
        if ADAMC in self.names:
            norms = self._norms(run, task, found[PLAIN], look)
            verdicts += judge_norms(norms, task.name, self.looks)
        return Finding(verdicts, {f"variants {task.name}": draw(worth, task, self.looks)})

    def _tuned(
        self, run: Run, task: Task, name: str, look: int
    ) -> tuple[xr.Dataset, NDArray[np.float64]]:
        def training(searches: range) -> Training:
            return search_of(
                task,
                Varied(name, task.steps),
                space(name, task.decay),
                trials=self.trials,
                searches=searches,
                experiment=("variants",),
            )

        return searched(run, training, self.looks, look)

    def _norms(self, run: Run, task: Task, found: xr.Dataset, look: int) -> dict[str, xr.Dataset]:
        """Trains AdamW and AdamC with the choices of AdamW's searches, and fresh seeds."""
        choices, ends = chosen(found), [0, *self.looks[: look + 1]]
        measured = task._replace(model=with_norms(task.model))

        def training(name: str, part: xr.Dataset) -> Training:
            numbers = part["seed"].values
            points = {axis: part[axis].values for axis in ("learning_rate", "weight_decay")}
            return Training(
                measured,
                Varied(name, task.steps),
                # AdamW and AdamC have the same seeds, so that they are compared in pairs
                Points(**points, seed=FRESH + numbers),
                # the points have their seeds; these name the part in the store
                seeds=range(numbers[0], numbers[-1] + 1),
                experiment=("variants", "norms"),
            )

        # those that a look adds are a training of their own
        parts = [choices.isel(seed=slice(low, high)) for low, high in itertools.pairwise(ends)]
        return {
            name: xr.concat(
                [at_the_end(run, training(name, part)) for part in parts],
                "trial",
                data_vars="minimal",
            )
            for name in (PLAIN, ADAMC)
        }


def judge(
    worth: Mapping[str, NDArray[np.float64]], task: Task, looks: tuple[int, ...]
) -> list[Verdict]:
    """Judges what each variant gains over AdamW, of paired searches."""
    return [
        Verdict(
            f"Tuned: {VARIANTS[name].statement.format(task.metric.name)}",
            task.name,
            f"gain in tuned {task.metric.name}, {task.metric.differences}",
            difference(worth[PLAIN], each, level(looks)),
            VARIANTS[name].sense,
            0.0,
            task.matters,
            len(looks),
        )
        for name, each in worth.items()
        if name != PLAIN
    ]


def judge_norms(
    norms: Mapping[str, xr.Dataset], where: str, looks: tuple[int, ...]
) -> list[Verdict]:
    """Judges whether AdamC's weights are larger, and its gradients smaller, at the end.

    Examples:
      >>> ones = xr.DataArray(np.ones(3), dims="trial")
      >>> plain = xr.Dataset({"weight_norm": ones, "gradient_norm": 2 * ones})
      >>> norms = {"AdamW": plain, "AdamC": xr.Dataset({"weight_norm": 2 * ones,
      ...     "gradient_norm": ones})}
      >>> [line.estimate.value for line in judge_norms(norms, "toy", (3,))]
      [1.0, 1.0]
    """

    def line(statement: str, quantity: str, more: str, less: str) -> Verdict:
        # in logarithms, so that twice and half are equally far from 1
        ratio = np.log2(norms[more][quantity].values / norms[less][quantity].values)
        return Verdict(
            statement,
            where,
            f"log2 of {quantity.replace('_', ' ')} at the end, {more} over {less}",
            mean(np.asarray(ratio, float), level(looks)),
            ">",
            0.0,
            OCTAVE,
            len(looks),
        )

    return [
        line("AdamC's normalised layers end larger than AdamW's", "weight_norm", ADAMC, PLAIN),
        line("AdamW's gradients end larger than AdamC's", "gradient_norm", PLAIN, ADAMC),
    ]


def draw(worth: Mapping[str, NDArray[np.float64]], task: Task, looks: tuple[int, ...]) -> Drawing:
    """Describes the gain of each variant over AdamW."""
    gains = {
        name: {"gain": difference(worth[PLAIN], each, level(looks))}
        for name, each in worth.items()
        if name != PLAIN
    }
    return Bars(
        gains, ylabel=f"gain over AdamW in tuned {task.metric.name}, {task.metric.differences}"
    )
