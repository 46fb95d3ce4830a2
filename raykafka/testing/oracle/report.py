"""What the oracle found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

NEVER: Final = (
    "lost-write",
    "aborted-read",
    "phantom-read",
    "inconsistent-offsets",
    "duplicate",
    "precommitted-read",
    "poll-skip",
    "nonmonotonic-poll",
    "int-poll-skip",
    "int-nonmonotonic-poll",
    "nonmonotonic-send",
    "int-nonmonotonic-send",
    "unseen",
)
"""Anomalies that must not be there; ``Report.anomalies`` counts these."""
ALLOWED: Final = (
    "rebalanced-poll-skip",
    "rebalanced-nonmonotonic-poll",
    "int-send-skip",
)
"""What is counted and harmless: rereads after a rebalance, and others' records in between."""
MAX_EXAMPLES: Final = 8


@dataclass
class Report:
    """Anomalies by name, with a few examples of each."""

    sends: int = 0
    acknowledged: int = 0
    reads: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    worst_lag_ms: float = 0.0
    """How long ago the oldest record was acknowledged that some poll should have known and did not
    reach."""

    @property
    def anomalies(self) -> int:
        """How many there are of those that must not be."""
        return sum(count for name, count in self.counts.items() if name in NEVER)

    def found(self, name: str, count: int, examples: list[str]) -> None:
        """Add ``count`` of a kind."""
        if count:
            self.counts[name] = self.counts.get(name, 0) + count
            kept = self.examples.setdefault(name, [])
            kept += examples[: MAX_EXAMPLES - len(kept)]

    def summary(self) -> str:
        """One line."""
        found: Mapping[str, int] = {
            name: self.counts[name] for name in NEVER if self.counts.get(name)
        }
        what = ", ".join(f"{name} {count}" for name, count in found.items()) or "no anomalies"
        return (
            f"{self.sends:,} records sent, {self.acknowledged:,} acknowledged, "
            f"{self.reads:,} read: {what}; worst lag {self.worst_lag_ms:,.0f} ms"
        )
