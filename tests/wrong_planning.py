"""Wrong calls of plan, Run, fit_timescale and ``decoupled-wd plan``: rows for test_bad_input.py."""

from dataclasses import replace

import jax
import optax
from wrong_cli import refused

import decoupled_wd as dwd
from decoupled_wd.planning import cli

RUN = dwd.Run(1e-3, 8, 1e4)
TUNED = [dwd.Run(1e-3, 8, d, weight_decay=8 / d**0.5, parameters=1e3) for d in (1e3, 4e3, 2e4)]
PLAN = ("--learning-rate", "1e-3", "--batch-size", "8", "--dataset-size", "1e4")


def run(**changes):
    return replace(RUN, **changes)


def scheduled(schedule):
    return lambda: run(schedule=schedule)


WRONG = [
    # a run
    (lambda: run(learning_rate=0), ValueError, "learning_rate must be finite and > 0, got 0.0"),
    (lambda: run(batch_size=-8), ValueError, "batch_size must be finite and > 0"),
    (lambda: run(dataset_size="1e4"), TypeError, "dataset_size must be a real number, got '1e4'"),
    (lambda: run(epochs=None), TypeError, "epochs must be a real number"),
    (lambda: run(weight_decay=-1e-4), ValueError, "weight_decay must be finite and >= 0"),
    (lambda: run(parameters=0), ValueError, "parameters must be finite and > 0, got 0.0"),
    (lambda: run(width=float("nan")), ValueError, "width must be finite"),
    (lambda: run(depth=True), TypeError, "depth must be a real number"),
    (lambda: run(coupling="pytorchh"), ValueError, "is not a known framework"),
    (
        lambda: run(batch_size=1e5),
        ValueError,
        "batch_size=100000 makes 0.1 steps of dataset_size=10000 and epochs=1",
    ),
    (
        lambda: run(dataset_size=1e30),
        ValueError,
        "must make 1 to 2^31; pass both sizes in one unit",
    ),
    (
        lambda: jax.jit(lambda rate: dwd.Run(rate, 8, 1e4).steps)(1e-3),
        TypeError,
        "learning_rate is traced, and must be known before compilation; pass a Python float",
    ),
    (scheduled("step"), ValueError, "schedule must be one of ['cosine', 'linear'], or a function"),
    (scheduled(0.1), ValueError, "got 0.1; leave it out for a constant learning rate"),
    (scheduled(lambda: 1.0), TypeError, "schedule is callable, so it was called with the step"),
    # a multiplier in place of a learning rate, and a peak below that of the schedule
    (
        scheduled(optax.constant_schedule(1.0)),
        ValueError,
        "schedule rises to 1, and learning_rate=",
    ),
    (scheduled(optax.cosine_decay_schedule(1e-4, 9)), ValueError, "must be its peak; pass that"),
    # a plan
    (lambda: dwd.plan(None), TypeError, "run must be a Run, got None; pass dwd.Run("),
    (lambda: dwd.plan(RUN, 0.1), TypeError, "reference must be a Run, got 0.1; pass dwd.Run("),
    (lambda: dwd.plan(RUN, RUN), ValueError, "reference has weight_decay=None; pass the λ that"),
    (lambda: dwd.plan(RUN, run(weight_decay=0)), ValueError, "reference has weight_decay=0.0"),
    (lambda: dwd.plan(RUN, fitted=0.5), TypeError, "pass what fit_timescale returns"),
    (lambda: RUN.fraction, ValueError, "weight_decay of the run is not known; pass weight_decay="),
    (lambda: RUN.data_per_parameter, ValueError, "parameters of the run is not known"),
    # a fit
    (lambda: dwd.fit_timescale(TUNED[:2]), ValueError, "runs must be a list of three runs or more"),
    (lambda: dwd.fit_timescale(iter(TUNED)), ValueError, "runs must be a list"),
    (lambda: dwd.fit_timescale([*TUNED, 0.1]), TypeError, "runs[3] must be a Run, got 0.1"),
    (lambda: dwd.fit_timescale([RUN, *TUNED]), ValueError, "runs[0] has weight_decay=None; pass"),
    (
        lambda: dwd.fit_timescale([*TUNED, run(weight_decay=0.0)]),
        ValueError,
        "runs[3] has weight_decay=0.0",
    ),
    (lambda: dwd.fit_timescale(TUNED, over="width"), ValueError, "runs[0] has width=None; pass"),
    (lambda: dwd.fit_timescale(TUNED, over="parameters"), ValueError, "all runs have the param"),
    (lambda: dwd.fit_timescale(TUNED, over="tokens"), ValueError, "over must be one of ('data_per"),
    (lambda: dwd.fit_timescale(TUNED, level=95), ValueError, "level must be below 1, got 95; 0.95"),
    (lambda: dwd.fit_timescale(TUNED, level=0), ValueError, "level must be finite and > 0"),
    # decoupled-wd plan
    (lambda: refused(cli.main, *PLAN[:4]), ValueError, "required: --dataset-size"),
    (lambda: refused(cli.main, *PLAN[:5], "-1e4"), ValueError, ">= 0, got -1e4"),
    (lambda: refused(cli.main, *PLAN[:5], "1e4t"), ValueError, "a number, got '1e4t'"),
    (lambda: refused(cli.main, *PLAN[:5], "0"), ValueError, "dataset_size must be finite and > 0"),
    (lambda: refused(cli.main, *PLAN[:5], "1"), ValueError, "makes 0.125 steps"),
    (lambda: refused(cli.main, *PLAN, "--coupling", "Pytorch"), ValueError, "did you mean 'torch'"),
    (lambda: refused(cli.main, *PLAN, "--schedule", "step"), ValueError, "invalid choice: 'step'"),
    (
        lambda: refused(cli.main, *PLAN, "--reference-batch-size", "4"),
        ValueError,
        "reference has weight_decay=None; pass the λ",
    ),
]
