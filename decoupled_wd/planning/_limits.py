"""Where a rule leaves the range in which it was found: words, or none where it is inside."""

from __future__ import annotations

import math

from decoupled_wd.planning._run import Run

_BUDGET = {"batch_size": "batch", "dataset_size": "data set", "epochs": "number of epochs"}


def ratio(name: str, run: Run, reference: Run) -> float:
    """Return a number of the run over that of the reference."""
    found: float = getattr(run, name) / getattr(reference, name)
    return found


def image_sets(run: Run, reference: Run) -> str:
    """CIFAR-10 and ImageNet32x32, on which the paper trained."""
    sizes = (run.dataset_size, reference.dataset_size)
    inside = all(50_000 <= size <= 1_281_167 for size in sizes)
    return "" if inside else "found on 50 000 to 1 281 167 images"


def one_epoch(run: Run, reference: Run) -> str:
    """Language models see their data once."""
    return "" if run.epochs == reference.epochs == 1 else "found in runs of one epoch"


def model_sizes(run: Run, reference: Run) -> str:
    """The models of Power Lines."""
    inside = all(111e6 <= (each.parameters or 0) <= 3.3e9 for each in (run, reference))
    return "" if inside else "found on 111 million to 3.3 billion parameters"


def root_of_batch(run: Run, reference: Run) -> str:
    """Whether the learning rate follows the batch as nanochat's does."""
    return _moves_by("√(b/b₀)", math.sqrt(ratio("batch_size", run, reference)), run, reference)


def inverse_width(run: Run, reference: Run) -> str:
    """Whether the learning rate follows the width as muP's does."""
    return _moves_by("d₀/d", 1 / ratio("width", run, reference), run, reference)


def _moves_by(symbol: str, expected: float, run: Run, reference: Run) -> str:
    found = ratio("learning_rate", run, reference)
    # two learning rates that are each rounded to two digits
    if math.isclose(found, expected, rel_tol=0.1):
        return ""
    return f"takes α/α₀ to be {symbol} = {expected:.3g}, and it is {found:.3g}"


def same_budget(run: Run, reference: Run) -> str:
    """Whether anything but the model changes."""
    changed = [words for name, words in _BUDGET.items() if ratio(name, run, reference) != 1]
    return f"says nothing of another {' or '.join(changed)}" if changed else ""
