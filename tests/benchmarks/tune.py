"""`study.tune` on MNIST-1D: what it finds beside a grid, and its speed beside Optuna over a loop.

``python tests/benchmarks/tune.py quality [SEARCHES] [FIRST]``: searches at a quarter of the training of the
9 × 9 × 5-seed grid, their choices and the grid's best cell judged by the same fresh seeds.
``python tests/benchmarks/tune.py speed``: seconds for as many trials, with the searches of Optuna as its users write
them; the loops are timed on a few trials. ``python tests/benchmarks/tune.py overhead``: the share of the processor's
time that choosing trials takes.
"""

import functools
import os
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optuna

from decoupled_wd.study import Points, sweep
from decoupled_wd.study.claims.optimizers import contender, octaves
from decoupled_wd.study.grid.cells import starts_of
from decoupled_wd.study.tasks.task import held_out, task
from decoupled_wd.study.tune import trials
from decoupled_wd.study.tune.search import tune

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
TRIALS = 100


def space():
    """The box of the grid, without λ = 0."""
    grid = octaves("AdamW", GRID)
    decays = grid["weight_decay"][1:]
    return {
        "learning_rate": (float(grid["learning_rate"].min()), float(grid["learning_rate"].max())),
        "weight_decay": (float(decays.min()), float(decays.max())),
    }


def worth(points):
    """The test error of listed points, by seeds of their own: ``[points, seeds]``."""
    runs = sweep(ADAMW, Points(points), seeds=JUDGES, **TRAINING)
    return runs["test_error"].isel(epoch=-1).values


def quality(searches=20, first=0):
    grid = sweep(ADAMW, octaves("AdamW", GRID), seeds=SEEDS, **TRAINING).isel(epoch=-1)
    mean = grid["test_error"].mean("seed", skipna=False)
    cell = mean.where(mean.notnull(), np.inf).argmin(["learning_rate", "weight_decay"])
    best = {name: [float(mean[name][place])] for name, place in cell.items()}
    floor = float(worth(best).mean())
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
        optuna.logging.set_verbosity(optuna.logging.WARNING)
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
    # as many runs as `TRIALS` trials take
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


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    {"quality": quality, "speed": speed, "overhead": overhead}[sys.argv[1]](*map(int, sys.argv[2:]))
