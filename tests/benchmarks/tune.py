"""`study.tune` on MNIST-1D: what it finds beside a grid, and its speed beside Optuna over a loop.

``python tests/benchmarks/tune.py quality [SEARCHES] [FIRST]``: searches at a quarter of the training of the
9 × 9 × 5-seed grid, their choices and the grid's best cell judged by the same fresh seeds.
``python tests/benchmarks/tune.py speed``: seconds for as many trials, with the searches of Optuna as its users write
them; the loops are timed on a few trials. ``python tests/benchmarks/tune.py overhead``: the share of the processor's
time that choosing trials takes. ``python tests/benchmarks/tune.py rungs [SEARCHES]``: what searches end with under
several pruners, simulated on the measured curves of the grid, which are interpolated and scattered as its seeds are.
"""

import functools
import os
import sys
import tempfile
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optuna
from scipy.interpolate import RectBivariateSpline

import decoupled_wd as dwd
from decoupled_wd.study import Points, sweep
from decoupled_wd.study.claims.optimizers import contender, octaves
from decoupled_wd.study.grid.cells import starts_of
from decoupled_wd.study.tasks.task import held_out, task
from decoupled_wd.study.tune import trials
from decoupled_wd.study.tune.finals import finals, judged
from decoupled_wd.study.tune.search import _samplers, tune
from decoupled_wd.study.tune.slots import Slots

TASK = task("mnist1d", "mlp")
DATA = TASK.dataset
ADAMW = contender("AdamW", "cosine", TASK.steps)
TRAINING = {
    "init": TASK.model.init,
    "loss": TASK.model.loss,
    "metric": TASK.model.evaluate,
    "train": (DATA.x_train, DATA.y_train),
    "test": held_out(DATA),
    "epochs": TASK.epochs,
    "batch_size": TASK.batch_size,
}
GRID, SEEDS = 9, 5
RUNS = GRID * GRID * SEEDS / 4
JUDGES = range(20_000, 20_016)
"""Seeds that neither a search nor the grid has seen."""
TIMED = {"one jit": 12, "a jit a step": 4, "compiled anew": 2}
"""Trials of each loop that are timed."""


def space():
    """The box of the grid, without λ = 0."""
    grid = octaves("AdamW", GRID)
    decays = grid["weight_decay"][1:]
    return {
        "learning_rate": (float(grid["learning_rate"].min()), float(grid["learning_rate"].max())),
        "weight_decay": (float(decays.min()), float(decays.max())),
    }


def worth(points, seeds=JUDGES):
    """The test error of listed points, by seeds of their own: ``[points, seeds]``."""
    runs = sweep(ADAMW, Points(points), seeds=seeds, **TRAINING)
    return runs["test_error"].isel(epoch=-1).values


def quality(searches=20, first=0):
    grid = sweep(ADAMW, octaves("AdamW", GRID), seeds=SEEDS, **TRAINING).isel(epoch=-1)
    mean = grid["test_error"].mean("seed", skipna=False)
    cell = mean.where(mean.notnull(), np.inf).argmin(["learning_rate", "weight_decay"])
    best = {name: [float(mean[name][place])] for name, place in cell.items()}
    floor = float(worth(best, range(20_000, 20_064)).mean())
    print(f"best cell of the grid {best}, test error {floor:.2f} by fresh seeds", flush=True)
    gaps = []
    for seed in range(first, first + searches):
        started = time.perf_counter()
        found = tune(ADAMW, space(), **TRAINING, runs=RUNS, seed=seed)
        share = found.steps / (GRID * GRID * SEEDS * TASK.steps)
        gaps.append(worth({name: [value] for name, value in found.best.items()}).mean() - floor)
        print(
            f"search {seed}: {dict(found.best)}, gap {gaps[-1]:+.2f} points, share of steps "
            f"{share:.3f}, {len(found.study.trials)} trials, own estimate "
            f"{found.estimate.value:.2f} in [{found.estimate.low:.2f}, {found.estimate.high:.2f}], "
            f"{time.perf_counter() - started:.0f} s",
            flush=True,
        )
    quartiles = np.percentile(gaps, [25, 50, 75]).round(2)
    print(f"{searches} searches: quartiles of the gap {quartiles} points; target median <= 0.3")


def speed():
    """Seconds a trial."""
    start = starts_of(
        TASK.model.init,
        np.array([0]),
        rows=len(DATA.y_train),
        epochs=TASK.epochs,
        batch_size=TASK.batch_size,
    )
    params, batches, keys = jax.tree.map(lambda leaf: leaf[0], start)
    x, y = jnp.asarray(DATA.x_train), jnp.asarray(DATA.y_train)

    def step(optimizer, carry, count):
        params, state = carry
        rows = batches[count]
        key = jax.random.fold_in(keys, count)
        gradients = jax.grad(TASK.model.loss)(params, x[rows], y[rows], key)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def value(params):
        return TASK.model.evaluate(params, (x, y), held_out(DATA))["validation_error"]

    @jax.jit
    def whole(rate, decay):
        optimizer = ADAMW(rate, decay)
        carry = params, optimizer.init(params)
        counts = jnp.arange(TASK.steps)
        carry, _ = jax.lax.scan(lambda c, n: (step(optimizer, c, n), None), carry, counts)
        return value(carry[0])

    @jax.jit
    def single(rate, decay, carry, count):
        return step(ADAMW(rate, decay), carry, count)

    evaluated = jax.jit(value)

    def steps(rate, decay, single=single, evaluated=evaluated):
        carry = params, ADAMW(rate, decay).init(params)
        for count in range(TASK.steps):
            carry = single(rate, decay, carry, count)
        return evaluated(carry[0])

    def anew(rate, decay):
        optimizer = ADAMW(rate, decay)
        return steps(
            rate,
            decay,
            jax.jit(lambda rate, decay, carry, count: step(optimizer, carry, count)),
            jax.jit(lambda params: value(params)),
        )

    def searched(objective, count, warm):
        if warm:
            objective(0.006, 0.016)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        box = space()

        def ask(trial):
            drawn = [trial.suggest_float(name, *ends, log=True) for name, ends in box.items()]
            return float(objective(*drawn))

        started = time.perf_counter()
        study.optimize(ask, n_trials=count)
        return (time.perf_counter() - started) / count

    found = timed_tune()
    print(f"tune: {found:.3f} s a trial, compiling and finalists included", flush=True)
    for name, objective in (("one jit", whole), ("a jit a step", steps), ("compiled anew", anew)):
        each = searched(objective, TIMED[name], warm=name != "compiled anew")
        print(f"Optuna, {name}: {each:.3f} s a trial, {each / found:.1f} times", flush=True)
    again = timed_tune()
    print(f"tune again: {again:.3f} s a trial")


def timed_tune():
    started = time.perf_counter()
    found = tune(ADAMW, space(), **TRAINING, runs=RUNS / 2, finalists=2, seeds=4)
    return (time.perf_counter() - started) / len(found.study.trials)


def overhead():
    """Processor seconds of the thread that chooses, beside those of the process, after compiling."""
    spent = []
    run_jobs = trials.run_jobs

    def counted(function):
        @functools.wraps(function)
        def run(*arguments):
            started = time.thread_time()
            result = function(*arguments)
            spent.append(time.thread_time() - started)
            return result

        return run

    def measured(slots, ask, hear):
        started = time.process_time()
        run_jobs(slots, counted(ask), counted(hear))
        whole = time.process_time() - started
        print(f"choosing {sum(spent):.2f} s of {whole:.2f} s: {sum(spent) / whole:.1%}; target 5 %")

    trials.run_jobs = measured
    for storage in (None, os.path.join(tempfile.mkdtemp(), "trials.log")):
        spent.clear()
        print("in memory" if storage is None else "journal file", end=": ")
        tune(ADAMW, space(), **TRAINING, runs=RUNS, storage=storage)


EVERY = 4
"""Epochs of a round."""
NAMES = ("learning_rate", "weight_decay")
ERRORS = ("validation_error", "test_error")
PRUNERS = {
    "none": optuna.pruners.NopPruner,
    **{
        f"{rung} tenths, 1 in {kept}": functools.partial(
            optuna.pruners.SuccessiveHalvingPruner, rung, kept
        )
        for rung, kept in ((1, 4), (2, 3), (4, 3), (4, 4))
    },
}


def rungs(searches=20):
    grid = octaves("AdamW", GRID)
    grid["weight_decay"] = grid["weight_decay"][1:]
    runs = sweep(ADAMW, grid, seeds=SEEDS, evaluate_every=EVERY, **TRAINING)
    runs = runs.sortby("learning_rate").fillna(90.0).transpose(*NAMES, "seed", "epoch")
    axes = [np.log2(runs[name].values) for name in NAMES]
    rounds = runs.sizes["epoch"]
    means = {name: runs[name].mean("seed").values for name in ERRORS}
    smooth = {
        name: [RectBivariateSpline(*axes, each[..., age], kx=1, ky=2) for age in range(rounds)]
        for name, each in means.items()
    }
    # of five values about their mean
    scatter = {
        name: (runs[name] - runs[name].mean("seed")).values * (SEEDS / (SEEDS - 1)) ** 0.5
        for name in ERRORS
    }
    for name, pruner in PRUNERS.items():
        gaps = []
        for seed in range(searches):
            slots = _simulated(axes, smooth, scatter, rounds, np.random.default_rng(seed))
            study = optuna.create_study(pruner=pruner())
            ends = {
                each: optuna.distributions.FloatDistribution(*space()[each], log=True)
                for each in NAMES
            }
            budget = trials.Budget(0.0, np.inf, RUNS, 4 * 8)
            samplers = _samplers(ends, seed, False, 16, None)
            trials.searched(
                study, slots, ends, samplers, budget, "validation_error", lambda _: None
            )
            found = finals(slots, trials.best_trials(study, 4), 8, lambda _: None)
            place, _ = judged(found, *ERRORS)
            choice = [np.log2(float(found[each][place])) for each in NAMES]
            gaps.append(
                smooth["test_error"][-1](*choice).item() - means["test_error"][..., -1].min()
            )
        print(f"{name}: quartiles of the gap {np.percentile(gaps, [25, 50, 75]).round(2)}")


def _simulated(axes, smooth, scatter, rounds, rng):
    """Slots whose runs are interpolated, each with the scatter of a seed of the nearest cell."""

    def program(told, fresh, busy, runs):
        found = {name: np.zeros(len(told)) for name in ERRORS}
        for slot in np.flatnonzero(busy):
            at = np.log2(told[slot, :2])
            age, luck = (0, rng.integers(SEEDS)) if fresh[slot] else runs[slot]
            cell = [int(np.abs(axis - x).argmin()) for axis, x in zip(axes, at, strict=True)]
            for name in ERRORS:
                noise = scatter[name][(*cell, luck, age)]
                found[name][slot] = smooth[name][age](*at).item() + noise
            runs[slot] = age + 1, luck
        return runs, (found, np.ones(len(told), bool))

    return Slots(program, dict, 8, TASK.steps // rounds, rounds, NAMES, ERRORS, "")


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # at the ends of the box a decay is strong
    warnings.simplefilter("ignore", dwd.StrongDecayWarning)
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    {"quality": quality, "speed": speed, "overhead": overhead, "rungs": rungs}[sys.argv[1]](
        *map(int, sys.argv[2:])
    )
