"""The cluster's topics as the coordinator knows them, and what members are subscribed to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from raykafka.errors import InvalidRegularExpressionError
from raykafka.group.assignors.api import TopicSpec
from raykafka.group.patterns import Pattern
from raykafka.group.records import MemberMetadata

MAX_PATTERN_WORK: Final = 300_000
"""States of a pattern's automaton that may be visited to match all topics: some 0.3 s."""


class TopicView(NamedTuple):
    """One topic; hosts and racks are those of the partitions' leaders, empty text for unknown."""

    topic_id: str
    num_partitions: int
    hosts: Sequence[str] = ()
    racks: Sequence[str] = ()


class Topics:
    """Nothing of it is durable: the shell tells it anew, and patterns are resolved again."""

    def __init__(self) -> None:
        self.by_name: Mapping[str, TopicView] | None = None
        """None until the shell has told."""
        self.version = 0
        """Grows whenever names, ids or partition counts have changed."""
        self._names: dict[str, str] = {}
        """Names by topic id."""
        self._patterns: dict[str, _Resolved] = {}

    def update(self, by_name: Mapping[str, TopicView]) -> bool:
        """Take the newest picture; whether it may change what groups are to be assigned."""
        changed = self.by_name is None or _identities(by_name) != _identities(self.by_name)
        self.by_name = by_name
        if changed:
            self.version += 1
            self._names = {view.topic_id: name for name, view in by_name.items()}
        return changed

    def name_of(self, topic_id: str) -> str:
        """Empty text for a topic that is gone."""
        return self._names.get(topic_id, "")

    def check_pattern(self, text: str) -> None:
        """Whether the pattern can be had, with the topics that there are now.

        Raises ``InvalidRegularExpressionError``.
        """
        if text and text not in self._patterns:
            resolved = _Resolved(Pattern(text))
            resolved.update(self.version, self.by_name or {}, MAX_PATTERN_WORK)
            self._patterns[text] = resolved

    def subscriptions(self, member: MemberMetadata) -> frozenset[str]:
        """Names of the topics that there are and that the member is subscribed to."""
        by_name = self.by_name or {}
        named = frozenset(name for name in member.subscribed_topics if name in by_name)
        return named | self._matching(member.subscribed_pattern)

    def identities(self, names: Iterable[str]) -> dict[str, tuple[str, int]]:
        """Topic ids and partition counts of those that there are."""
        by_name = self.by_name or {}
        return {
            name: (by_name[name].topic_id, by_name[name].num_partitions)
            for name in sorted(names)
            if name in by_name
        }

    def specs(self, names: Iterable[str]) -> dict[str, TopicSpec]:
        """As assignors see them."""
        by_name = self.by_name or {}
        return {
            name: TopicSpec(view.num_partitions, view.hosts, view.racks)
            for name in sorted(names)
            if (view := by_name.get(name)) is not None
        }

    def keep_patterns(self, used: Iterable[str]) -> None:
        """Forget all patterns but these."""
        self._patterns = {text: self._patterns[text] for text in used if text in self._patterns}

    @property
    def num_patterns(self) -> int:
        """How many are remembered."""
        return len(self._patterns)

    def _matching(self, text: str) -> frozenset[str]:
        if not text:
            return frozenset()
        resolved = self._patterns.get(text)
        if resolved is None:
            resolved = self._patterns[text] = _Resolved(Pattern(text))
        if resolved.version != self.version:
            resolved.update(self.version, self.by_name or {})
        return resolved.matching


class _Resolved:
    """A pattern and the topics that match it; each name is matched once."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._seen: frozenset[str] = frozenset()
        self.version = -1
        self.matching: frozenset[str] = frozenset()

    def update(self, version: int, names: Iterable[str], limit: int | None = None) -> None:
        """Raises ``InvalidRegularExpressionError`` when it takes more work than ``limit``."""
        pattern, there = self._pattern, frozenset(names)
        found = set(self.matching & there)
        for name in there - self._seen:
            if not name.startswith("__") and pattern.matches(name):
                found.add(name)
            if limit is not None and pattern.work > limit:
                raise InvalidRegularExpressionError(
                    f"it takes too much work to match {pattern.text!r} with {len(there)} topics; "
                    "simplify it, its counted repetitions above all"
                )
        pattern.forget()
        self._seen, self.matching, self.version = there, frozenset(found), version


def _identities(by_name: Mapping[str, TopicView]) -> dict[str, tuple[str, int]]:
    return {name: (view.topic_id, view.num_partitions) for name, view in by_name.items()}
