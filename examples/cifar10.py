"""The paper's own experiment: Shake-Shake 26 2x64d on CIFAR-10, Adam with L2 against AdamW.

``python examples/cifar10.py cifar10.npz`` trains both with the paper's recipe: an .npz file with the uint8
images x_train, x_test [n, 32, 32, 3] and the labels y_train, y_test [n]. It needs an accelerator, and goes on
where it stopped. Without a file, or with ``--smoke``, it runs everything on random images and a tiny network.
"""

# %% What to run
import argparse
import tempfile
from pathlib import Path

import jax
import numpy as np
import optax

import decoupled_wd as dwd
from decoupled_wd.study import sweep
from decoupled_wd.study.tasks.data import cifar10
from decoupled_wd.study.tasks.shake_shake import shake_shake

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("file", nargs="?", help="an .npz file with CIFAR-10; random images without it")
parser.add_argument("--smoke", action="store_true", help="random images and a tiny network")
parser.add_argument("--epochs", type=int, default=100, help="1800 for the paper's longest runs")
parser.add_argument("--width", type=int, default=64, help="64 for 2x64d, 96 for 2x96d")
parser.add_argument("--seeds", type=int, default=1)
parser.add_argument("--store", default="cifar10-runs", help="folder of the finished runs")
options = parser.parse_args()
smoke = options.smoke or options.file is None
# a smoke run is over sooner than its program would be optimised
jax.config.update("jax_disable_most_optimizations", smoke)


# %% Data
def random_images(path):
    """A file like CIFAR-10's, of noise: it shows that the program runs, and nothing else."""
    rng = np.random.default_rng(0)
    images = {f"x_{s}": rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for s, n in SIZES.items()}
    labels = {f"y_{s}": rng.integers(0, 10, n) for s, n in SIZES.items()}
    np.savez(path, **images, **labels)


SIZES = {"train": 48, "test": 16}
folder = tempfile.TemporaryDirectory()
if smoke:
    random_images(Path(folder.name) / "random.npz")
    task = cifar10(Path(folder.name) / "random.npz", validation_size=16)
    model, batch_size, epochs = shake_shake(4, blocks=1), 16, 1
    store = Path(folder.name) / "runs"
else:
    task = cifar10(options.file)
    model, batch_size, epochs = shake_shake(options.width), 128, options.epochs
    store = options.store

# %% The recipe: cosine, and a normalised weight decay, so that 0.025 suits any number of epochs
ALPHA, L2 = 1e-3, 1.25e-4
rows = len(task.x_train)
weight_decay = dwd.normalized(0.025, batch_size=batch_size, dataset_size=rows, epochs=epochs)
schedule = optax.cosine_decay_schedule(ALPHA, rows // batch_size * epochs)
parameters = sum(s.size for s in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))))
print(f"{parameters:,} parameters, {rows:,} images, {epochs} epochs; λ = {weight_decay:.2e}")


def make_optimizer(decoupled):
    """Adam with L2 at 0, AdamW at 1: one compiled program trains both."""
    return optax.chain(
        dwd.add_decayed_weights((1 - decoupled) * L2),
        dwd.adamw(schedule, decoupled * weight_decay, peak_learning_rate=ALPHA),
    )


# %% Train both from the same starts, batches, crops and Shake-Shake draws
runs = sweep(
    make_optimizer,
    {"decoupled": [0.0, 1.0]},
    init=model.init,
    loss=model.loss,
    metric=model.evaluate,
    train=(task.x_train, task.y_train),
    test={
        "validation": (task.x_validation, task.y_validation),
        "test": (task.x_test, task.y_test),
    },
    epochs=epochs,
    batch_size=batch_size,
    seeds=options.seeds,
    evaluate_every=max(e for e in range(1, 11) if epochs % e == 0),
    store=store,
    progress=lambda finished, cells: print(f"{finished} of {cells} runs"),
)

# %% Mean over the seeds after the last epoch
last = runs.isel(epoch=-1).mean("seed")
print(f"{'':12} {'training loss':>14} {'validation error %':>19} {'test error %':>13}")
for decoupled, name in ((0.0, "Adam with L2"), (1.0, "AdamW")):
    end = {key: float(value) for key, value in last.sel(decoupled=decoupled).items()}
    print(
        f"{name:12} {end['train_loss']:14.4f} {end['validation_error']:19.2f} {end['test_error']:13.2f}"
    )
folder.cleanup()
