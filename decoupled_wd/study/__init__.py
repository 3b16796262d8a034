"""The study: how learning rate and weight decay interact, on data. Needs the extra ``study``."""

_EXTRA = {
    "flax",
    "jinja2",
    "matplotlib",
    "mnist1d",
    "numpy",
    "rich",
    "scipy",
    "sklearn",
    "xarray",
    "zarr",
}

try:
    from decoupled_wd.study.grid.sweep import sweep as sweep
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] not in _EXTRA:
        raise
    raise ModuleNotFoundError(
        f"decoupled_wd.study needs {error.name}; install it with: pip install "
        "'decoupled-wd[study]'",
        name=error.name,
    ) from error
