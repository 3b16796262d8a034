"""One row of every benchmark: a figure, and its ratio to a peer or a floor of the same run."""

from typing import Any


def row(
    benchmark: str, case: str, value: float, unit: str, *, against: str, reference: float
) -> dict[str, Any]:
    """`against` names the peer or the floor, whose figure is `reference`; 0 of 0 is a ratio of 1."""
    ratio = value / reference if reference else (1.0 if value == 0 else float("inf"))
    return {
        "benchmark": benchmark,
        "case": case,
        "value": round(value, 4),
        "unit": unit,
        "against": against,
        "reference": round(reference, 4),
        "ratio": round(ratio, 4),
    }
