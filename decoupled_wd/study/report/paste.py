"""The choice of a search as code to paste, which runs as it stands."""

import inspect
import keyword
from collections.abc import Collection, Mapping

import decoupled_wd as dwd
from decoupled_wd import Coupling
from decoupled_wd.study.report.ridge import NAMED

_KNOWN = ("learning_rate", "weight_decay", "b1", "b2", "eps")


def code(best: Mapping[str, float], coupling: Coupling, made_by: str = "dwd.adamw") -> str:
    """Writes the optimiser with these hyperparameters, and a step with it, in eight lines.

    Hyperparameters that an alias of ours does not take stand in a comment, where no name of theirs
    can do harm.

    Args:
        best: the hyperparameters.
        coupling: the unit of λ, for an alias of ours.
        made_by: the function that takes them: an alias such as ``dwd.adamw``, or that of a module
            of the user's, such as ``mine.make_optimizer``.

    Examples:
        >>> best = {"learning_rate": 0.01, "weight_decay": 0.001}
        >>> print(code(best, NAMED["PAPER"]).splitlines()[4])
        optimizer = dwd.adamw(learning_rate=0.01, weight_decay=0.001, coupling=dwd.PAPER)
        >>> print(code(best, NAMED["PAPER"], "mine.make_optimizer").splitlines()[4])
        optimizer = make_optimizer(learning_rate=0.01, weight_decay=0.001)
    """
    module, _, name = made_by.rpartition(".")
    yours: list[str] = []
    rest: dict[str, float] = {}
    if parameters := _parameters(made_by):
        imported = "import decoupled_wd as dwd"
        # a search over one of both leaves the other to its user
        taken = {"learning_rate": 1e-3, "weight_decay": 0.0} | {
            name: value for name, value in best.items() if name in _KNOWN
        }
        rest = {name: value for name, value in best.items() if name not in taken}
        yours = [name for name in ("learning_rate", "weight_decay") if name not in best]
        # the aliases of coupled optimisers call their λ by this name
        if "l2" in parameters:
            taken["l2"] = taken.pop("weight_decay")
        unit = [f"coupling={written(coupling)}"] * ("coupling" in parameters)
        call = f"{made_by}({', '.join([*_arguments(taken), *unit])})"
    else:
        imported = f"from {module} import {name}"
        if not all(
            part.isidentifier() and not keyword.iskeyword(part) for part in module.split(".")
        ):
            # a file whose name no import statement takes, such as my-model.py
            imported = f"import runpy; {name} = runpy.run_path({f'{module}.py'!a})[{name!r}]"
        call = f"{name}({', '.join(_arguments(best))})"
    return "\n".join(
        [
            imported,
            "import jax.numpy as jnp",
            "import optax",
            f"params = gradients = {{'kernel': jnp.ones((4, 4))}}  # yours{_comment(yours, rest)}",
            f"optimizer = {call}",
            "state = optimizer.init(params)",
            "updates, state = optimizer.update(gradients, state, params)",
            "params = optax.apply_updates(params, updates)",
        ]
    )


def has_l2(made_by: str) -> bool:
    """Says whether an alias of ours takes λ as L2, in the gradient.

    Examples:
        >>> has_l2("dwd.adam"), has_l2("dwd.adamw"), has_l2("mine.make_optimizer")
        (True, False, False)
    """
    return "l2" in _parameters(made_by)


def written(coupling: Coupling) -> str:
    """Writes a coupling as code, by its name if it is one of ours.

    Examples:
        >>> written(NAMED["LR"]), written(Coupling(0.5, 1))
        ('dwd.LR', 'dwd.Coupling(p=0.5, s=1)')
    """
    names = [name for name, each in NAMED.items() if each == coupling]
    return f"dwd.{names[0]}" if names else f"dwd.Coupling(p={coupling.p:g}, s={coupling.s:g})"


def _parameters(made_by: str) -> Collection[str]:
    """Returns the parameters of an alias of ours, and none for a function of the user's."""
    module, _, name = made_by.rpartition(".")
    # a user's file may be called dwd.py
    is_ours = module == "dwd" and name in dwd.__all__
    return inspect.signature(getattr(dwd, name)).parameters if is_ours else ()


def _arguments(values: Mapping[str, float]) -> list[str]:
    return [f"{name}={float(f'{value:.4g}')!r}" for name, value in values.items()]


def _comment(yours: list[str], rest: Mapping[str, float]) -> str:
    asked = f", and {' and '.join(yours)}" if yours else ""
    # written as Python writes text, so that no name ends the comment
    others = ", ".join(f"{name!a}: {value:.4g}" for name, value in rest.items())
    return f"{asked}; of the search also {others}" if others else asked
