"""The profiles ``images`` and ``modern``, on data or with a network of the user's."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from decoupled_wd.study.experiment import Experiment
from decoupled_wd.study.tasks.data import FASHION_MNIST
from decoupled_wd.study.tasks.networks import TRANSFORMER
from decoupled_wd.study.tasks.task import task

# several experiments learn the same task, and it is made once
task_of = cache(task)


def profile_of(
    profile: str | None, data: Path | None, network: str | None, text: Path | None = None
) -> str:
    """Returns the profile that is asked for, or else the one that fits.

    That is images for data or a network of the user's, and modern for a text;
    without any of them it is the default.

    Raises:
      ValueError: another profile is asked for with them.

    Examples:
      >>> profile_of(None, Path("mine.npz"), None)
      'images'
    """
    own = {"data": (data, "images"), "network": (network, "images"), "text": (text, "modern")}
    # the first of them that is given chooses the profile, and the others must agree
    for name, (given, wanted) in own.items():
        if given is not None and (profile := profile or wanted) != wanted:
            raise ValueError(
                f"--{name} is for the profile {wanted}, got the profile {profile}; leave one of "
                "them out"
            )
    return profile or "default"


def with_own(
    experiments: Sequence[Experiment],
    data: Path | None,
    network: str | None,
    text: Path | None = None,
) -> list[Experiment]:
    """Returns the experiments on this data or text, and with this network.

    A network of the profile is chosen from it; one of the user's takes the place of the last.
    """
    if text is not None:
        experiments = [
            replace(each, dataset=text) if each.network == TRANSFORMER else each
            for each in experiments
        ]
    if data is not None:
        experiments = [replace(each, dataset=data) for each in experiments]
    if network is None:
        return [*experiments]
    chosen = [each for each in experiments if each.network == network]
    # the sizes of the last network suit one that is slow to train
    last = [each for each in experiments if each.network == experiments[-1].network]
    return chosen or [replace(each, network=network) for each in last]


def check_tasks(experiments: Sequence[Experiment]) -> None:
    """Loads what is read from files, and the user's network, before anything is trained.

    Raises:
      ValueError: names the file or the network, and what is wrong with it.
    """
    # a command is not started from a module, so that its folder is not searched
    sys.path.insert(0, os.getcwd())
    for experiment in experiments:
        # all other data sets are made or shipped, and cannot be missing
        if experiment.dataset != "fashion-mnist" and not isinstance(experiment.dataset, Path):
            continue
        try:
            learned = task_of(experiment.dataset, experiment.network)
        except OSError as error:
            remedy = (
                "pass --text with a file of UTF-8"
                if experiment.network == TRANSFORMER
                else "pass --data with an .npz file or a folder, or install Debian's "
                f"dataset-fashion-mnist, which brings {FASHION_MNIST}"
            )
            raise ValueError(f"{error.filename}: {error.strerror}; {remedy}") from error
        batches = getattr(experiment.design, "budgets", {}).get("batch size", ())
        rows = len(learned.dataset.y_train)
        # what is trained first may take ten minutes
        if too_large := [size for size in batches if size > rows]:
            raise ValueError(
                f"{experiment.dataset}: claim {experiment.claim} has batches of {max(too_large)} "
                f"rows, and {rows} are left to train on; pass more data, or other --claims"
            )


def sizes_of(experiment: Experiment) -> str:
    """Says how many examples an experiment trains on, chooses by and judges by.

    Examples:
      >>> sizes_of(Experiment("ii", "digits", "mlp", None, 1.0))
      'digits: 300 examples train, 500 choose and 997 judge; 10 classes'
    """
    data = task_of(experiment.dataset, experiment.network).dataset
    train, validation, test = len(data.y_train), len(data.y_validation), len(data.y_test)
    return (
        f"{data.name}: {train} examples train, {validation} choose and {test} judge; "
        f"{data.num_classes} classes"
    )
