"""Consumer groups as an operator sees them, through ``Admin`` and the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from raykafka.cli.main import app
from raykafka.cli.membership import copy_as_member
from raykafka.client.admin import Admin
from raykafka.client.aio import AsyncAdmin
from raykafka.client.consumer import Consumer
from raykafka.client.operating.offset_resets import OffsetChange
from raykafka.client.producer import Producer
from raykafka.errors import (
    GroupIdNotFoundError,
    GroupSubscribedToTopicError,
    InvalidRequestError,
    NonEmptyGroupError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)
from raykafka.model import OffsetAndMetadata, TopicPartition
from raykafka.testing.local_cluster import LocalCluster
from tests.kits.topics import create_topic, delete_topic

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("groups")) as running:
        yield running


@pytest.fixture
def admin(cluster: LocalCluster) -> Iterator[Admin]:
    with Admin(cluster.bootstrap) as made:
        yield made


@pytest.fixture
def group(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
def topic(cluster: LocalCluster) -> str:
    """Two partitions with ten records each, a second apart."""
    name = create_topic(cluster.bootstrap, partitions=2)
    with Producer(cluster.bootstrap) as producer:
        for number in range(20):
            producer.send(
                name, b"%d" % number, partition=number % 2, timestamp_ms=1000 * (number // 2)
            )
    return name


@pytest.fixture
def run(cluster: LocalCluster) -> Run:
    def invoke(*arguments: str, exit_code: int = 0, stdin: str = "") -> Result:
        result = CliRunner().invoke(app, [*arguments, "--name", cluster.data_dir], input=stdin)
        assert result.exit_code == exit_code, result.output
        return result

    return invoke


def member(cluster: LocalCluster, group: str, topic: str, **settings: str) -> Consumer:
    """A consumer that has all of the topic."""
    consumer = Consumer(
        cluster.bootstrap, group_id=group, auto_offset_reset="earliest", client_id="reader",
        **settings,
    )  # fmt: skip
    consumer.subscribe([topic])
    while len(consumer.assignment()) < 2:
        consumer.poll(100, max_records=1)
    return consumer


class TestGroups:
    def test_before_there_is_one(self, tmp_path: Path) -> None:
        with LocalCluster(tmp_path) as fresh, Admin(fresh.bootstrap) as admin:
            assert admin.list_groups() == []
            assert admin.list_consumer_group_offsets("nobody") == {}

    def test_they_are_listed_and_described(
        self, cluster: LocalCluster, admin: Admin, topic: str, group: str
    ) -> None:
        admin.alter_consumer_group_offsets(group + "-idle", {(topic, 0): 3})
        with member(cluster, group, topic, group_instance_id="i1"):
            found = {each.group_id: each for each in admin.list_groups()}
            assert (found[group].state, found[group].members) == ("Stable", 1)
            assert (found[group].type, found[group + "-idle"].state) == ("consumer", "Empty")
            stable = admin.list_consumer_groups(states=["Stable"])
            assert [each.group_id for each in stable] == [group]
            [described] = admin.describe_consumer_groups([group])
            [reader] = described.members
            assert (reader.client_id, reader.instance_id) == ("reader", "i1")
            assert reader.host == "127.0.0.1"
            assert [(each.topic, each.partitions) for each in reader.assignment] == [
                (topic, [0, 1])
            ]
            assert described.assignor == "uniform"

    def test_unknown_ones(self, admin: Admin) -> None:
        with pytest.raises(GroupIdNotFoundError, match="nobody"):
            admin.describe_consumer_groups(["nobody"])
        with pytest.raises(GroupIdNotFoundError, match="nobody"):
            admin.delete_consumer_groups(["nobody"])
        with pytest.raises(InvalidRequestError, match="a list of names"):
            admin.describe_consumer_groups("nobody")

    def test_deleting(self, cluster: LocalCluster, admin: Admin, topic: str, group: str) -> None:
        with member(cluster, group, topic), pytest.raises(NonEmptyGroupError, match=group):
            admin.delete_consumer_groups([group])
        admin.delete_consumer_groups([group])
        assert admin.list_consumer_group_offsets(group) == {}
        assert group not in {each.group_id for each in admin.list_groups()}

    def test_members_are_removed(
        self, cluster: LocalCluster, admin: Admin, topic: str, group: str
    ) -> None:
        first = member(cluster, group, topic)
        [described] = admin.describe_consumer_groups([group])
        with pytest.raises(UnknownMemberIdError):
            admin.remove_members_from_consumer_group(group, member_ids=["nobody"])
        first.close(leave_group=False)  # as one that was killed
        [gone] = admin.remove_members_from_consumer_group(
            group, member_ids=[described.members[0].member_id]
        )
        assert gone.member_id == described.members[0].member_id
        assert admin.describe_consumer_groups([group])[0].members == []


class TestOffsets:
    def test_altered_and_listed(self, admin: Admin, topic: str, group: str) -> None:
        wanted = {
            TopicPartition(topic, 0): OffsetAndMetadata(4, "note"),
            TopicPartition(topic, 1): 5,
        }
        admin.alter_consumer_group_offsets(group, wanted)
        found = admin.list_consumer_group_offsets(group)
        assert found == {
            TopicPartition(topic, 0): OffsetAndMetadata(4, "note"),
            TopicPartition(topic, 1): OffsetAndMetadata(5),
        }
        assert admin.list_consumer_group_offsets(group, [(topic, 1)]) == {
            TopicPartition(topic, 1): OffsetAndMetadata(5)
        }
        with pytest.raises(UnknownTopicOrPartitionError):
            admin.alter_consumer_group_offsets(group, {(topic, 2): 0})

    def test_lag(self, cluster: LocalCluster, admin: Admin, topic: str, group: str) -> None:
        gone = create_topic(cluster.bootstrap)
        admin.alter_consumer_group_offsets(group, {(topic, 0): 4, (gone, 0): 0})
        first, second = sorted(
            (each for each in admin.consumer_group_lag(group)), key=lambda each: each.partition
        )
        assert {first.partition.topic, second.partition.topic} == {topic, gone}
        with member(cluster, group, topic):
            lag = {each.partition: each for each in admin.consumer_group_lag(group)}
            here = lag[TopicPartition(topic, 0)]
            assert (here.committed, here.log_start_offset, here.log_end_offset) == (4, 0, 10)
            assert (here.lag, here.client_id) == (6, "reader")
            other = lag[TopicPartition(topic, 1)]
            assert (other.committed, other.lag) == (None, None)

    def test_a_deleted_topics_offsets_do_not_disturb(
        self, cluster: LocalCluster, admin: Admin, topic: str, group: str
    ) -> None:
        gone = create_topic(cluster.bootstrap)
        admin.alter_consumer_group_offsets(group, {(topic, 0): 4, (gone, 0): 0})
        delete_topic(cluster.bootstrap, gone)
        lag = {each.partition.topic: each for each in admin.consumer_group_lag(group)}
        assert lag[topic].lag == 6
        assert gone not in lag or lag[gone].log_end_offset is None

    @pytest.mark.parametrize(
        ("way", "offsets"),
        [
            ({"to": "earliest"}, (0, 0)),
            ({"to": "latest"}, (10, 10)),
            ({"to": "current"}, (4, 5)),
            ({"to_offset": 7}, (7, 7)),
            ({"to_offset": 70}, (10, 10)),
            ({"to_time": 3000}, (3, 3)),
            ({"to_time": 99_000}, (10, 10)),
            ({"by_duration_ms": 1000}, (10, 10)),
            ({"shift_by": -1}, (3, 4)),
        ],
    )
    def test_resets(
        self, admin: Admin, topic: str, group: str, way: dict[str, object], offsets: tuple[int, int]
    ) -> None:
        before = {TopicPartition(topic, 0): 4, TopicPartition(topic, 1): 5}
        admin.alter_consumer_group_offsets(group, before)
        plan = admin.reset_consumer_group_offsets(group, **way)  # type: ignore[arg-type]
        assert [(each.before, each.after) for each in plan] == [
            (4, offsets[0]),
            (5, offsets[1]),
        ]
        unchanged = admin.list_consumer_group_offsets(group)
        assert {place: each.offset for place, each in unchanged.items()} == before
        admin.reset_consumer_group_offsets(group, execute=True, **way)  # type: ignore[arg-type]
        found = admin.list_consumer_group_offsets(group)
        assert tuple(each.offset for each in found.values()) == offsets

    def test_what_is_reset(
        self, cluster: LocalCluster, admin: Admin, topic: str, group: str
    ) -> None:
        with pytest.raises(UnknownTopicOrPartitionError, match="name topics"):
            admin.reset_consumer_group_offsets(group, to="earliest")
        one = TopicPartition(topic, 1)
        assert admin.reset_consumer_group_offsets(group, to="latest", partitions=[one]) == [
            OffsetChange(one, None, 10)
        ]
        assert len(admin.reset_consumer_group_offsets(group, to="latest", topics=[topic])) == 2
        admin.reset_consumer_group_offsets(group, offsets={one: 6}, execute=True)
        assert admin.list_consumer_group_offsets(group) == {one: OffsetAndMetadata(6)}
        with pytest.raises(InvalidRequestError, match="in one way"):
            admin.reset_consumer_group_offsets(group, to="latest", to_offset=3)
        with member(cluster, group, topic):
            with pytest.raises(NonEmptyGroupError, match="stop its consumers first"):
                admin.reset_consumer_group_offsets(group, to="latest", execute=True)
            with pytest.raises(NonEmptyGroupError):
                admin.alter_consumer_group_offsets(group, {one: 1})

    def test_deleted(self, cluster: LocalCluster, admin: Admin, topic: str, group: str) -> None:
        admin.alter_consumer_group_offsets(group, {(topic, 0): 4, (topic, 1): 5})
        with member(cluster, group, topic), pytest.raises(GroupSubscribedToTopicError):
            admin.delete_consumer_group_offsets(group, [(topic, 0)])
        admin.delete_consumer_group_offsets(group, [(topic, 0)])
        assert set(admin.list_consumer_group_offsets(group)) == {TopicPartition(topic, 1)}


def test_the_same_for_asyncio(cluster: LocalCluster, topic: str, group: str) -> None:
    async def work() -> None:
        async with AsyncAdmin(cluster.bootstrap) as admin:
            await admin.alter_consumer_group_offsets(group, {(topic, 0): 4})
            assert group in {each.group_id for each in await admin.list_groups()}
            assert group in {each.group_id for each in await admin.list_consumer_groups()}
            [described] = await admin.describe_consumer_groups([group])
            assert described.members == []
            [lag] = await admin.consumer_group_lag(group)
            assert lag.lag == 6
            [change] = await admin.reset_consumer_group_offsets(group, to="latest", execute=True)
            assert change.after == 10
            assert len(await admin.list_consumer_group_offsets(group)) == 1
            assert await admin.remove_members_from_consumer_group(group) == []
            await admin.delete_consumer_group_offsets(group, [(topic, 0)])
            with pytest.raises(GroupIdNotFoundError):
                await admin.delete_consumer_groups([group])  # it went with its last offset

    asyncio.run(work())


class TestCommands:
    def test_list_and_describe(
        self, cluster: LocalCluster, run: Run, topic: str, group: str
    ) -> None:
        with member(cluster, group, topic, group_instance_id="i1") as consumer:
            consumer.commit({TopicPartition(topic, 0): 4})
            listed = json.loads(run("group", "list", "--json").stdout)
            assert {
                "group_id": group,
                "type": "consumer",
                "state": "Stable",
                "members": 1,
            } in listed
            assert group in run("group", "list", "--state", "Stable").stdout
            assert group not in run("group", "list", "--state", "Empty").stdout
            told = run("group", "describe", group).stdout
            assert "Stable" in told
            assert f"{topic}: 0-1" in told
            described = json.loads(run("group", "describe", group, "--json").stdout)
            assert described["members"][0]["instance_id"] == "i1"
            assert described["offsets"][0]["lag"] == 6
        missing = run("group", "describe", "nobody", exit_code=1)
        assert "[GroupIdNotFoundError]" in missing.stderr

    def test_reset(self, run: Run, admin: Admin, topic: str, group: str, tmp_path: Path) -> None:
        planned = run("group", "reset", group, "--to", "latest", "--topic", topic)
        assert "nothing was changed; --execute does it" in planned.stderr
        assert admin.list_consumer_group_offsets(group) == {}
        run("group", "reset", group, "--to-offset", "3", "--topic", topic, "--execute")
        done = run("group", "reset", group, "--shift-by", "50", "--execute", "--json")
        changes = json.loads(done.stdout)
        assert changes["executed"]
        assert changes["offsets"][0] == {
            "topic": topic,
            "partition": 0,
            "before": 3,
            "after": 10,
            "note": "53 is after the last record",
        }
        file = tmp_path / "offsets.csv"
        file.write_text(f"topic,partition,offset\n{topic},1,6\n")
        run("group", "reset", group, "--from-file", str(file), "--execute")
        assert admin.list_consumer_group_offsets(group)[TopicPartition(topic, 1)].offset == 6
        run("group", "reset", group, "--to-time", "1h", "-p", f"{topic}:1", "--execute")
        assert admin.list_consumer_group_offsets(group)[TopicPartition(topic, 1)].offset == 10
        file.write_text(f"{topic},1\n")
        wrong = run("group", "reset", group, "--from-file", str(file), exit_code=2)
        assert "line 1" in wrong.stderr
        assert "exactly one" in run("group", "reset", group, exit_code=2).stderr
        assert (
            "TOPIC:PARTITION"
            in run("group", "reset", group, "--to", "latest", "-p", topic, exit_code=2).stderr
        )

    def test_deleting(self, run: Run, admin: Admin, topic: str, group: str) -> None:
        admin.alter_consumer_group_offsets(group, {(topic, 0): 4, (topic, 1): 5})
        run("group", "delete-offsets", group, exit_code=2)
        run("group", "delete-offsets", group, "-p", f"{topic}:0", stdin="y\n")
        assert set(admin.list_consumer_group_offsets(group)) == {TopicPartition(topic, 1)}
        gone = run("group", "delete-offsets", group, "-t", topic, "--yes", "--json")
        assert json.loads(gone.stdout) == {"deleted": [{"topic": topic, "partition": 1}]}
        admin.alter_consumer_group_offsets(group, {(topic, 0): 4})
        assert run("group", "delete", group, stdin="n\n", exit_code=1)
        assert "deleted" in run("group", "delete", group, "--yes").stderr

    def test_remove_members(self, cluster: LocalCluster, run: Run, topic: str, group: str) -> None:
        consumer = member(cluster, group, topic, group_instance_id="i1")
        consumer.close()  # for now
        assert "say who" in run("group", "remove-members", group, exit_code=2).stderr
        assert "removed 1 member" in run("group", "remove-members", group, "-i", "i1").stderr
        assert json.loads(run("group", "remove-members", group, "--all", "--json").stdout) == []

    def test_watch(self, run: Run, admin: Admin, topic: str, group: str) -> None:
        admin.alter_consumer_group_offsets(group, {(topic, 0): 4})
        looks = run("group", "watch", group, "--interval", "0.1", "--count", "2", "--json").stdout
        assert [json.loads(look)["offsets"][0]["lag"] for look in looks.splitlines()] == [6, 6]
        assert "commits/s" in run("group", "watch", group, "--count", "1").stdout

    def test_consuming_as_a_member(self, run: Run, admin: Admin, topic: str, group: str) -> None:
        first = run("consume", topic, "--group", group, "--count", "7")
        assert len(first.stdout.splitlines()) == 7
        assert sum(each.offset for each in admin.list_consumer_group_offsets(group).values()) == 7
        rest = run("consume", topic, "--group", group)
        lines = first.stdout.splitlines() + rest.stdout.splitlines()
        assert sorted(map(int, lines)) == list(range(20))
        assert run("consume", topic, "--group", group).stdout == ""
        wrong = run("consume", topic, "--group", group, "--from-beginning", exit_code=2)
        assert "raykafka group reset" in wrong.stderr
        assert run("consume", "no-such-topic", "--group", group, exit_code=1)

    def test_what_was_printed_is_committed_when_following_is_interrupted(
        self, cluster: LocalCluster, admin: Admin, topic: str, group: str
    ) -> None:
        class Interrupted:
            to_terminal = False
            printed = 0

            def write(self, partition: TopicPartition, batch: pa.RecordBatch) -> int:
                self.printed += batch.num_rows
                return batch.num_rows

            def flush(self) -> None:
                looks.append(self.printed)
                if looks[-2:] == [20, 20]:
                    raise KeyboardInterrupt

        looks: list[int] = []
        with (
            pytest.raises(KeyboardInterrupt),
            Consumer(cluster.bootstrap, group_id=group, auto_offset_reset="earliest") as consumer,
        ):
            copy_as_member(consumer, topic, None, Interrupted(), follow=True)
        assert sum(each.offset for each in admin.list_consumer_group_offsets(group).values()) == 20
