"""The study: how learning rate and weight decay interact, on data. Needs the extra ``study``."""

try:
    from decoupled_wd.study.sweep import sweep as sweep
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"decoupled_wd.study needs {error.name}; install it with: pip install 'decoupled-wd[study]'"
    ) from error
