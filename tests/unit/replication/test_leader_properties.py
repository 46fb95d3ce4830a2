"""Random histories of a leader against a slow, obvious model of the high watermark."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from raykafka.replication.effects import (
    AdvanceHighWatermark,
    ProposeIsr,
    ReplicaEffect,
    ReplyProduce,
)
from raykafka.replication.events import (
    BecomeLeader,
    Configured,
    Flushed,
    FollowerAdvanced,
    IsrChanged,
)
from raykafka.replication.leader import ReplicaMachine

ME = 0

STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 5)),
    st.tuples(st.just("flush"), st.integers(0, 60)),
    st.tuples(st.just("follow"), st.tuples(st.integers(1, 2), st.integers(0, 60))),
    st.tuples(st.just("isr"), st.frozensets(st.integers(1, 2))),
    st.tuples(st.just("durable"), st.booleans()),
)


class Model:
    """Keeps every position and recomputes the high watermark from nothing each time."""

    def __init__(self) -> None:
        self.end = self.flushed = self.high_watermark = 0
        self.durable = False
        self.isr: frozenset[int] = frozenset()
        self.proposed: frozenset[int] | None = None
        self.followers = {1: -1, 2: -1}

    def advance(self) -> None:
        mine = self.flushed if self.durable else self.end
        lowest = min([mine, *(self.followers[id_] for id_ in self.isr | (self.proposed or set()))])
        self.high_watermark = max(self.high_watermark, lowest)

    def propose(self, id_: int) -> None:
        """A follower that holds all that is committed shall come in; one proposal at a time."""
        caught_up = self.followers[id_] >= self.high_watermark
        if self.proposed is None and id_ not in self.isr and caught_up:
            self.proposed = self.isr | {id_}


@given(st.lists(STEPS, max_size=60))
def test_high_watermark_and_releases_match_the_model(steps: list[tuple[str, object]]) -> None:
    machine, model = ReplicaMachine(ME), Model()
    everyone = frozenset({ME, 1, 2})
    machine.on_event(BecomeLeader(0, frozenset({ME}), 0, 0, 0, replicas=everyone), now_ms=0)
    version = 0
    waiting: list[int] = []
    for name, value in steps:
        before = machine.high_watermark
        effects: Sequence[ReplicaEffect] = []
        if name == "append":
            assert isinstance(value, int)
            model.end += value
            model.advance()
            if machine.on_appended(model.end, -1, model.end):
                assert model.end <= model.high_watermark
            else:
                waiting.append(model.end)
        elif name == "flush":
            assert isinstance(value, int)
            flushed = min(value, model.end)
            model.flushed = max(model.flushed, flushed)
            effects = machine.on_event(Flushed(flushed), now_ms=0)
        elif name == "follow":
            assert isinstance(value, tuple)
            id_, offset = value
            before_of = dict(model.followers)
            model.followers[id_] = max(model.followers[id_], min(offset, model.end))
            moved = min(offset, model.end) > before_of[id_]
            effects = machine.on_event(FollowerAdvanced(id_, offset), now_ms=0)
            model.advance()
            if moved:
                model.propose(id_)
        elif name == "isr":
            assert isinstance(value, frozenset)
            model.isr = value
            version += 1
            model.proposed = None
            effects = machine.on_event(IsrChanged(value | {ME}, version), now_ms=0)
        else:
            model.durable = bool(value)
            effects = machine.on_event(Configured(1, bool(value)), now_ms=0)
        model.advance()

        assert machine.high_watermark == model.high_watermark >= before
        released = [effect.token for effect in effects if isinstance(effect, ReplyProduce)]
        due = [end for end in waiting if end <= model.high_watermark]
        assert released == due, "answers come in log order, all that are due and no others"
        waiting = [end for end in waiting if end > model.high_watermark]
        assert machine.pending_produces == len(waiting)
        proposed = [effect for effect in effects if isinstance(effect, ProposeIsr)]
        if proposed:
            assert proposed == [ProposeIsr((model.proposed or frozenset()) | {ME}, version)]
        elif name != "append" and machine.high_watermark > before:
            assert effects[-1] == AdvanceHighWatermark(machine.high_watermark)
