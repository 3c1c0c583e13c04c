"""Mean and deviation over seeds: one place for tables, charts and studies."""

from collections.abc import Collection, Mapping

import numpy as np


def mean(values: Collection[float]) -> float:
    """Return the mean of one or more values."""
    return float(np.mean(list(values)))


def deviation(values: Collection[float]) -> float | None:
    """Return the sample standard deviation of two or more values; None for fewer."""
    return float(np.std(list(values), ddof=1)) if len(values) > 1 else None


def mean_text(values: Collection[float], digits: int = 1, difference: bool = False) -> str:
    """Show the mean; a `difference` with its sign, where a minus is no hyphen."""
    rounded = round(mean(values), digits) + 0.0  # takes the minus from a zero
    return f"{rounded:{'+' if difference else ''}.{digits}f}".replace(
        "-", "−" if difference else "-"
    )


def deviation_text(values: Collection[float], digits: int = 1) -> str:
    """Show " ± deviation"; nothing for one value."""
    width = deviation(values)
    return "" if width is None else f" ± {width:.{digits}f}"


def paired_differences(
    own: Mapping[int, float], reference: Mapping[int, float]
) -> dict[int, float]:
    """Return own − reference for each seed that both {seed: value} have."""
    return {seed: own[seed] - reference[seed] for seed in own if seed in reference}
