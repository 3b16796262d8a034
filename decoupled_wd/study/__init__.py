"""The study: how learning rate and weight decay interact, on data. Needs the extra ``study``."""

_EXTRA = {
    "flax",
    "jinja2",
    "matplotlib",
    "mnist1d",
    "numpy",
    "optuna",
    "rich",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "xarray",
    "zarr",
}

try:
    from decoupled_wd.study.grid.sweep import sweep
    from decoupled_wd.study.grid.types import Points
    from decoupled_wd.study.tune.search import tune
except ModuleNotFoundError as error:
    # a module that is missing inside the study, or inside an installed package, is a defect
    if error.name not in _EXTRA:
        raise
    raise ModuleNotFoundError(
        f"decoupled_wd.study needs {error.name}; install it with: pip install "
        "'decoupled-wd[study]'",
        name=error.name,
    ) from error

__all__ = ["Points", "sweep", "tune"]
