"""Percentiles of one run, medians and spreads over runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def percentile(samples: Sequence[float] | npt.NDArray[np.floating], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the samples lie; nothing is interpolated."""
    ordered = np.sort(np.asarray(samples, np.float64))
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))])


@dataclass(frozen=True)
class Spread:
    """One figure over several runs."""

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        return cls(statistics.median(figures), min(figures), max(figures), len(figures))
