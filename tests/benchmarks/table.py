"""One row of every benchmark: a figure, and its ratio to a peer or a floor of the same run."""

from typing import Any


def row(
    benchmark: str,
    case: str,
    value: float,
    unit: str,
    *,
    against: str,
    reference: float,
    ratio: float | None = None,
    target: float | None = 1.0,
) -> dict[str, Any]:
    """`against` names the peer or the floor, whose figure is `reference`; 0 of 0 is a ratio of 1, more has none.

    A `ratio` is given where it is not that of the two figures, as a median of ratios is not; without a `target`
    the reference only stands beside.
    """
    if ratio is None:
        ratio = value / reference if reference else (1.0 if value == 0 else None)
    return {
        "benchmark": benchmark,
        "case": case,
        "value": round(value, 4),
        "unit": unit,
        "against": against,
        "reference": round(reference, 4),
        "ratio": None if ratio is None else round(ratio, 4),
        "target": None if target is None else round(target, 4),
    }


def absent(benchmark: str, case: str, against: str) -> dict[str, Any]:
    """The row of a peer that is not installed."""
    figures = dict.fromkeys(("value", "unit", "reference", "ratio", "target"))
    return {"benchmark": benchmark, "case": case, "against": f"{against}: not installed"} | figures


def missed(row: dict[str, Any]) -> bool:
    """Whether the ratio is more than 1 % above its target, or the figure above a floor of 0."""
    if row["target"] is None:
        return False
    return row["ratio"] is None or row["ratio"] > 1.01 * row["target"]
