"""``raykafka transaction``, and the same for asyncio, against a cluster in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from raykafka import Admin, AsyncAdmin, NewTopic, PreparedTransaction, Producer
from raykafka.cli.main import app
from raykafka.errors import InvalidTxnStateError
from raykafka.testing.local_cluster import LocalCluster

Run = Callable[..., Result]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path) as running:
        with Admin(running.bootstrap) as admin:
            admin.create_topics([NewTopic("t", 2)])
        yield running


@pytest.fixture
def run(cluster: LocalCluster) -> Run:
    def invoke(*arguments: str, stdin: str = "", exit_code: int = 0) -> Result:
        command = ["transaction", *arguments, "--name", cluster.data_dir]
        result = CliRunner().invoke(app, command, input=stdin)
        assert result.exit_code == exit_code, result.output
        return result

    return invoke


@pytest.fixture
def producer(cluster: LocalCluster) -> Iterator[Producer]:
    with Producer(
        cluster.bootstrap, transactional_id="bank", transaction_two_phase_commit_enable=True
    ) as made:
        made.init_transactions()
        made.begin_transaction()
        made.send("t", b"v", partition=1).get()
        yield made


def loaded(result: Result) -> Any:
    return json.loads(result.stdout)


def test_transactions_are_listed_and_described(run: Run, producer: Producer) -> None:
    [listed] = loaded(run("list", "--json"))
    assert (listed["transactional_id"], listed["state"]) == ("bank", "Ongoing")
    assert loaded(run("list", "--state", "Prepared", "--json")) == []
    assert loaded(run("list", "--longer-than", "60000", "--json")) == []
    assert loaded(run("list", "--producer-id", str(listed["producer_id"]), "--json")) == [listed]
    table = run("list").stdout
    assert "bank" in table
    assert "Ongoing" in table
    [described] = loaded(run("describe", "bank", "--json"))
    assert [part["partition"] for part in described["partitions"]] == [1]
    facts = run("describe", "bank").stdout
    assert "t-1" in facts
    assert "60,000 ms" in facts
    assert "TransactionalIdNotFoundError" in run("describe", "nobody", exit_code=1).output


def test_producers_of_a_topic(run: Run, producer: Producer) -> None:
    found = loaded(run("producers", "t", "--json"))
    assert [(each["partition"], each["transaction_start_offset"]) for each in found] == [(1, 0)]
    assert loaded(run("producers", "t", "--partition", "0", "--json")) == []
    assert "open since" in run("producers", "t").stdout


def test_one_that_hangs_is_aborted_when_confirmed(run: Run, producer: Producer) -> None:
    assert loaded(run("find-hanging", "t", "--max-timeout-ms", "0", "--json")) == []
    assert "InvalidTxnStateError" in run("abort", "t", "1", "7", "--yes", exit_code=1).output
    run("abort", "t", "1", "0", stdin="n\n", exit_code=1)
    told = loaded(run("abort", "t", "1", "0", "--yes", "--json"))
    assert (told["topic"], told["partition"]) == ("t", 1)
    assert loaded(run("producers", "t", "--json"))[0]["transaction_start_offset"] == -1
    assert "start offset" in run("find-hanging").stdout


def test_producers_are_fenced(run: Run, producer: Producer) -> None:
    assert "fenced bank" in run("fence", "bank").stderr
    assert loaded(run("list", "--json"))[0]["state"] == "Empty"
    assert "TransactionalIdNotFoundError" in run("fence", "nobody", exit_code=1).output


@pytest.mark.parametrize("verb", ["commit", "abort"])
def test_prepared_ones_are_decided_by_name_or_by_handle(
    run: Run, producer: Producer, verb: str
) -> None:
    handle = producer.prepare_transaction()
    outcome = {"commit": "committed", "abort": "aborted"}[verb]
    assert f"{outcome} bank" in run(f"{verb}-prepared", "bank").stderr
    told = loaded(run(f"{verb}-prepared", handle.to_json(), "--json"))
    assert told["outcome"] == outcome
    assert "no transaction" in run(f"{verb}-prepared", "bank", exit_code=1).output
    assert "InvalidRequestError" in run(f"{verb}-prepared", "{}", exit_code=1).output


def test_the_same_for_asyncio(cluster: LocalCluster, producer: Producer) -> None:
    handle = producer.prepare_transaction()

    async def work() -> list[PreparedTransaction]:
        async with AsyncAdmin(cluster.bootstrap) as admin:
            assert (await admin.list_transactions())[0].state == "Prepared"
            assert "bank" in await admin.describe_transactions(["bank"])
            [producers] = (await admin.describe_producers([("t", 1)])).values()
            assert len(producers) == 1
            assert await admin.find_hanging_transactions(["t"]) == []
            await admin.fence_producers(["bank"])
            prepared = await admin.list_prepared()
            await admin.commit_prepared(handle)
            with pytest.raises(InvalidTxnStateError):
                await admin.abort_prepared(handle)
            with pytest.raises(InvalidTxnStateError):
                await admin.abort_transaction(
                    ("t", 1), producer_id=1, producer_epoch=1, start_offset=0
                )
            return prepared

    assert asyncio.run(work()) == [handle]
