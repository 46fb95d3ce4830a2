"""Regular expressions of subscriptions, matched in time that grows with the topic's name only.

A pattern comes from outside, and Python's ``re`` backtracks: ``(a+)+b`` or ``(a|a)*b`` keep a
coordinator busy for hours. Here a pattern becomes a nondeterministic automaton that is walked state
set by state set (Thompson), with the sets met so far remembered, so that a character costs one
look-up, and never more than the pattern's length. Like RE2, which Kafka uses for the same reason,
this leaves out what needs backtracking: look-around, back references, atomic groups, possessive
quantifiers.

What is understood means what it means to ``re.fullmatch`` with ``re.DOTALL`` and ``re.ASCII``:
literals, ``.``, classes (``[a-z]``, ``[^_]``, ``\\d \\w \\s`` and their opposites), groups, ``|``,
``* + ? {m} {m,} {m,n}`` and their lazy forms, ``^`` at the start and ``$`` at the end.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Final

from raykafka.errors import InvalidRegularExpressionError

MAX_LENGTH: Final = 512
"""Characters of a pattern."""
MAX_STATES: Final = 1000
"""States of its automaton; counted repetitions multiply them."""
_MAX_DEPTH: Final = 50
_MAX_RANGE: Final = 0x2FF
_MAX_SETS: Final = 10_000
"""Steps remembered before they are found anew."""

_DIGITS: Final = frozenset(string.digits)
_WORD: Final = frozenset(string.ascii_letters + string.digits + "_")
_SPACE: Final = frozenset(" \t\n\r\f\v")
_ESCAPED_CLASSES: Final = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_ESCAPED_CHARACTERS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}


class _Characters:
    """A set of characters, or all but a set."""

    __slots__ = ("found", "negated")

    def __init__(self, found: frozenset[str], *, negated: bool = False) -> None:
        self.found = found
        self.negated = negated

    def __contains__(self, character: str) -> bool:
        return (character in self.found) != self.negated


_ANY: Final = _Characters(frozenset(), negated=True)


class _Node:
    """A piece of the pattern: characters, or a sequence, choice or repetition of pieces."""

    __slots__ = ("characters", "kind", "least", "most", "parts")

    def __init__(
        self,
        kind: str,
        parts: tuple[_Node, ...] = (),
        characters: _Characters = _ANY,
        least: int = 0,
        most: int = -1,
    ) -> None:
        self.kind = kind
        self.parts = parts
        self.characters = characters
        self.least = least
        self.most = most
        """-1 for any number."""


class Pattern:
    """A compiled pattern; it matches whole names."""

    def __init__(self, text: str) -> None:
        """Raises ``InvalidRegularExpressionError`` that says what is wrong, and where."""
        if len(text) > MAX_LENGTH:
            raise InvalidRegularExpressionError(
                f"the pattern has {len(text)} characters, {MAX_LENGTH} are allowed"
            )
        self.text = text
        tree = _Parser(text).parse()
        self._consumes: list[_Characters | None] = []
        self._next: list[list[int]] = []
        self.work = 0
        """States visited so far, which is what matching costs; steps met before cost nothing."""
        start = self._add(None)
        self._accept = self._build(tree, start)
        self._start = self._closure({start})
        self._moves: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def matches(self, name: str) -> bool:
        """Whether the whole name matches."""
        states = self._start
        for character in name:
            key = (states, character)
            following = self._moves.get(key)
            if following is None:
                following = self._step(states, character)
                if len(self._moves) >= _MAX_SETS:
                    self._moves.clear()
                self._moves[key] = following
            states = following
            if not states:
                return False
        return self._accept in states

    def forget(self) -> None:
        """Let the memory of steps met before go, until names are matched again."""
        self._moves.clear()

    def _step(self, states: frozenset[int], character: str) -> frozenset[int]:
        reached: set[int] = set()
        self.work += len(states)
        for state in states:
            consumes = self._consumes[state]
            if consumes is not None and character in consumes:
                reached.update(self._next[state])
        return self._closure(reached)

    def _closure(self, states: set[int]) -> frozenset[int]:
        waiting = list(states)
        found = set(states)
        self.work += len(states)
        while waiting:
            state = waiting.pop()
            if self._consumes[state] is None:
                fresh = [other for other in self._next[state] if other not in found]
                found.update(fresh)
                waiting += fresh
                self.work += len(fresh)
        return frozenset(found)

    def _add(self, consumes: _Characters | None) -> int:
        if len(self._consumes) >= MAX_STATES:
            raise InvalidRegularExpressionError(
                "the pattern is too large: its counted repetitions multiply to more than "
                f"{MAX_STATES} states"
            )
        self._consumes.append(consumes)
        self._next.append([])
        return len(self._consumes) - 1

    def _build(self, node: _Node, start: int) -> int:
        """Add the piece behind state ``start``; the state behind the piece."""
        if node.kind == "characters":
            state = self._add(node.characters)
            end = self._add(None)
            self._next[start].append(state)
            self._next[state].append(end)
            return end
        if node.kind == "sequence":
            for part in node.parts:
                start = self._build(part, start)
            return start
        if node.kind == "choice":
            end = self._add(None)
            for part in node.parts:
                branch = self._add(None)
                self._next[start].append(branch)
                self._next[self._build(part, branch)].append(end)
            return end
        return self._build_repetition(node, start)

    def _build_repetition(self, node: _Node, start: int) -> int:
        part = node.parts[0]
        for _ in range(node.least):
            copy = self._add(None)  # an empty part would repeat without a state, so without a bound
            self._next[start].append(copy)
            start = self._build(part, copy)
        if node.most < 0:
            loop = self._add(None)
            self._next[start].append(loop)
            body = self._add(None)
            self._next[loop].append(body)
            self._next[self._build(part, body)].append(loop)
            return loop
        end = self._add(None)
        self._next[start].append(end)
        for _ in range(node.most - node.least):
            entry = self._add(None)
            self._next[start].append(entry)
            start = self._build(part, entry)
            self._next[start].append(end)
        return end


class _Parser:
    """Recursive descent over the text of a pattern."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> _Node:
        if self._peek() == "^":
            self._at += 1
        node = self._choice()
        if self._at < len(self._text):
            raise self._refused("a ) without a (")
        return node

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise self._refused("it ends too early")
        self._at += 1
        return character

    def _refused(self, why: str) -> InvalidRegularExpressionError:
        return InvalidRegularExpressionError(
            f"{self._text!r} is no pattern that can be used, at position {self._at}: {why}"
        )

    def _choice(self) -> _Node:
        branches = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else _Node("choice", tuple(branches))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            if self._peek() == "$" and self._at == len(self._text) - 1:
                self._at += 1
                break
            parts.append(self._repeated())
        return _Node("sequence", tuple(parts))

    def _repeated(self) -> _Node:
        atom = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return atom
        if self._peek() == "?":
            self._at += 1  # lazy: which match is found does not matter, only whether there is one
        elif self._peek() == "+":
            raise self._refused("possessive quantifiers are not supported")
        if self._bounds() is not None:
            raise self._refused("nothing stands before the quantifier")
        return _Node("repetition", (atom,), least=bounds[0], most=bounds[1])

    def _bounds(self) -> tuple[int, int] | None:
        """Of a quantifier that stands here; None where there is none."""
        character = self._peek()
        if character in ("*", "+", "?"):
            self._at += 1
            return {"*": (0, -1), "+": (1, -1), "?": (0, 1)}[character]
        if character != "{":
            return None
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : max(end, 0)].partition(",")
        digits = low + high
        is_number = not digits or (digits.isascii() and digits.isdigit())
        if end < 0 or not is_number or not (low or comma):
            return None  # a literal, as in re
        self._at = end + 1
        least = int(low or 0)
        most = int(high) if high else -1 if comma else least
        if most >= 0 and most < least:
            raise self._refused("the largest number of repetitions is below the smallest")
        if max(least, most) > MAX_STATES:
            raise self._refused(f"more than {MAX_STATES} repetitions")
        return least, most

    def _atom(self) -> _Node:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return _Node("characters", characters=self._class())
        if character == ".":
            return _Node("characters")
        if character == "\\":
            return _Node("characters", characters=self._escaped())
        if character in "*+?":
            raise self._refused("nothing stands before the quantifier")
        if character in "^$":
            raise self._refused(f"{character} is supported at the pattern's start or end only")
        return _Node("characters", characters=_Characters(frozenset(character)))

    def _group(self) -> _Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._refused(f"groups are nested more than {_MAX_DEPTH} deep")
        if self._peek() == "?":
            self._at += 1
            if self._take() != ":":
                raise self._refused("of groups with (? only (?: is supported")
        node = self._choice()
        if self._peek() != ")":
            raise self._refused("a ( is not closed")
        self._at += 1
        self._depth -= 1
        return node

    def _escaped(self) -> _Characters:
        character = self._take()
        if character.lower() in _ESCAPED_CLASSES:
            found = _ESCAPED_CLASSES[character.lower()]
            return _Characters(found, negated=character.isupper())
        if character in _ESCAPED_CHARACTERS:
            return _Characters(frozenset(_ESCAPED_CHARACTERS[character]))
        if character.isalnum():
            raise self._refused(f"\\{character} is not supported")
        return _Characters(frozenset(character))

    def _class(self) -> _Characters:
        negated = self._peek() == "^"
        if negated:
            self._at += 1
        found: set[str] = set()
        excluded: list[_Characters] = []
        first = True
        while first or self._peek() != "]":
            first = False
            low = self._take()
            if low == "\\":
                escaped = self._escaped()
                if escaped.negated:
                    excluded.append(escaped)
                    continue
                if len(escaped.found) > 1:
                    found |= escaped.found
                    continue
                (low,) = escaped.found
            found.update(self._range_from(low))
        self._at += 1
        if excluded:
            return self._with_excluded(found, excluded, negated=negated)
        return _Characters(frozenset(found), negated=negated)

    def _range_from(self, low: str) -> Iterator[str]:
        following = self._text[self._at + 1 : self._at + 2]
        if self._peek() != "-" or following in ("", "]"):
            return iter((low,))
        self._at += 1
        high = self._take()
        if high == "\\":
            escaped = self._escaped()
            if escaped.negated or len(escaped.found) > 1:
                raise self._refused("a range ends with a class")
            (high,) = escaped.found
        if ord(high) < ord(low):
            raise self._refused(f"the range {low}-{high} is empty")
        if ord(high) - ord(low) > _MAX_RANGE:
            raise self._refused(f"the range {low}-{high} is too large")
        return map(chr, range(ord(low), ord(high) + 1))

    @staticmethod
    def _with_excluded(
        found: set[str], excluded: list[_Characters], *, negated: bool
    ) -> _Characters:
        """All but what every one of ``excluded`` leaves out, and what is found beside them."""
        left_out = frozenset.intersection(*(one.found for one in excluded)) - found
        return _Characters(left_out, negated=not negated)
