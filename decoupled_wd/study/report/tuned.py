"""The page of a tuned search: what it chose, how sure that is, and what to do with it."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optax

import decoupled_wd as dwd
from decoupled_wd import PAPER, Coupling, masks
from decoupled_wd.coupling import as_coupling
from decoupled_wd.study.figures.landscape import Line, landscape
from decoupled_wd.study.figures.trials import SYMBOLS, found_of, progress, slices
from decoupled_wd.study.report.machine import machine
from decoupled_wd.study.report.paste import code, has_l2, written
from decoupled_wd.study.report.pictures import Picture, picture
from decoupled_wd.study.report.pieces import environment, interval, number, replace_whole
from decoupled_wd.study.report.ridge import ridge_words
from decoupled_wd.study.report.search import (
    DECAY,
    RATE,
    WHOLE,
    Range,
    Search,
    finals_of,
    importances_of,
    ranges_of,
    ridge_of,
    search_of,
)
from decoupled_wd.study.report.tables import described, planned, units
from decoupled_wd.study.response import Valley
from decoupled_wd.study.statistics import Estimate
from decoupled_wd.study.tune.types import Tuned

PAGE = "report.html"
PACKAGES = ("decoupled-wd", "jax", "jaxlib", "optax", "optuna", "numpy", "scipy", "scikit-learn")


def write(
    folder: Path,
    tuned: Tuned,
    *,
    made_by: str = "dwd.adamw",
    coupling: Coupling | str = PAPER,
    params: optax.Params | None = None,
    mask: masks.MaskLike | None = None,
    run: dwd.Run | None = None,
    target: dwd.Run | None = None,
) -> None:
    """Writes the report of a search into a folder: one page, ``report.html``.

    The page is whole in itself: it loads nothing and needs no script.

    Args:
        folder: made if it is not there.
        tuned: what the search found.
        made_by: what makes the optimiser, for the code to paste: an alias of ours, or
            ``module.function`` of yours. Of one with L2 the page has no units, and no plan.
        coupling: the unit of its λ, a `Coupling` or a framework's name.
        params: the weights that were trained, or their shapes, for what decays; left out without.
        mask: which of them decay; by default all.
        run: what one knows of the runs of the search, for λ in units of epochs, and as the
            reference of the plan. Its learning rate and λ are those of the choice.
        target: the full-size run for which λ is planned; left out without.

    Raises:
        ValueError: there is a target and no run; the coupling is unknown; no trial came to its end.
        OSError: the folder cannot be written; what stood in it is kept.
    """
    unit = as_coupling("coupling", coupling)
    if target is not None and run is None:
        raise ValueError("target needs run, the runs of the search from which λ is planned")
    # its λ removes no fraction of a weight, and has none of the units of those that do
    is_l2 = has_l2(made_by)
    search = search_of(tuned)
    known = {} if run is None else {RATE: run.learning_rate, DECAY: run.weight_decay}
    chosen = {name: value for name, value in known.items() if value is not None} | {**tuned.best}
    ranges, valley = ranges_of(search, tuned.best), ridge_of(search)
    page = (
        environment()
        .get_template("tuned.html.jinja")
        .render(
            title=_title(tuned.best),
            counts=_counts(search, tuned),
            best=[_tile(name, value, ranges[name]) for name, value in tuned.best.items()],
            metric=_plain(tuned.metric),
            trial_metric=_plain(search.metric),
            worth=_worth(tuned.estimate, "on seeds that took no part in the choice"),
            labels=[_label(name) for name in tuned.best],
            finals=[
                {"at": at.values(), "estimate": worth, "chosen": was}
                for at, worth, was in finals_of(tuned)
            ],
            units=[] if is_l2 else units(chosen, ranges.get(DECAY), unit, run),
            unit=written(unit),
            pictures=_pictures(search, tuned, valley),
            importance=[(_label(n), share) for n, share in (importances_of(tuned) or {}).items()],
            least=WHOLE,
            trials=_trials(search),
            slope=None if valley is None else _worth(valley.slope, "the best λ over α"),
            ridge=ridge_words(search, valley, None if is_l2 else unit),
            described=None if is_l2 else described(chosen, params, mask, unit),
            planned=None if is_l2 else planned(chosen, run, target, unit),
            code=code(chosen, unit, made_by),
            made_by=made_by,
            tuned=tuned,
            versions={name: version(name) for name in PACKAGES}
            | {"Python": platform.python_version()},
            machine=machine(),
        )
    )
    replace_whole(Path(folder), {PAGE: page.encode()})


def _label(name: str) -> str:
    return SYMBOLS.get(name, name)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _title(best: Mapping[str, float]) -> str:
    *others, last = map(_label, best)
    named = f"{', '.join(others)} and {last}" if others else last
    return f"{named[0].upper()}{named[1:]}, tuned"


def _counts(search: Search, tuned: Tuned) -> str:
    """Says how much was tried."""
    found = found_of(search.trials)
    stopped, diverged = found.count("stopped early"), found.count("diverged")
    parts = [f"{len(found)} trials" if len(found) != 1 else "1 trial"]
    parts += [f"{stopped} of them stopped early"] * bool(stopped)
    parts += [f"{diverged} diverged"] * bool(diverged)
    finalists, seeds = (tuned.finalists.sizes[name] for name in ("trial", "seed"))
    best = "the best one" if finalists == 1 else f"the best {finalists}"
    again = "1 fresh seed" if seeds == 1 else f"{seeds} fresh seeds"
    return f"{', '.join(parts)}; {best} trained again with {again}."


def _tile(name: str, value: float, best: Range) -> dict[str, Any]:
    """Says where a hyperparameter is best."""
    low = f"{number(best.low)} or less" if best.from_edge else number(best.low)
    high = f"{number(best.high)} or more" if best.to_edge else number(best.high)
    words = f"the best lies between {low} and {high}"
    if best.from_edge and best.to_edge:
        words = "the trials do not show where it is best"
    return {"label": _label(name), "value": value, "words": words}


def _worth(estimate: Estimate, words: str) -> dict[str, str]:
    value, low, high = interval(estimate)
    return {"value": value, "words": words if low == "–" else f"[{low}, {high}], {words}"}


def _pictures(search: Search, tuned: Tuned, valley: Valley | None) -> dict[str, Picture | None]:
    names, trials = list(search.space), search.trials
    said: dict[str, Any] = {"metric": _plain(search.metric), "higher": search.higher}
    said_too = said | {"log": search.log, "chosen": _chosen(search, tuned)}
    figures = {"progress": progress(trials, **said), "slices": slices(trials, names, **said_too)}
    if len(names) > 1:
        x, y = (RATE, DECAY) if {RATE, DECAY} <= {*names} else names[:2]
        line = None
        if valley is not None:
            at_x, at_y = np.exp([valley.x, valley.y]).tolist()
            line = Line(at_x, at_y, *valley.slope[:3])
        figures["landscape"] = landscape(trials, x, y, ridge=line, **said_too)
    drawn = {name: picture(name, figure, f"{name}.png") for name, figure in figures.items()}
    return {"landscape": None, **drawn}


def _chosen(search: Search, tuned: Tuned) -> int:
    """Returns the place of the trial whose hyperparameters were chosen.

    Whole numbers may have been tried twice, and one of them stopped.
    """
    places = np.stack([search.trials[name].values for name in search.space], axis=1)
    wanted = np.array([tuned.best[name] for name in search.space])
    # relative, as learning rate and λ differ by orders of magnitude; a choice may be 0
    off = np.abs(places - wanted) / np.maximum(np.abs(wanted), 1e-12)
    return int(np.lexsort((search.trials["stopped"].values, off.sum(axis=1)))[0])


def _trials(search: Search) -> list[dict[str, Any]]:
    trials = search.trials
    places = zip(*(trials[name].values for name in search.space), strict=True)
    steps = (f"{count:,}" for count in trials["steps"].values)
    columns = zip(trials["trial"].values, places, found_of(trials), steps, strict=True)
    return [dict(zip(("number", "at", "found", "steps"), row, strict=True)) for row in columns]
