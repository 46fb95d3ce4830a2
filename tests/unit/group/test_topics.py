"""What the coordinator knows of the topics, and what patterns cost it."""

from __future__ import annotations

import random
import time

import pytest

from raykafka.errors import InvalidRegularExpressionError
from raykafka.group.records import MemberMetadata
from raykafka.group.topics import Topics, TopicView


def named(*names: str) -> dict[str, TopicView]:
    return {name: TopicView(name.upper(), 1) for name in names}


def subscriber(pattern: str, *topics: str) -> MemberMetadata:
    return MemberMetadata("g", "m", subscribed_topics=topics, subscribed_pattern=pattern)


def test_only_what_can_change_an_assignment_makes_a_new_version() -> None:
    topics = Topics()
    assert topics.update(named("a", "b"))
    assert not topics.update(named("b", "a"))
    assert not topics.update({"a": TopicView("A", 1, ["h"], ["r"]), **named("b")})
    assert topics.version == 1
    assert topics.specs(["a", "c"])["a"].place(0) == ("h", "r")
    assert topics.specs(["a"])["a"].place(9) == ("", "")
    assert topics.update({"a": TopicView("A", 2), **named("b")})
    assert topics.update(named("b"))
    assert topics.name_of("B") == "b"
    assert topics.name_of("A") == ""
    assert topics.identities(["a", "b"]) == {"b": ("B", 1)}


def test_subscriptions_follow_the_topics() -> None:
    topics = Topics()
    assert topics.subscriptions(subscriber("x.*", "a")) == frozenset()
    topics.update(named("a", "x1", "__x"))
    assert topics.subscriptions(subscriber("x.*", "a", "gone")) == {"a", "x1"}
    assert topics.subscriptions(subscriber(".*")) == {"a", "x1"}, "internal ones do not match"
    topics.update(named("x2", "x1"))
    assert topics.subscriptions(subscriber("x.*", "a")) == {"x1", "x2"}
    topics.check_pattern("x.*")
    assert topics.num_patterns == 2
    topics.keep_patterns(["x.*", "unknown", ""])
    assert topics.num_patterns == 1


def test_a_pattern_that_costs_too_much_is_refused() -> None:
    topics = Topics()
    choose = random.Random(1)
    topics.update(named(*("".join(choose.choices("ab", k=80)) for _ in range(5000))))
    begin = time.process_time()
    with pytest.raises(InvalidRegularExpressionError, match="5000 topics"):
        topics.check_pattern("(a|b)*a(a|b){90}")
    assert time.process_time() - begin < 2
    topics.check_pattern("(a|b)*a")
    assert topics.num_patterns == 1
