"""The cluster's topics as the coordinator knows them, and what members are subscribed to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from raykafka.group.assignors.api import TopicSpec
from raykafka.group.patterns import Pattern
from raykafka.group.records import MemberMetadata


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
        self._patterns: dict[str, tuple[Pattern, int, frozenset[str]]] = {}
        """Pattern, version of the topics and what matched them."""

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
        """Raises ``InvalidRegularExpressionError``."""
        if text and text not in self._patterns:
            self._patterns[text] = (Pattern(text), -1, frozenset())

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
        pattern, version, matching = self._patterns.get(text, (None, -1, frozenset()))
        if pattern is None:
            pattern = Pattern(text)
        elif version == self.version:
            return matching
        matching = frozenset(
            name
            for name in self.by_name or {}
            if not name.startswith("__") and pattern.matches(name)
        )
        self._patterns[text] = (pattern, self.version, matching)
        return matching


def _identities(by_name: Mapping[str, TopicView]) -> dict[str, tuple[str, int]]:
    return {name: (view.topic_id, view.num_partitions) for name, view in by_name.items()}
