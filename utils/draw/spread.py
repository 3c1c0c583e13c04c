"""Mean and deviation over seeds: one place for tables, charts and studies."""

from collections.abc import Mapping, Sequence

import numpy as np


def mean(values: Sequence[float]) -> float:
    """Return the mean of one or more values."""
    return float(np.mean(values))


def deviation(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation of two or more values; None for fewer."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def signed(value: float, digits: int = 1) -> str:
    """Show a difference with its sign; a minus is a minus, not a hyphen."""
    # Adding zero takes the minus from a rounded zero.
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def spread_text(values: Sequence[float], digits: int = 1, difference: bool = False) -> str:
    """Show values as "mean ± deviation", without a deviation for one; `difference`: with sign."""
    middle, width = mean(values), deviation(values)
    text = signed(middle, digits) if difference else f"{round(middle, digits) + 0.0:.{digits}f}"
    return text if width is None else f"{text} ± {width:.{digits}f}"


def paired_differences(
    own: Mapping[int, float], reference: Mapping[int, float]
) -> dict[int, float]:
    """Return own − reference for each seed that both {seed: value} have."""
    return {seed: own[seed] - reference[seed] for seed in own if seed in reference}
