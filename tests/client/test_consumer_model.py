"""The consumer against a slow obvious model, while leaders move and restart under it."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from raykafka.client.consumer import Consumer
from raykafka.model import TopicPartition
from tests.kits.scripted_cluster import ScriptedCluster

PARTITIONS = [TopicPartition("t", number) for number in range(3)]
some = st.sampled_from(PARTITIONS)


class ConsumerModel(RuleBasedStateMachine):
    """What was appended, how far it was read, and what is paused: two dicts and a set."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = ScriptedCluster(leaders=2)
        self.cluster.__enter__()
        self.topic = self.cluster.create("t", partitions=len(PARTITIONS))
        self.log: dict[TopicPartition, list[bytes]] = {p: [] for p in PARTITIONS}
        self.position = dict.fromkeys(PARTITIONS, 0)
        self.paused: set[TopicPartition] = set()
        self.appended = 0
        self.consumer = Consumer(
            self.cluster.bootstrap, auto_offset_reset="earliest", retry_backoff_ms=1
        )

    def teardown(self) -> None:
        self.consumer.close()
        self.cluster.__exit__()

    @initialize()
    def assign(self) -> None:
        self.consumer.assign(PARTITIONS)

    def left(self) -> int:
        return sum(len(self.log[p]) - self.position[p] for p in PARTITIONS if p not in self.paused)

    def took(self, partition: TopicPartition, offset: int, value: Any) -> None:
        assert partition not in self.paused
        assert offset == self.position[partition]
        assert value == self.log[partition][offset]
        self.position[partition] += 1

    @rule(partition=some, count=st.integers(1, 5))
    def append(self, partition: TopicPartition, count: int) -> None:
        values = [b"%d" % number for number in range(self.appended, self.appended + count)]
        self.appended += count
        self.cluster.append(self.topic, values, partition.partition)
        self.log[partition] += values

    @rule(limit=st.integers(1, 7))
    def poll(self, limit: int) -> None:
        polled = self.consumer.poll(timeout_ms=0, max_records=limit)
        assert sum(map(len, polled.values())) <= limit
        for partition, records in polled.items():
            for record in records:
                self.took(partition, record.offset, record.value)

    @rule(limit=st.integers(1, 7))
    def poll_batches(self, limit: int) -> None:
        batches = self.consumer.poll_batches(timeout_ms=0, max_records=limit)
        assert sum(batch.num_rows for batch in batches) <= limit
        for batch in batches:
            for index, value in enumerate(batch.batch.column("value").to_pylist()):
                self.took(batch.partition, batch.base_offset + index, value)

    @rule(count=st.integers(1, 4))
    def iterate(self, count: int) -> None:
        for _ in range(min(count, self.left())):
            record = next(self.consumer)
            self.took(record.topic_partition, record.offset, record.value)

    @rule()
    def drain(self) -> None:
        for _ in range(1000):
            if not self.left():
                return
            for partition, records in self.consumer.poll(timeout_ms=100).items():
                for record in records:
                    self.took(partition, record.offset, record.value)
        raise AssertionError(f"{self.left()} records never came")

    @rule(partition=some, share=st.floats(0, 1))
    def seek(self, partition: TopicPartition, share: float) -> None:
        offset = int(share * len(self.log[partition]))
        self.consumer.seek(partition, offset)
        self.position[partition] = offset

    @rule(partition=some)
    def seek_to_beginning(self, partition: TopicPartition) -> None:
        self.consumer.seek_to_beginning(partition)
        self.position[partition] = 0

    @rule(partition=some)
    def seek_to_end(self, partition: TopicPartition) -> None:
        self.consumer.seek_to_end(partition)
        self.position[partition] = len(self.log[partition])
        assert self.consumer.position(partition) == self.position[partition]

    @rule(partition=some)
    def pause(self, partition: TopicPartition) -> None:
        self.consumer.pause(partition)
        self.paused.add(partition)

    @rule(partition=some)
    def resume(self, partition: TopicPartition) -> None:
        self.consumer.resume(partition)
        self.paused.discard(partition)

    @rule(partition=some, leader=st.integers(0, 1))
    def move_leader(self, partition: TopicPartition, leader: int) -> None:
        self.cluster.move(self.topic.logs[partition.partition], leader)

    @rule(leader=st.integers(0, 1))
    def restart_leader(self, leader: int) -> None:
        self.cluster.restart_leader(leader)

    @invariant()
    def positions_agree(self) -> None:
        assert self.consumer.paused() == self.paused
        for partition in self.consumer.assignment():
            assert self.consumer.position(partition) == self.position[partition]


TestConsumerModel = ConsumerModel.TestCase
TestConsumerModel.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
