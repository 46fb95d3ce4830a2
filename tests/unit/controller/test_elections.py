"""Who leads, who is in sync, and who may lead without being so (KIP-966)."""

from __future__ import annotations

import pytest
from controller_kit import Cluster, topic

from raykafka.controller.commands import (
    AllocatePartitionActor,
    AlterConfigs,
    CreateTopics,
    FailReplicas,
    RegisterBroker,
    ReportReplicas,
    ResourceToAlter,
    SettingChange,
    StartPartitionActor,
)
from raykafka.controller.elections import Rules, elect, move_leader, with_isr
from raykafka.controller.image import NO_LEADER, PartitionState, SlotKey
from raykafka.controller.updates import OpenedPartition
from raykafka.model import PartitionId

REPLICAS = (1, 2, 3)


def partition(
    isr: tuple[int, ...],
    elr: tuple[int, ...] = (),
    last: int = NO_LEADER,
    leader: int = NO_LEADER,
) -> PartitionState:
    return PartitionState(
        REPLICAS, (0, 0, 0), isr, leader, 7, elr=elr, last_known_leader=last, opened_by=REPLICAS
    )


def elected(
    state: PartitionState, alive: set[int], *, min_isr: int = 1, unclean: bool = False
) -> PartitionState:
    return elect(state, Rules(lambda slot: slot.broker_id in alive, min_isr, unclean))


@pytest.mark.parametrize(
    ("state", "alive", "unclean", "leader"),
    [
        (partition((1, 2, 3)), {1, 2, 3}, False, 1),
        (partition((1, 2, 3)), {2, 3}, False, 2),
        (partition((1, 3)), {2, 3}, False, 3),
        (partition((1,)), {2, 3}, False, NO_LEADER),
        (partition((1,)), {2, 3}, True, 2),
        (partition((1,)), set(), True, NO_LEADER),
        (partition((), (2, 3)), {1, 3}, False, 3),
        (partition((), (2,), last=3), {1, 3}, False, NO_LEADER),
        (partition((), (), last=3), {1, 3}, False, 3),
        (partition((), (), last=3), {1, 2}, False, NO_LEADER),
        (partition((), (), last=3), {1, 2}, True, 1),
    ],
)
def test_the_order_of_candidates(
    state: PartitionState, alive: set[int], unclean: bool, leader: int
) -> None:
    after = elected(state, alive, unclean=unclean)
    assert after.leader == leader
    if leader == NO_LEADER:
        assert after == state, "nothing happens"
    else:
        assert leader in after.isr
        assert set(after.isr) <= alive
        assert after.leader_epoch == 8
        assert after.last_known_leader == NO_LEADER


def test_a_leader_that_may_lead_stays() -> None:
    state = partition((1, 2, 3), leader=3)
    assert elected(state, {1, 2, 3}) is state
    assert move_leader(state, 1).leader_epoch == 8


def test_without_anybody_the_last_leader_is_remembered() -> None:
    after = elected(partition((), (2, 3), leader=2), {1})
    assert (after.leader, after.last_known_leader, after.leader_epoch) == (NO_LEADER, 2, 8)
    assert after.elr == (2, 3)


@pytest.mark.parametrize(
    ("min_isr", "isr", "elr"),
    [
        (1, (1,), ()),
        (2, (1, 2), ()),
        (2, (1,), (2, 3)),
        (2, (), (1, 2, 3)),
        (5, (1, 2), (3,)),
        (1, (), (1, 2, 3)),
    ],
)
def test_who_leaves_the_isr_stays_eligible_below_the_minimum(
    min_isr: int, isr: tuple[int, ...], elr: tuple[int, ...]
) -> None:
    after = with_isr(partition(REPLICAS), isr, min_isr)
    assert (after.isr, after.elr) == (isr, elr)
    back = with_isr(after, REPLICAS, min_isr)
    assert (back.isr, back.elr) == (REPLICAS, ())


def test_the_distrusted_are_not_eligible_and_the_last_of_them_is_remembered() -> None:
    after = with_isr(partition((1, 2), (3,), leader=2), (), 3, distrusted=(2, 3))
    assert (after.elr, after.last_known_leader) == ((1,), NO_LEADER)
    after = with_isr(partition((1, 2), (3,), leader=2), (), 3, distrusted=REPLICAS)
    assert (after.elr, after.last_known_leader) == ((), 2)
    after = with_isr(partition((1, 3)), (), 3, distrusted=REPLICAS)
    assert after.last_known_leader == 1, "nobody led, the first was as good as any"


def test_who_was_eligible_under_a_higher_minimum_is_not_any_more() -> None:
    after = with_isr(partition((1,), (2, 3), leader=1), (), 1)
    assert after.elr == (1,), (
        "it committed alone since the cluster was started with another minimum"
    )


# --- commands -----------------------------------------------------------------------------------


def test_a_lost_follower_leaves_the_isr_and_the_leader_stays() -> None:
    cluster = Cluster.started(brokers=3)
    cluster.create("t", copies=3)
    before = cluster.topic("t").partitions[0]
    assert before.isr == before.replicas
    follower = before.replicas[2]
    cluster.lose(follower)
    after = cluster.topic("t").partitions[0]
    assert after.isr == before.replicas[:2]
    assert (after.leader, after.leader_epoch) == (before.leader, before.leader_epoch)
    assert after.partition_epoch == before.partition_epoch + 1
    assert after.elr == ()
    cluster.start_slot(follower, 0)
    assert cluster.topic("t").partitions[0] == after, "it joins when the leader says so"


def test_a_lost_leader_is_followed_by_the_next_in_sync() -> None:
    cluster = Cluster.started(brokers=3)
    cluster.create("t", copies=3, min_insync_replicas="2")
    first, second, third = cluster.topic("t").partitions[0].replicas
    cluster.lose(first)
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.leader_epoch, state.isr, state.elr) == (
        second,
        1,
        (second, third),
        (),
    )
    cluster.lose(second)
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.isr, state.elr) == (third, (third,), (second,))
    cluster.lose(third)
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.isr, set(state.elr)) == (NO_LEADER, (), {second, third})
    cluster.start_slot(first, 0)
    assert cluster.topic("t").partitions[0].leader == NO_LEADER, "it may lack records"
    cluster.start_slot(second, 0)
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.isr, state.elr) == (second, (second,), (third,))


def test_unclean_elections_are_for_topics_that_allow_them() -> None:
    cluster = Cluster.started(brokers=2)
    cluster.create("safe", copies=2)
    cluster.create("any", copies=2, unclean_leader_election_enable="true")
    for broker_id in (0, 1):
        cluster.lose(broker_id)
    last = {name: cluster.topic(name).partitions[0].elr for name in ("safe", "any")}
    assert last == {"safe": (1,), "any": (1,)}
    cluster.start_slot(0, 0)
    assert cluster.topic("safe").partitions[0].leader == NO_LEADER
    state = cluster.topic("any").partitions[0]
    assert (state.leader, state.isr, state.elr) == (0, (0,), ())


def test_new_topics_count_on_whoever_runs() -> None:
    cluster = Cluster.started(brokers=3)
    cluster.lose(1)
    cluster.do(CreateTopics([topic("t", assignments=[[1, 0, 2]]), topic("u", assignments=[[1]])]))
    (first,), (second,) = (cluster.topic(name).partitions for name in ("t", "u"))
    assert (first.leader, first.isr) == (0, (0, 2))
    assert (second.leader, second.isr) == (NO_LEADER, (1,)), "nobody has any data yet"
    cluster.start_slot(1, 0)
    assert cluster.topic("u").partitions[0].leader == 1


@pytest.mark.parametrize(("type_", "name"), [("topic", "t"), ("broker", "")])
def test_with_a_lower_minimum_whoever_is_out_of_sync_is_not_eligible(type_: str, name: str) -> None:
    """The leader commits without it from now on."""
    cluster = Cluster.started(brokers=3, static={"min.insync.replicas": "3"})
    cluster.create("t", copies=3)
    first, second, third = cluster.topic("t").partitions[0].replicas
    cluster.lose(third)
    cluster.lose(second)
    assert cluster.topic("t").partitions[0].elr == (second, third)
    for minimum, eligible in (("2", (second, third)), ("1", ())):
        change = SettingChange("min.insync.replicas", minimum)
        assert cluster.do(AlterConfigs([ResourceToAlter(type_, name, [change])])) == [None]
        assert cluster.topic("t").partitions[0].elr == eligible
    cluster.start_slot(second, 0)
    cluster.lose(first)
    assert cluster.topic("t").partitions[0].leader == NO_LEADER
    cluster.start_slot(first, 0)
    assert cluster.topic("t").partitions[0].leader == first


def test_a_failed_log_hands_over_and_is_distrusted() -> None:
    cluster = Cluster.started(brokers=2)
    cluster.create("t", copies=2, min_insync_replicas="2")
    state = cluster.topic("t")
    leader, other = state.partitions[0].replicas
    failure = [PartitionId(state.topic_id, 0), PartitionId(state.topic_id, 9)]
    cluster.do(FailReplicas(leader, 0, 1, failure))
    after = cluster.topic("t").partitions[0]
    assert (after.leader, after.isr, after.elr) == (other, (other,), ())
    before = cluster.image
    cluster.do(FailReplicas(leader, 0, 1, failure))
    cluster.do(FailReplicas(other, 0, 9, failure))
    assert cluster.image is before, "told before, or by an actor that is no more"


def test_a_failed_log_without_another_leads_again_when_it_opens() -> None:
    cluster = Cluster.started(brokers=1)
    cluster.create("t")
    topic_id = cluster.topic("t").topic_id
    cluster.do(FailReplicas(0, 0, 1, [PartitionId(topic_id, 0)]))
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.isr, state.elr, state.last_known_leader) == (NO_LEADER, (), (), 0)
    assert state.is_trusted(0), "what it holds was acknowledged, it is never made anew"
    cluster.do(ReportReplicas(0, 0, 1, {topic_id: [OpenedPartition(0, state.leader_epoch)]}))
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.leader_epoch) == (0, 2)


# --- log directories ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [{"clean": False}, {"directory_id": "another"}, {"last_incarnation": 0}]
)
def test_a_broker_that_may_have_lost_records_is_distrusted(said: dict[str, object]) -> None:
    cluster = Cluster.started(brokers=2)
    cluster.create("t", copies=2, min_insync_replicas="2")
    leader, other = cluster.topic("t").partitions[0].replicas
    cluster.lose(other)
    cluster.lose(leader)
    assert set(cluster.topic("t").partitions[0].elr) == {leader, other}
    cluster.restart_broker(leader, **said)
    cluster.start_slot(leader, 0)
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.elr) == (NO_LEADER, (other,))
    cluster.restart_broker(other, **said)
    cluster.start_slot(other, 0)
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.isr) == (leader, (leader,)), "the last known leader is left"


def test_a_power_cut_takes_nothing_of_what_is_forced_to_the_disk() -> None:
    cluster = Cluster.started(brokers=2)
    cluster.create("t", copies=2, min_insync_replicas="2", fsync="batch")
    leader, other = cluster.topic("t").partitions[0].replicas
    for broker_id in (other, leader):
        cluster.lose(broker_id)
    for broker_id in (other, leader):
        cluster.restart_broker(broker_id, clean=False)
    assert set(cluster.topic("t").partitions[0].elr) == {leader, other}
    cluster.start_slot(other, 0)
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.isr) == (other, (other,))
    cluster.restart_broker(leader, clean=False, directory_id="another")
    assert cluster.topic("t").partitions[0].elr == ()


def test_the_last_known_leader_is_waited_for() -> None:
    cluster = Cluster.started(brokers=2)
    cluster.create("t", copies=2)
    leader, other = cluster.topic("t").partitions[0].replicas
    cluster.lose(other)
    cluster.lose(leader)
    cluster.restart_broker(leader, clean=False)
    cluster.start_slot(other, 0)
    state = cluster.topic("t").partitions[0]
    assert (state.leader, state.isr, state.elr) == (NO_LEADER, (), ())
    assert state.last_known_leader == leader
    cluster.start_slot(leader, 0)
    assert cluster.topic("t").partitions[0].isr == (leader,)


def test_distrust_ends_the_actors_that_were_not_known_to_be_dead() -> None:
    cluster = Cluster.started(brokers=2, slots=2)
    cluster.create("t", 4, copies=2)
    cluster.restart_broker(0, clean=False)
    assert not any(cluster.image.actor_runs(SlotKey(0, slot)) for slot in (0, 1))
    assert {(p.leader, p.isr) for p in cluster.topic("t").partitions} == {(1, (1,))}


def test_a_clean_directory_changes_nothing_and_is_judged_once() -> None:
    cluster = Cluster.started(brokers=1)
    cluster.create("t")
    before = cluster.topic("t")
    cluster.restart_broker(0, last_incarnation=1)
    assert cluster.topic("t") == before
    assert cluster.image.brokers[0].directory_id == "directory-0"
    assert cluster.image.brokers[0].unfenced_incarnation == 2


def test_older_logs_name_no_directory() -> None:
    cluster = Cluster.started(brokers=1)
    cluster.create("t")
    before = cluster.topic("t")
    cluster.restart_broker(0, directory_id="")
    assert cluster.image.brokers[0].directory_id == "directory-0"
    assert cluster.topic("t") == before


def test_only_replicas_that_were_open_are_never_made_anew() -> None:
    cluster = Cluster.started(brokers=2)
    cluster.do(CreateTopics([topic("t", assignments=[[0, 1]])]))
    cluster.open_all(SlotKey(0, 0))
    assert cluster.topic("t").partitions[0].opened_by == (0,)
    cluster.open_all(SlotKey(1, 0))
    assert cluster.topic("t").partitions[0].opened_by == (0, 1)
    assert cluster.topic("t").partitions[0].online


def test_a_successor_that_was_registered_but_never_started_is_none() -> None:
    cluster = Cluster.started(brokers=1)
    cluster.create("t")
    assert cluster.do(AllocatePartitionActor(0, 0)) == 2
    assert cluster.topic("t").partitions[0].leader == NO_LEADER
    cluster.do(StartPartitionActor(0, 0, 2, "h", 5, 1))
    assert cluster.topic("t").partitions[0].leader == 0
    assert cluster.do(RegisterBroker(0, "n", "h", "", 1)).incarnation == 2
