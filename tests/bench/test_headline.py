"""How rows are judged: medians, direction, missing sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.headline import report
from bench.headline.targets import ROWS, Row

RATE = Row("produce", "Kafka", "records/s", "a", "b", 1.2, known=100)
TIME = Row("ack", "Kafka", "us", "a", "b", 0.25, known=100)


def test_medians_are_compared() -> None:
    judged = RATE.judge({"a": [1, 120, 500], "b": [100, 90, 110]})
    assert (judged["ours"], judged["theirs"], judged["ratio"]) == (120, 100, 1.2)
    assert judged["met"] is True
    assert judged["ours_spread"] == [1, 500]
    assert judged["runs"] == 3
    assert judged["target"] == ">= 1.2x"


@pytest.mark.parametrize(
    ("row", "ours", "theirs", "met"),
    [
        (RATE, 119, 100, False),
        (TIME, 25, 100, True),
        (TIME, 26, 100, False),
        (Row("writable", "Kafka", "s", "a", "b", None, most=3), 3, 9, True),
        (Row("writable", "Kafka", "s", "a", "b", None, most=3), 3.1, 9, False),
        (Row("both", "Kafka", "s", "a", "b", 10, most=3), 3.1, 9, False),
    ],
)
def test_direction_follows_the_unit(row: Row, ours: float, theirs: float, met: bool) -> None:
    assert row.judge({"a": [ours], "b": [theirs]})["met"] is met


def test_a_missing_side_is_no_figure_and_no_verdict() -> None:
    judged = RATE.judge({"a": [5.0]})
    assert (judged["ours"], judged["theirs"], judged["ratio"], judged["met"]) == (
        5,
        None,
        None,
        None,
    )
    nothing = Row("later", "Kafka", "us", "x", "y", 1, landed=False).judge({})
    assert (nothing["ours"], nothing["met"]) == (None, None)
    assert nothing["note"] == "the feature has not landed"


def test_a_peer_far_below_what_is_known_of_it_is_pointed_out() -> None:
    assert "slower than its known" in RATE.judge({"a": [1], "b": [69]})["note"]
    assert RATE.judge({"a": [1], "b": [71]})["note"] == ""
    assert "slower than its known" in TIME.judge({"a": [1], "b": [150]})["note"]
    assert TIME.judge({"a": [1], "b": [140]})["note"] == ""


def test_figures_have_names_that_cases_use() -> None:
    assert all("/" in name for row in ROWS for name in (row.ours, row.theirs))
    assert len({(row.row, row.peer) for row in ROWS}) == len(ROWS)


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    figures = {row.ours: [10.0, 20.0] for row in ROWS if row.landed}
    figures |= {row.theirs: [5.0] for row in ROWS if row.landed}
    return [row.judge(figures) for row in ROWS]


def test_every_row_is_in_the_table_and_the_picture_is_drawn(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    result = {"environment": {"cpu": "any"}, "seconds": 1, "missing": {"x": "y"}, "void": ["z"]}
    text = report.markdown(rows, result)
    for row in ROWS:
        assert f"| {row.row} | {row.peer} |" in text
    assert "Missing: x: y." in text
    assert "Void: z." in text
    report.plot(rows, tmp_path / "headline.png")
    assert (tmp_path / "headline.png").read_bytes().startswith(b"\x89PNG")
    json.dumps(rows)
