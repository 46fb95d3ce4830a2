"""Records: bytes that stay readable, and that lead to the same state in any order."""

from __future__ import annotations

import random

import msgspec
import pytest
from group_kit import GroupBench, Offset

from raykafka.errors import LogDamagedError, UnsupportedVersionError
from raykafka.group.commands import EndTransaction
from raykafka.group.records import (
    CurrentAssignment,
    CurrentRemoved,
    GroupMetadata,
    GroupRemoved,
    MemberMetadata,
    MemberRemoved,
    OffsetCommitted,
    OffsetRemoved,
    PendingOffsets,
    PendingRemoved,
    ProducerForgotten,
    Record,
    TargetAssignment,
    TargetRemoved,
    TransactionEnded,
    decode,
    encode,
)

T = "0123456789abcdef0123456789abcdef"
OFFSET = OffsetCommitted("g", "t", 3, T, 1000, 5, "m", 1_700_000_000_000)
SAMPLES: list[tuple[Record, str]] = [
    (
        GroupMetadata("g", False, 4, 3, "uniform", {"t": (T, 4)}, 17),
        "9800a167c20403a7756e69666f726d81a17492d92030313233343536373839616263646566303132333435363738"
        "396162636465660411",
    ),
    (
        MemberMetadata("g", "m", "i", "c", "h", "r", 1000, ("t",), "p.*", "range"),
        "9b01a167a16da169a163a168a172cd03e891a174a3702e2aa572616e6765",
    ),
    (TargetAssignment("g", "m", {"T": (0, 1)}), "9402a167a16d81a154920001"),
    (
        CurrentAssignment("g", "m", 4, 3, {"T": (0,)}, {"T": (1,)}),
        "9703a167a16d040381a154910081a1549101",
    ),
    (
        OFFSET,
        "9904a167a17403d9203031323334353637383961626364656630313233343536373839616263646566cd03e805a1"
        "6dcf0000018bcfe56800",
    ),
    (
        PendingOffsets("g", 7, 2, (OFFSET,)),
        "9505a1670702919904a167a17403d920303132333435363738396162636465663031323334353637383961626364"
        "6566cd03e805a16dcf0000018bcfe56800",
    ),
    (TransactionEnded(7, 3, 17), "9406070311"),
]
TOMBSTONES: list[Record] = [
    GroupRemoved("g"),
    MemberRemoved("g", "m"),
    TargetRemoved("g", "m"),
    CurrentRemoved("g", "m"),
    OffsetRemoved("g", "t", 3),
    PendingRemoved("g", 7),
    ProducerForgotten(7),
]


@pytest.mark.parametrize(("record", "golden"), SAMPLES, ids=lambda one: type(one).__name__)
def test_records_are_written_and_read_as_ever(record: Record, golden: str) -> None:
    key, value = encode(record)
    assert value is not None
    assert decode(key, value) == record
    assert value.hex() == golden


@pytest.mark.parametrize(
    ("record", "tombstone"),
    list(zip([sample for sample, _ in SAMPLES], TOMBSTONES, strict=True)),
    ids=lambda one: type(one).__name__,
)
def test_every_record_has_a_tombstone_with_its_key(record: Record, tombstone: Record) -> None:
    key, value = encode(tombstone)
    assert value is None
    assert key == encode(record)[0]
    assert decode(key, None) == tombstone


def test_a_later_field_is_no_hindrance() -> None:
    later = [*msgspec.msgpack.decode(encode(SAMPLES[-1][0])[1] or b""), "new"]
    assert decode(b"", msgspec.msgpack.encode(later)) == SAMPLES[-1][0]


def test_what_cannot_be_read_says_so() -> None:
    with pytest.raises(UnsupportedVersionError, match="upgrade"):
        decode(msgspec.msgpack.encode([7, "g"]), msgspec.msgpack.encode([7, "g"]))
    with pytest.raises(UnsupportedVersionError):
        decode(msgspec.msgpack.encode([7, "g"]), None)
    for key, value in [(b"\x90", None), (b"", None), (b"\xc1", b"\xc1"), (b"\x92\x00\xa1g", b"x")]:
        with pytest.raises(LogDamagedError):
            decode(key, value)


def busy(seed: int) -> GroupBench:
    """A machine that has seen a little of everything."""
    bench = GroupBench()
    choose = random.Random(seed)
    for step in range(60):
        group = choose.choice("gh")
        name = choose.choice("abc")
        known = bench.machine.groups.by_id.get(group)
        member = known.members.get(name) if known is not None else None
        if member is None:
            bench.join(group, name, *choose.choice([("clicks",), ("clicks", "views")]))
        elif choose.random() < 0.3:
            bench.beat(group, name, -1)
        else:
            current = member.current
            bench.beat(group, name, current.member_epoch, owned=current.assigned)
            epoch = bench.epoch(group, name)
            mine = {"member_id": name, "member_epoch": epoch}
            bench.commit(group, Offset(choose.randrange(4), step), **mine)
            if choose.random() < 0.5:
                bench.commit_pending(group, 7, step, Offset(0, step), **mine)
                if choose.random() < 0.7:
                    bench.submit(EndTransaction(7, step + 1, commit=choose.random() < 0.5))
        if bench.machine.groups.pending_groups:
            bench.submit(EndTransaction(7, step + 1, commit=True))
    return bench


@pytest.mark.parametrize("seed", range(20))
def test_the_newest_record_of_each_key_is_enough_in_any_order(seed: int) -> None:
    bench = busy(seed)
    expected = sorted(map(encode, bench.machine.snapshot()))
    newest = list(dict(bench.log).items())
    random.Random(seed).shuffle(newest)
    other = bench.new_machine()
    other.replay([decode(key, value) for key, value in newest])
    assert sorted(map(encode, other.snapshot())) == expected
    owners = {name: group.owners for name, group in bench.machine.groups.by_id.items()}
    assert {name: group.owners for name, group in other.groups.by_id.items()} == owners


@pytest.mark.parametrize("seed", range(20))
def test_a_snapshot_is_the_state(seed: int) -> None:
    bench = busy(seed)
    records = bench.machine.snapshot()
    keys = [encode(record)[0] for record in records]
    assert len(set(keys)) == len(keys)
    other = bench.new_machine()
    other.replay(records)
    assert other.snapshot() == records
