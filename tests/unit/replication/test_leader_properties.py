"""Random histories of a leader against a slow, obvious model of the high watermark."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raykafka.replication.effects import AdvanceHighWatermark, ReplyProduce
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
        self.followers = {1: -1, 2: -1}

    def advance(self) -> None:
        mine = self.flushed if self.durable else self.end
        lowest = min([mine, *(self.followers[id_] for id_ in self.isr)])
        self.high_watermark = max(self.high_watermark, lowest)


@given(st.lists(STEPS, max_size=60))
def test_high_watermark_and_releases_match_the_model(steps: list[tuple[str, object]]) -> None:
    machine, model = ReplicaMachine(ME), Model()
    machine.on_event(BecomeLeader(0, frozenset({ME}), 0, 0, 0), now_ms=0)
    waiting: list[int] = []
    for name, value in steps:
        before = machine.high_watermark
        effects = []
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
            model.followers[id_] = max(model.followers[id_], min(offset, model.end))
            effects = machine.on_event(FollowerAdvanced(id_, offset), now_ms=0)
        elif name == "isr":
            assert isinstance(value, frozenset)
            model.isr = value
            effects = machine.on_event(IsrChanged(value | {ME}), now_ms=0)
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
        if name != "append" and machine.high_watermark > before:
            assert effects[-1] == AdvanceHighWatermark(machine.high_watermark)
