"""A street under construction: what all its builders share."""

from dataclasses import dataclass, field

import numpy as np

from .canvas import Canvas
from .plan import Plan, Street


@dataclass
class Site:
    """One street being built.

    featured      train ids that are sure to be shown nearby
    feature_side  the side (-1 left, +1 right) of a featured frontage
    ego_s         the camera's offset from the road's centre line, metres
    taken         rectangles of the ground that are occupied: offset, z, half width, half length
    """

    street: Street
    rng: np.random.Generator
    featured: set[int]
    feature_side: int
    plan: Plan
    ego_s: float
    canvas: Canvas
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def beside(self, side: int, share: float) -> float:
        """An offset on the strip between the road (`share` 0) and the lots (1)."""
        edge, outer = self.plan.edge(side), self.plan.outer(side)
        return edge + side * 0.5 + (outer - edge - side * 0.8) * share

    def clear(self, z: float) -> bool:
        """Whether z is outside the crossing road."""
        junction = self.plan.junction
        return junction is None or not junction[0] - 0.5 < z < junction[1] + 0.5

    def free(self, s: float, z: float, half_wide: float, half_long: float) -> bool:
        """Claim a rectangle of the road unless something is there."""
        for a, b, wide, long in self.taken:
            if abs(a - s) < wide + half_wide and abs(b - z) < long + half_long:
                return False
        self.taken.append((s, z, half_wide, half_long))
        return True
