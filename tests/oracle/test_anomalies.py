"""Every anomaly in a history that shows it, and histories that show none."""

from __future__ import annotations

from pathlib import Path

import pytest

from raykafka.testing.oracle.history import History, Recorder, load, merge
from raykafka.testing.oracle.judging import judge
from raykafka.testing.oracle.report import ALLOWED, NEVER, Report

MS = 1_000_000
PRODUCER, CONSUMER = 1, 2


class Story:
    """A history that is told record by record; time passes by a millisecond each."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.now = 0

    def tick(self) -> int:
        self.now += MS
        return self.now

    def sent(
        self,
        value: int,
        offset: int | None,
        *,
        process: int = PRODUCER,
        partition: int = 0,
        operation: int | None = None,
    ) -> Story:
        """Acknowledged at ``offset``; None: nobody knows."""
        number = self.recorder.send(process, partition, value, self.tick(), operation)
        if offset is not None:
            self.recorder.acknowledged(number, offset, self.tick())
        return self

    def refused(self, value: int) -> Story:
        number = self.recorder.send(PRODUCER, 0, value, self.tick())
        self.recorder.failed(number, self.tick())
        return self

    def read(
        self,
        *records: tuple[int, int],
        process: int = CONSUMER,
        partition: int = 0,
        reassigned: bool = False,
        operation: int | None = None,
    ) -> Story:
        """One poll that returned (offset, value) records."""
        position = records[-1][0] + 1 if records else 0
        self.recorder.polled(
            process,
            [(partition, offset, value) for offset, value in records],
            [(partition, position)],
            self.tick(),
            reassigned=[partition] if reassigned else (),
            operation=operation,
        )
        return self

    @property
    def history(self) -> History:
        return self.recorder.history()

    def judged(self, **options: bool | set[int]) -> Report:
        return judge(self.history, **options)  # type: ignore[arg-type]


def found(story: Story, **options: bool | set[int]) -> dict[str, int]:
    report = story.judged(**options)
    assert set(report.counts) <= {*NEVER, *ALLOWED}
    assert set(report.examples) == set(report.counts)
    return report.counts


def three_sent() -> Story:
    return Story().sent(10, 0).sent(11, 1).sent(12, 2)


def test_a_history_without_anomalies() -> None:
    report = three_sent().read((0, 10), (1, 11), (2, 12)).judged()
    assert report.counts == {}
    assert report.anomalies == 0
    assert report.summary() == (
        "3 records sent, 3 acknowledged, 3 read: no anomalies; worst lag 0 ms"
    )


def test_an_empty_history() -> None:
    report = judge(merge([]))
    assert report.counts == {}
    assert report.sends == 0


def test_lost_write() -> None:
    assert found(three_sent().read((0, 10)).read((2, 12)))["lost-write"] == 1


def test_a_write_that_another_process_read_is_not_lost() -> None:
    story = three_sent().read((0, 10), (1, 11), (2, 12), process=3)
    assert "lost-write" not in found(story.read((2, 12), process=4))


def test_unseen() -> None:
    story = three_sent().read((0, 10))
    assert found(story) == {"unseen": 2}
    assert found(story, is_complete=False) == {}


def test_what_nobody_ever_read_of_a_partition_is_unseen() -> None:
    assert found(three_sent()) == {"unseen": 3}


def test_aborted_read() -> None:
    assert found(Story().refused(5).read((0, 5))) == {"aborted-read": 1}


def test_a_record_that_nobody_sent() -> None:
    assert found(Story().read((0, 5))) == {"phantom-read": 1}


def test_inconsistent_offsets() -> None:
    by_readers = three_sent().read((0, 10), (1, 11), (2, 12)).read((0, 12), process=3)
    assert found(by_readers)["inconsistent-offsets"] == 1
    by_the_acknowledgement = Story().sent(10, 0).sent(11, None).read((0, 11))
    assert found(by_the_acknowledgement)["inconsistent-offsets"] == 1


def test_duplicate() -> None:
    story = Story().sent(10, 0).read((0, 10), (1, 10))
    assert found(story) == {"duplicate": 1}
    assert found(story, idempotent=False) == {}


def test_equal_values_and_offsets_of_other_partitions_are_others() -> None:
    story = Story().sent(10, 0).sent(10, 0, partition=1)
    story.read((0, 10)).read((0, 10), partition=1)
    assert found(story) == {}


def test_a_send_of_unknown_outcome_may_be_read_or_not() -> None:
    assert found(Story().sent(1, None).sent(2, None).read((0, 2))) == {}


def test_precommitted_read() -> None:
    story = Story().sent(7, 0, operation=1000).sent(8, 1)
    assert found(story.read((0, 7), (1, 8), operation=1000)) == {"precommitted-read": 1}


def test_a_poll_that_skips_what_is_known() -> None:
    story = three_sent().read((0, 10), (1, 11), (2, 12), process=3)
    assert found(story.read((0, 10)).read((2, 12))) == {"poll-skip": 1}


def test_a_gap_that_nobody_knows_a_record_of_is_no_skip() -> None:
    story = Story().sent(10, 0).sent(12, 2)  # a marker of a transaction may stand at 1
    assert found(story.read((0, 10)).read((2, 12))) == {}


def test_a_poll_that_goes_back() -> None:
    story = three_sent().read((0, 10), (1, 11), (2, 12)).read((1, 11))
    assert found(story) == {"nonmonotonic-poll": 1}


def test_a_group_may_skip_and_go_back_between_polls() -> None:
    story = three_sent().read((0, 10), (1, 11), (2, 12), process=3)
    story.read((0, 10)).read((2, 12)).read((1, 11))
    report = story.judged(subscribed={CONSUMER})
    assert report.counts == {"rebalanced-poll-skip": 1, "rebalanced-nonmonotonic-poll": 1}
    assert report.anomalies == 0


def test_within_one_poll_nobody_may() -> None:
    story = three_sent().read((0, 10), (1, 11), (2, 12), process=3)
    assert found(story.read((0, 10), (2, 12), (1, 11)), subscribed={CONSUMER}) == {
        "int-poll-skip": 1,
        "int-nonmonotonic-poll": 1,
    }


def test_but_for_a_partition_that_moved_during_it() -> None:
    story = three_sent().read((0, 10), (1, 11), (2, 12), process=3)
    moved = story.read((0, 10), (2, 12), (1, 11), reassigned=True)
    assert found(moved, subscribed={CONSUMER}) == {}


def test_sends_that_go_back() -> None:
    story = Story().sent(10, 1).sent(11, 0).read((0, 11), (1, 10))
    assert found(story) == {"nonmonotonic-send": 1}
    two = Story().sent(10, 1).sent(11, 0, process=3).read((0, 11), (1, 10))
    assert found(two) == {}


def test_sends_of_one_transaction_that_go_back_or_skip() -> None:
    story = Story().sent(10, 1, operation=500).sent(11, 0, operation=500)
    assert found(story.read((0, 11), (1, 10))) == {"int-nonmonotonic-send": 1}
    story = Story().sent(10, 0, operation=500).sent(11, 2, operation=500)
    report = story.read((0, 10), (2, 11)).judged()
    assert report.counts == {"int-send-skip": 1}
    assert report.anomalies == 0


def test_worst_realtime_lag() -> None:
    story = Story().sent(10, 0)
    acknowledged_ms = story.now / MS
    story.sent(11, 1).now += 100 * MS
    story.read()  # nothing, although both were acknowledged
    assert story.judged().worst_lag_ms == story.now / MS - acknowledged_ms
    story.read((0, 10))
    behind = story.judged().worst_lag_ms
    story.read((1, 11))
    assert story.judged().worst_lag_ms == behind


def test_examples_say_where() -> None:
    report = three_sent().read((0, 10)).read((2, 12)).judged()
    assert report.examples["lost-write"] == ["partition 0: value 11 acknowledged at 1"]
    assert "lost-write 1" in report.summary()


def test_a_history_survives_a_file(tmp_path: Path) -> None:
    story = three_sent().refused(4).sent(5, None).read((0, 10), reassigned=True)
    path = tmp_path / "history.npz"
    story.history.save(path)
    assert judge(load(path)).counts == story.judged().counts
    loaded = load(path)
    assert loaded.sends.status.tolist() == [0, 0, 0, 1, 2]
    assert loaded.polls.reassigned.tolist() == [1]


def test_merged_histories_are_judged_as_one() -> None:
    producer = three_sent()
    consumer = Story()
    consumer.recorder = Recorder(first_operation=1 << 32)
    consumer.read((0, 10), (1, 11), (2, 12))
    assert judge(merge([producer.history, consumer.history])).counts == {}
    assert judge(merge([consumer.history])).counts == {"phantom-read": 3}


@pytest.mark.parametrize("name", [*NEVER, *ALLOWED])
def test_every_kind_is_named_once(name: str) -> None:
    assert [*NEVER, *ALLOWED].count(name) == 1
