"""Ten thousand groups: replay, memory of nothing, idle ticks."""

from __future__ import annotations

import time

from group_kit import GroupBench, Offset

from raykafka.group.commands import UpdateTopics
from raykafka.group.topics import TopicView

GROUPS = 10_000


def test_ten_thousand_groups_are_replayed_in_two_seconds_and_cost_nothing_while_idle() -> None:
    bench = GroupBench()
    bench.join("group-0", "a")
    bench.join("group-0", "b")
    bench.settle("group-0", "a", "b")
    offsets = [Offset(number, 1000) for number in range(4)]
    bench.commit("group-0", *offsets, member_id="a", member_epoch=2)
    log = [
        (
            key.replace(b"group-0", b"%07d" % number),
            value.replace(b"group-0", b"%07d" % number) if value is not None else None,
        )
        for number in range(GROUPS)
        for key, value in bench.log
    ]
    assert len(log) > 100_000
    machine = bench.new_machine()
    begin = time.process_time()
    machine.replay([machine.decode(key, value) for key, value in log])
    machine.on_loaded(now_ms=0, monotonic_ms=0)
    assert time.process_time() - begin < 2
    assert len(machine.groups.by_id) == GROUPS
    machine.handle(
        UpdateTopics({"clicks": TopicView("C" * 32, 4), "views": TopicView("V" * 32, 2)}),
        now_ms=0,
        monotonic_ms=0,
    )
    for tick in range(60):  # who compares every group once with the topics
        machine.on_tick(now_ms=0, monotonic_ms=tick * 200)
    begin = time.process_time()
    for tick in range(60, 160):
        assert not machine.on_tick(now_ms=0, monotonic_ms=tick * 200).records
    assert time.process_time() - begin < 0.05
