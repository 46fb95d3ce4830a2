"""How configuration keys are defined, found, parsed and refused; the tables stand in other modules.

A key has one definition; the documentation, ``raykafka config`` and refusals all come from it.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from raykafka.errors import InvalidConfigError

_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_LONG_MAX = (1 << 63) - 1


class ConfigType(str, enum.Enum):
    """How a value is read from text."""

    BOOLEAN = "boolean"
    INT = "int"
    STRING = "string"
    LIST = "list"
    """Comma-separated text, or any sequence of strings."""
    OBJECT = "object"
    """A Python object, as a serializer; it has no spelling as text."""


class Importance(str, enum.Enum):
    """How likely a user is to need the key; the order of the documentation."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Validator:
    """Accepts or refuses a parsed value; ``description`` completes "must be ..."."""

    description: str
    accepts: Callable[[object], bool]


def at_least(minimum: int) -> Validator:
    """Integers from ``minimum``."""
    return between(minimum, _LONG_MAX, f"at least {minimum}")


def between(minimum: int, maximum: int, description: str = "") -> Validator:
    """Integers from ``minimum`` to ``maximum``, both included."""
    return Validator(
        description or f"between {minimum} and {maximum}",
        lambda value: isinstance(value, int) and minimum <= value <= maximum,
    )


def one_of(*allowed: object) -> Validator:
    """One of a few values."""
    spelled = [render(value) for value in allowed]
    listed = spelled[0] if len(spelled) == 1 else f"one of {', '.join(spelled)}"
    return Validator(listed, lambda value: value in allowed)


def member_of(kind: type, description: str) -> Validator:
    """Members of an enum that ``ConfigKey.convert`` has made."""
    return Validator(f"one of {description}", lambda value: isinstance(value, kind))


def callable_or_with(method: str) -> Validator:
    """A function, or an object with ``method``, or None."""
    return Validator(
        f"a function or an object with {method}()",
        lambda value: value is None or callable(value) or hasattr(value, method),
    )


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """The definition of one key.

    ``convert`` turns the parsed value into what the settings carry, such as an enum; it raises
    ``ValueError`` for a value it does not know. ``dynamic`` keys can be altered while the cluster
    runs; the others are read-only once the topic exists or the server has started.
    """

    name: str
    type: ConfigType
    default: object
    importance: Importance
    documentation: str
    valid: Validator | None = None
    dynamic: bool = True
    aliases: tuple[str, ...] = ()
    convert: Callable[[object], object] | None = None

    @property
    def field_name(self) -> str:
        """The key as a Python name: ``linger.ms`` is ``linger_ms``."""
        return self.name.replace(".", "_")

    @property
    def default_text(self) -> str:
        """The default as it is written in text."""
        return render(self.default)

    def parse(self, value: object) -> object:
        """The typed value; raises ``ValueError`` that completes "must be ..."."""
        parsed = _parse_type(self.type, value)
        if self.convert is not None:
            try:
                parsed = self.convert(parsed)
            except ValueError:
                raise ValueError(self.valid.description if self.valid else "valid") from None
        if self.valid is not None and not self.valid.accepts(parsed):
            raise ValueError(self.valid.description)
        return parsed


def _parse_type(type_: ConfigType, value: object) -> object:
    if type_ is ConfigType.OBJECT:
        return value
    if type_ is ConfigType.LIST:
        return _parse_list(value)
    if isinstance(value, enum.Enum) and isinstance(value, (str, int)):
        return value
    if type_ is ConfigType.BOOLEAN:
        text = value.strip().lower() if isinstance(value, str) else value
        if text is True or text == "true":
            return True
        if text is False or text == "false":
            return False
        raise ValueError("true or false")
    if type_ is ConfigType.INT:
        if isinstance(value, str) and _INTEGER.match(value.strip()):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LONG_MAX:
            return value
        raise ValueError("an integer")
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError("text")


def _parse_list(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise ValueError("a list of names")


def render(value: object) -> str:
    """A value as it is written in text, as ``raykafka config`` and the wire show it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, enum.Enum):
        return render(value.value) if isinstance(value, str) else value.name.lower()
    if isinstance(value, (list, tuple)):
        return ",".join(str(part) for part in value)
    return str(value)


@dataclass(frozen=True, slots=True)
class ConfigTable:
    """All keys of one kind of thing; ``scope`` names it in messages: topic, broker, ..."""

    scope: str
    keys: tuple[ConfigKey, ...]
    _by_spelling: dict[str, ConfigKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_spelling: dict[str, ConfigKey] = {}
        for key in self.keys:
            for spelling in (key.name, *key.aliases):
                for variant in {spelling, spelling.replace(".", "_")}:
                    if by_spelling.setdefault(variant, key) is not key:
                        raise ValueError(f"{variant} is defined twice for {self.scope}")
        object.__setattr__(self, "_by_spelling", by_spelling)

    def __iter__(self) -> Iterator[ConfigKey]:
        return iter(self.keys)

    def __contains__(self, name: object) -> bool:
        return name in self._by_spelling

    def find(self, name: str) -> ConfigKey:
        """The key of any spelling; raises ``InvalidConfigError`` with the nearest known one."""
        key = self._by_spelling.get(name)
        if key is not None:
            return key
        spellings = [known.name if "." in name else known.field_name for known in self.keys]
        near = difflib.get_close_matches(name, spellings, n=1, cutoff=0.6)
        hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(spellings)}"
        raise InvalidConfigError(f'unknown {self.scope} configuration "{name}"; {hint}')

    def parse_value(self, name: str, value: object) -> object:
        """The typed value of one key; raises ``InvalidConfigError`` that says what is allowed."""
        key = self.find(name)
        try:
            return key.parse(value)
        except ValueError as error:
            raise InvalidConfigError(
                f'invalid value {_quote(value)} for {self.scope} configuration "{name}": '
                f"must be {error}"
            ) from None

    def parse(self, settings: Mapping[str, object]) -> dict[str, object]:
        """Typed values of the given keys by ``field_name``; keys not given are left out.

        Raises ``InvalidConfigError`` for an unknown key, an invalid value, or one key given in two
        spellings.
        """
        parsed: dict[str, object] = {}
        for name, value in settings.items():
            field_name = self.find(name).field_name
            if field_name in parsed:
                raise InvalidConfigError(
                    f'{self.scope} configuration "{name}" is given twice, in two spellings'
                )
            parsed[field_name] = self.parse_value(name, value)
        return parsed

    def defaults(self) -> dict[str, object]:
        """Typed defaults of all keys by ``field_name``."""
        return {key.field_name: key.parse(key.default) for key in self.keys}


def _quote(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return f'"{text[:80]}..."' if len(text) > 80 else f'"{text}"'
