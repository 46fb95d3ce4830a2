from __future__ import annotations

import click
import pytest

from raykafka.cli import options
from raykafka.cli.consume import start_offset
from raykafka.cli.options import moment, parse_settings
from raykafka.cli.output import size_text, text_of, to_json
from raykafka.testing.manual_clock import ManualClock


def test_settings() -> None:
    assert parse_settings(("a=1", "b = x=y ")) == {"a": "1", "b": "x=y"}
    for wrong in ("a", "=1", ""):
        with pytest.raises(click.BadParameter, match="key=value"):
            parse_settings((wrong,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1600000000000", 1_600_000_000_000), ("2013-01-31T18:00:00Z", 1_359_655_200_000),
        ("2013-01-31T18:00:00+01:00", 1_359_651_600_000), ("1970-01-01T00:00:00Z", 0),
        ("15m", 1_000_000_000 - 900_000), ("1.5s", 1_000_000_000 - 1500), ("999d", 0),
    ],
)  # fmt: skip
def test_moments(text: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "SystemClock", lambda: ManualClock(1_000_000_000))
    assert moment(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "15 apples", "-5m", "2013-13-01", "99999-01-01"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(click.BadParameter, match="15m, 2h or 7d"):
        moment(text)


def test_offsets() -> None:
    assert [start_offset(text) for text in ("earliest", "latest", "7", "-3")] == [
        "earliest", "latest", 7, -3,
    ]  # fmt: skip
    with pytest.raises(click.BadParameter, match="whole number"):
        start_offset("1.5")


def test_values_for_people() -> None:
    assert [text_of(value) for value in (None, True, 1234567, (), ("a", "b"), "[red]x")] == [
        "-", "yes", "1,234,567", "-", "a, b", "[red]x",
    ]  # fmt: skip
    assert [size_text(size) for size in (0, 1023, 1536, 5 << 30, 3 << 50)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 GiB", "3072.0 TiB",
    ]  # fmt: skip


def test_values_for_programs() -> None:
    assert to_json({"a": b"text", "b": b"\xff"}) == '{"a": "text", "b": {"base64": "/w=="}}'
