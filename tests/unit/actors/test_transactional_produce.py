"""Transactional batches and markers against a partition actor: who may write what, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from partition_kit import ActorHarness, run, turns
from transactions_kit import (
    ScriptedCoordinator,
    TransactionalProducer,
    abort,
    described,
)

from raykafka.actors.replicas import transactional
from raykafka.errors import (
    ConcurrentTransactionsError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    InvalidProducerEpochError,
    InvalidRecordError,
    InvalidRequiredAcksError,
    InvalidTxnStateError,
    NotLeaderOrFollowerError,
    OutOfOrderSequenceNumberError,
    ProducerFencedError,
    RaykafkaError,
    ServerBusyError,
    UnknownTopicIdError,
)


def code_of(error: type[RaykafkaError]) -> int:
    code = error("").code
    assert code
    return code


class TestFirstBatch:
    def test_the_coordinator_is_asked_once_per_transaction_and_partition(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0, 1)
                coordinator = ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                assert await producer.sent(b"a") == 0
                assert producer.send(b"b").answer.base_offset == 1
                assert await producer.sent(b"c", partition=1) == 0
                asked = [(who, place.partition) for _, who, place in coordinator.asked]
                assert asked == [((7, 0), 0), ((7, 0), 1)]
                assert coordinator.asked[0][0] == "id-7"
                await producer.end(0, 1, commit=True)
                assert await producer.sent(b"d") == 3
                assert [who for _, who, _ in coordinator.asked[2:]] == [(7, 1)]

        run(scenario())

    def test_batches_wait_in_order_and_others_do_not(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                coordinator = ScriptedCoordinator(actor)
                coordinator.holds = True
                producer = TransactionalProducer(actor)
                waiting = [producer.send(b"%d" % number) for number in range(3)]
                await turns()
                assert actor.produced(0, b"other").base_offset == 0
                assert [reply.answers for reply in waiting] == [[], [], []]
                coordinator.let_go()
                await turns()
                assert [reply.answer.base_offset for reply in waiting] == [1, 2, 3]
                assert len(coordinator.asked) == 1
                assert actor.replica(0).waiters == {}

        run(scenario())

    def test_a_batch_sent_again_while_the_first_waits_is_a_duplicate(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                coordinator = ScriptedCoordinator(actor)
                coordinator.holds = True
                producer = TransactionalProducer(actor)
                first, again = producer.send(b"a"), producer.send(b"a", base_sequence=0)
                await turns()
                coordinator.let_go()
                await turns()
                assert not first.answer.duplicate
                assert again.answer.duplicate
                assert again.answer.base_offset == first.answer.base_offset

        run(scenario())

    def test_what_the_coordinator_refuses_is_not_written(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                coordinator = ScriptedCoordinator(actor)
                coordinator.refusal = InvalidTxnStateError("it is not open")
                producer = TransactionalProducer(actor)
                waiting = [producer.send(b"a"), producer.send(b"b")]
                await turns()
                for reply in waiting:
                    assert reply.answer.error_code == code_of(InvalidTxnStateError)
                assert actor.replica(0).log.log_end_offset == 0
                coordinator.refusal = None
                producer.sequences.clear()
                assert await producer.sent(b"a") == 0

        run(scenario())

    @pytest.mark.parametrize(
        ("refusal", "told"),
        [
            (CoordinatorLoadInProgressError("wait"), CoordinatorNotAvailableError),
            (NotLeaderOrFollowerError("elsewhere"), CoordinatorNotAvailableError),
            (ConcurrentTransactionsError("wait"), ConcurrentTransactionsError),
            (InvalidProducerEpochError("old"), InvalidProducerEpochError),
        ],
    )
    def test_trouble_with_a_coordinator_is_not_trouble_with_the_leader(
        self, tmp_path: Path, refusal: RaykafkaError, told: type[RaykafkaError]
    ) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor).refusal = refusal
                reply = TransactionalProducer(actor).send(b"a")
                await turns()
                assert reply.answer.error_code == code_of(told)

        run(scenario())

    def test_without_a_controller_nobody_can_be_asked(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                reply = TransactionalProducer(actor).send(b"a")
                while not reply.answers:
                    await turns()
                assert reply.answer.error_code == code_of(CoordinatorNotAvailableError)

        run(scenario())

    @pytest.mark.parametrize("change", ["follow", "remove"])
    def test_a_leader_that_ends_answers_all_that_wait(self, tmp_path: Path, change: str) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                coordinator = ScriptedCoordinator(actor)
                coordinator.holds = True
                producer = TransactionalProducer(actor)
                waiting = [producer.send(b"a"), producer.send(b"b")]
                await turns()
                if change == "follow":
                    await actor.assign(0, leader_epoch=4, leader_id=1, replicas=(1, 0), isr=(1, 0))
                    expected: type[RaykafkaError] = NotLeaderOrFollowerError
                else:
                    await actor.remove(0)
                    expected = UnknownTopicIdError
                for reply in waiting:
                    assert reply.answer.error_code == code_of(expected)
                coordinator.let_go()
                await turns()
                assert [len(reply.answers) for reply in waiting] == [1, 1]

        run(scenario())

    def test_a_zombie_that_is_refused_takes_nobody_with_it(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                coordinator = ScriptedCoordinator(actor)
                coordinator.holds = True
                coordinator.refused = {(7, 0): ProducerFencedError("a newer producer")}
                zombie, successor = TransactionalProducer(actor), TransactionalProducer(actor)
                successor.epoch = 1
                late = zombie.send(b"a")
                await turns()
                first = successor.send(b"b")
                await turns()
                coordinator.let_go()
                await turns()
                assert late.answer.error_code == code_of(ProducerFencedError)
                assert first.answer.error_code == 0
                assert [who for _, who, _ in coordinator.asked] == [(7, 0), (7, 1)]

        run(scenario())

    def test_a_marker_overtakes_the_batch_it_ends(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                coordinator = ScriptedCoordinator(actor)
                coordinator.holds = True
                producer = TransactionalProducer(actor)
                late = producer.send(b"a")
                await turns()
                assert [each.error_code for each in await producer.end(commit=False)] == [0]
                coordinator.let_go()
                await turns()
                assert late.answer.error_code == code_of(InvalidProducerEpochError)
                assert not actor.replica(0).log.in_transaction(7)

        run(scenario())

    def test_what_waits_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transactional, "MAX_PARKED", 2)
        monkeypatch.setattr(transactional, "MAX_PARKED_BYTES", 3000)

        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                coordinator = ScriptedCoordinator(actor)
                coordinator.holds = True
                producer, other = TransactionalProducer(actor), TransactionalProducer(actor, 8)
                kept = [producer.send(b"a"), producer.send(b"b")]
                with pytest.raises(ServerBusyError, match="2 batches of producer id 7"):
                    producer.send(b"c").answer  # noqa: B018
                with pytest.raises(ServerBusyError, match="3000 bytes"):
                    other.send(b"x" * 2000).answer  # noqa: B018
                await turns()
                coordinator.let_go()
                await turns()
                assert [reply.answer.error_code for reply in kept] == [0, 0]
                coordinator.holds = False
                other.sequences.clear()
                await other.sent(b"x" * 1500)

        run(scenario())


class TestRules:
    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"control": True}, InvalidRecordError),
            ({"transactional_id": ""}, InvalidRecordError),
            ({"producer_id": -1, "producer_epoch": -1, "base_sequence": -1}, InvalidRecordError),
            ({"acks": 1}, InvalidRequiredAcksError),
            ({"producer_epoch": -1}, InvalidRecordError),
        ],
    )
    def test_what_clients_may_not_send(
        self, tmp_path: Path, changes: dict[str, Any], error: type[RaykafkaError]
    ) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                assert isinstance(TransactionalProducer(actor).send(b"a", **changes).error, error)
                assert actor.replica(0).log.log_end_offset == 0

        run(scenario())

    def test_a_plain_batch_beside_an_open_transaction(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                await producer.sent(b"a")
                refused = producer.send(b"b", transactional=False)
                assert isinstance(refused.error, InvalidTxnStateError)
                producer.sequences[0] = 1
                again = producer.send(b"a", base_sequence=0)
                assert again.answer.duplicate

        run(scenario())

    def test_a_gap_is_noticed_before_anybody_is_asked(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                coordinator = ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                await producer.sent(b"a")
                await producer.end(commit=True)
                refused = producer.send(b"b", base_sequence=4)
                assert isinstance(refused.error, OutOfOrderSequenceNumberError)
                assert len(coordinator.asked) == 1

        run(scenario())

    def test_a_newer_epoch_waits_for_the_marker(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                await producer.sent(b"a")
                early = producer.send(b"b", producer_epoch=1, base_sequence=0)
                assert isinstance(early.error, ConcurrentTransactionsError)

        run(scenario())


class TestMarkers:
    def test_a_marker_is_written_once(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                await producer.sent(b"a")
                assert [each.error_code for each in await producer.end(commit=True)] == [0]
                assert [each.error_code for each in await producer.marked(commit=True)] == [0]
                assert actor.replica(0).log.log_end_offset == 2

        run(scenario())

    def test_partitions_fail_one_by_one(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                await producer.sent(b"a")
                outcomes = await producer.end(5, 0, commit=True)
                assert [(each.partition, each.error_code) for each in outcomes] == [
                    (5, code_of(NotLeaderOrFollowerError)),
                    (0, 0),
                ]

        run(scenario())

    def test_an_older_epoch_cannot_end_a_transaction(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                await producer.sent(b"a")
                [outcome] = await producer.marked(commit=True)
                assert outcome.error_code == code_of(InvalidProducerEpochError)
                assert actor.replica(0).log.log_end_offset == 1

        run(scenario())

    def test_success_waits_until_the_marker_is_committed(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0, replicas=(0, 1), isr=(0, 1))
                ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                producer.send(b"a")
                await turns()
                producer.epoch = 1
                asked = [producer.ask_for_markers(commit=True) for _ in range(2)]
                await turns(8)
                assert actor.replica(0).log.log_end_offset == 2
                assert [reply.answers for reply in asked] == [[], []]
                await actor.assign(0, leader_epoch=4, leader_id=1, replicas=(0, 1), isr=(0, 1))
                await turns(8)
                for reply in asked:
                    [outcome] = reply.answer.partitions
                    assert outcome.error_code == code_of(NotLeaderOrFollowerError)

        run(scenario())


class TestHangingTransactions:
    def test_producers_are_described(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                await TransactionalProducer(actor).sent(b"a", b"b")
                actor.produced(0, b"c", producer_id=8, producer_epoch=2, base_sequence=5)
                seven, eight = described(actor).producers
                assert (seven.producer_id, seven.producer_epoch, seven.last_sequence) == (7, 0, 1)
                assert seven.transaction_start_offset == 0
                assert seven.last_timestamp_ms > 0
                assert (eight.producer_id, eight.producer_epoch, eight.last_sequence) == (8, 2, 5)
                assert eight.transaction_start_offset == -1
                missing = described(actor, 3)
                assert missing.error_code == code_of(NotLeaderOrFollowerError)

        run(scenario())

    def test_one_is_aborted_by_hand(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with ActorHarness(tmp_path) as actor:
                await actor.assign(0)
                ScriptedCoordinator(actor)
                producer = TransactionalProducer(actor)
                await producer.sent(b"a")
                for wrong in ((0, 7, 0, 1), (0, 7, 1, 0), (0, 8, 0, 0)):
                    answer = await abort(actor, *wrong)
                    assert answer.error_code == code_of(InvalidTxnStateError)
                assert (await abort(actor, 0, 7, 0, 0)).error_code == 0
                log = actor.replica(0).log
                assert not log.in_transaction(7)
                assert log.aborted_transactions(0, 9)
                late = producer.send(b"b")
                assert isinstance(late.error, InvalidProducerEpochError)

        run(scenario())
