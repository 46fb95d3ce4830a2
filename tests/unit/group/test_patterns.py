"""Patterns mean what they mean to ``re``, and take no more time than the name is long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykafka.errors import InvalidRegularExpressionError
from raykafka.group.patterns import MAX_LENGTH, Pattern

LITERALS = st.sampled_from(["a", "b", "-", "_", ".", r"\.", r"\d", r"\W", r"\s", "[ab]", "[^a]"])
CLASSES = st.sampled_from([r"[a-c\d]", r"[^\w.]", "[]a]", "[a-]", r"[\D]", r"[^\Wx]", "[.-9]"])
QUANTIFIERS = st.sampled_from(["*", "+", "?", "*?", "+?", "??", "{2}", "{1,}", "{0,2}", "{,2}?"])


def extended(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = inner.map("({})".format) | inner.map("(?:{})".format)
    return (
        st.lists(inner, min_size=1, max_size=3).map("".join)
        | st.lists(inner, min_size=2, max_size=3).map("|".join).map("({})".format)
        | st.tuples(group, QUANTIFIERS).map("".join)
    )


PIECES = LITERALS | CLASSES | st.tuples(LITERALS | CLASSES, QUANTIFIERS).map("".join)
PATTERNS = st.recursive(PIECES, extended, max_leaves=6)
NAMES = st.text(alphabet="abc12-_.x ", max_size=8)


@settings(max_examples=400, deadline=None)
@given(PATTERNS, st.lists(NAMES, min_size=1, max_size=6), st.sampled_from(["", "^"]))
def test_a_pattern_means_what_it_means_to_re(text: str, names: list[str], start: str) -> None:
    text = start + text
    ours, theirs = Pattern(text), re.compile(text, re.ASCII | re.DOTALL)
    for name in names:
        assert ours.matches(name) == bool(theirs.fullmatch(name)), (text, name)


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("", [""], ["a"]),
        ("clicks", ["clicks"], ["clicks2", "aclicks", "click"]),
        ("^clicks$", ["clicks"], ["clicks2"]),
        ("clicks-.*|views", ["clicks-", "clicks-eu", "views"], ["clicks", "views2"]),
        (r"a{2,3}b{,1}", ["aa", "aaa", "aab"], ["a", "aaaa", "aabb"]),
        (r"x{1,y", ["x{1,y"], ["x"]),
        (r"x{}", ["x{}"], ["x"]),
        (r"x{,}", ["", "xxx"], ["y"]),
        (r"\n\t", ["\n\t"], ["nt"]),
        (r"[\n-\r]", ["\n", "\r"], ["n"]),
        (r"(?:)*a", ["a"], ["", "aa"]),
        (r"[^a]", ["é", "b"], ["a", ""]),
    ],
)
def test_examples(text: str, matching: list[str], other: list[str]) -> None:
    pattern = Pattern(text)
    assert all(map(pattern.matches, matching))
    assert not any(map(pattern.matches, other))


@pytest.mark.parametrize(
    "text",
    [
        "(",
        ")",
        "a)",
        "(a",
        "[a",
        "[",
        "*a",
        "a**",
        "a*+",
        "a{2}{3}",
        "a{3,2}",
        "a{9999}",
        "|*",
        "a$b",
        "a^b",
        "(?=a)",
        "(?P<n>a)",
        "(?i)a",
        r"(a)\1",
        r"\ba",
        r"\Aa",
        r"\x41",
        "a\\",
        "[b-a]",
        r"[a-\d]",
        "[\u0001-\uffff]",
        "(" * 60 + ")" * 60,
        "a" * (MAX_LENGTH + 1),
        "((a{100}){100}){100}",
        "((){2000}){2000}",
    ],
)
def test_what_is_not_supported_is_refused(text: str) -> None:
    with pytest.raises(InvalidRegularExpressionError):
        Pattern(text)


@pytest.mark.parametrize(
    "text",
    [
        "(a+)+b",
        "(a|a)*b",
        "(a|aa)+b",
        ".*.*.*.*.*.*.*.*b",
        "(.*)*(.*)*(.*)*b",
        "((a{0,12}){0,12})b",
        "(a?){100}a{100}",
    ],
)
def test_a_bomb_does_not_go_off(text: str) -> None:
    """``re`` needs from minutes to ages for these."""
    begin = time.process_time()
    pattern = Pattern(text)
    for number in range(20):
        assert not pattern.matches("a" * (200 + number) + "c")
    assert time.process_time() - begin < 2


def test_many_names_are_matched_quickly() -> None:
    pattern = Pattern(r"team-[a-z]+\.(clicks|views)\.v\d+")
    names = [
        f"team-{name}.{kind}.v{n}" for name in "ab" for kind in ("clicks", "x") for n in range(2500)
    ]
    begin = time.process_time()
    assert sum(map(pattern.matches, names)) == 5000
    assert time.process_time() - begin < 0.5
