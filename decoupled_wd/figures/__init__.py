"""Pictures of a decay: what it remembers, how it turns, what it halves, and which λ to take.

Each function takes numbers or labelled arrays, those of xarray for one, and returns a
`matplotlib.figure.Figure`, whose ``savefig`` writes it and which a notebook shows. None goes
through pyplot: nothing global is touched, so figures are drawn in any thread and without a display.
Colours are those of Okabe and Ito, which the common kinds of colour blindness keep apart, and each
label has a line style or a marker of its own beside its colour. Needs the extra ``plot``, which is
matplotlib alone.
"""

try:
    from decoupled_wd.figures._heatmaps import heatmap
    from decoupled_wd.figures._histories import influence, rotation
    from decoupled_wd.figures._leaves import half_lives
    from decoupled_wd.figures._plans import plan
    from decoupled_wd.figures._ridge import ridge
except ModuleNotFoundError as error:
    # a module of our own that is missing is a defect, and no extra installs it
    if error.name != "matplotlib":
        raise
    raise ModuleNotFoundError(
        "decoupled_wd.figures needs matplotlib; install it with: pip install 'decoupled-wd[plot]'",
        name=error.name,
    ) from error

__all__ = ["half_lives", "heatmap", "influence", "plan", "ridge", "rotation"]


def __dir__() -> list[str]:
    """List the names for users, for tab completion."""
    return __all__
