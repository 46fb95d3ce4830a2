"""What a member of a group knows and does next (KIP-848, the client's half). Pure.

The coordinator alone decides who gets what: a member says what it subscribes to and what it owns,
hears what it may own, gives up what is not in there, takes what is new, and says so. Partitions are
named with the topic's id, so that a topic that was deleted and made again is another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from raykafka.client.cluster.deadline import Backoff
from raykafka.client.grouping.member import (
    NOTHING,
    Heartbeat,
    MemberSettings,
    MemberState,
    Owned,
    Work,
    as_owned,
    as_topics,
)
from raykafka.errors import (
    CommitFailedError,
    FencedMemberEpochError,
    RaykafkaError,
    UnknownMemberIdError,
    UnreleasedInstanceIdError,
)
from raykafka.model import ConsumerGroupMetadata
from raykafka.protocol.group_messages import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)

JOIN_EPOCH: Final = 0
LEAVE_EPOCH: Final = -1
LEAVE_FOR_NOW_EPOCH: Final = -2
_PACE_MS: Final = 50
"""Between two heartbeats that are held back, should the coordinator not hold them."""
_INTERVAL_MS: Final = 1000
"""How long a heartbeat may be held back, until the coordinator has said how long."""
_LONGEST_PAUSE_MS: Final = 1000
_INSTANCE_RELEASE_MS: Final = 60_000
"""How long a static member waits for its predecessor's session to end: one that was killed could
not say goodbye."""
_NOT_YET: Final = "it has not joined yet; poll() joins"


class Membership:
    """One member. Not thread-safe; times are monotonic milliseconds.

    ``next_heartbeat`` says what to send, ``on_response`` and ``on_error`` take what comes back: of
    one that says something, and of one that the coordinator holds back until it has something to
    say. ``work`` says what the owner must do, which calls ``lost``, or ``advance`` and
    ``reconciled`` for it.
    """

    def __init__(self, settings: MemberSettings) -> None:
        self.settings = settings
        self.state = MemberState.IDLE
        self.epoch = JOIN_EPOCH
        self.owned: Owned = NOTHING
        self.failure: RaykafkaError | None = None
        """Why the coordinator does not take this member."""
        self._topics: tuple[str, ...] = ()
        self._pattern = ""
        self._subscription = 0
        """Counts the subscriptions, to know which one the coordinator has heard of."""
        self._heard_subscription = 0
        self._target: Owned | None = None
        """What the coordinator has given and the owner has not seen to yet."""
        self._reported: Owned = NOTHING
        """What the coordinator knows to be owned."""
        self._owes = False
        """Whether the coordinator waits to hear what is owned, also if that has not changed."""
        self._full = True
        """Whether the next heartbeat has to say everything, since an answer may have been lost."""
        self._life = 0
        """Counts joins; an answer from before the last one is void."""
        self._asked: Heartbeat | None = None
        self._held: Heartbeat | None = None
        self._interval_ms = _INTERVAL_MS
        self._due_ms = 0
        """When the next heartbeat may be sent."""
        self._backoff = Backoff(settings.retry_backoff_ms, _LONGEST_PAUSE_MS)
        self._unreleased_ms: int | None = None
        self._polling = False
        self._polled_ms = 0
        self._subscribed = False
        self._expired = False
        """Whether it leaves, or has left, since its owner did not poll."""
        self._rejoin = False
        """Whether it joins again once it has left."""
        self._reason = _NOT_YET

    # --- the owner's side -------------------------------------------------------------------------

    def subscribe(self, topics: Iterable[str], pattern: str, now_ms: int) -> None:
        """Want these topics, or those that match; joins unless it is a member already."""
        self._topics, self._pattern = tuple(sorted(set(topics))), pattern
        self._subscription += 1
        self._subscribed = True
        self._due_ms = now_ms
        self.failure = None
        if self.state in (MemberState.IDLE, MemberState.FAILED):
            self._polled_ms = now_ms
            self._reason = _NOT_YET
            self._join(now_ms)
        elif self.state is MemberState.LEAVING and not self._expired:
            self._rejoin = True

    def leave(self, now_ms: int) -> None:
        """Leave the group; everything owned must have been given up."""
        sends = self.state in (MemberState.JOINING, MemberState.MEMBER, MemberState.LEAVING)
        self.forget()
        if sends:
            self.state = MemberState.LEAVING
            self._due_ms = now_ms

    def forget(self) -> None:
        """Be no member any more without telling anybody; the session will end by itself."""
        self.owned, self._target = NOTHING, None
        self.failure = None
        self._subscribed = self._expired = self._rejoin = False
        self._reason = "it has left the group"
        self.state = MemberState.IDLE
        self._life += 1

    @property
    def has_work(self) -> bool:
        """Whether ``work`` or ``failure`` is there."""
        return self.work() is not None or self.failure is not None

    def work(self) -> Work | None:
        """What is to be done before the member can go on; None for nothing."""
        if self.state is MemberState.MEMBER:
            if self._target is None:
                return None
            return Work(revoked=self.owned - self._target, added=self._target - self.owned)
        gone = self.state not in (MemberState.IDLE, MemberState.JOINING)
        if gone and (self.owned or self.state is MemberState.AWAY):
            return Work(lost=self.owned)
        return None

    def lost(self, now_ms: int) -> None:
        """The owner knows that all is lost; joins again where that helps."""
        self.owned = NOTHING
        if self.state in (MemberState.FENCED, MemberState.AWAY):
            self._join(now_ms)
        elif self.state is MemberState.LEAVING:
            self._rejoin = True

    def advance(self, work: Work) -> bool:
        """What ``work`` revoked is given up, what it added is owned.

        Unless things have changed meanwhile: then it returns False, and ``work`` is called again.
        """
        self.owned -= work.revoked
        wanted = self.owned | work.added
        if self.state is not MemberState.MEMBER or self._target != wanted:
            return False
        self.owned = wanted
        return True

    def reconciled(self, now_ms: int) -> None:
        """The owner has seen to what ``advance`` brought; the coordinator is told."""
        if self.state is not MemberState.MEMBER:
            return
        if self._target == self.owned:
            self._target = None
        if self._tells_owned():
            self._due_ms = now_ms

    def hurry(self, now_ms: int) -> None:
        """Say everything to the coordinator now, in case something was missed."""
        if self.state is MemberState.MEMBER:
            self._full = True
            self._due_ms = min(self._due_ms, now_ms)

    def start_poll(self, now_ms: int) -> None:
        """The owner is at work on what the group wants of it."""
        self._polling = True
        self._polled_ms = now_ms

    def end_poll(self, now_ms: int) -> None:
        """The owner has turned to its records; it has to be back in ``max_poll_interval_ms``."""
        self._polling = False
        self._polled_ms = now_ms

    def active(self, now_ms: int) -> None:
        """The owner gets on with its records, which is as good as a poll."""
        if not self._polling:
            self._polled_ms = now_ms

    @property
    def reason(self) -> str:
        """Why the member is not in its group, in a sentence."""
        settings = self.settings
        return f"member {settings.member_id} of group {settings.group_id}: {self._reason}"

    def identity(self) -> ConsumerGroupMetadata:
        """Under which offsets are committed.

        Raises ``CommitFailedError`` that says why the member cannot commit.
        """
        settings = self.settings
        if self.state is MemberState.IDLE and not self._subscribed:
            return ConsumerGroupMetadata(settings.group_id)
        if self.state is not MemberState.MEMBER:
            raise CommitFailedError(f"offsets were not committed by {self.reason}")
        return ConsumerGroupMetadata(
            settings.group_id, self.epoch, settings.member_id, settings.instance_id
        )

    # --- the heartbeats' side ---------------------------------------------------------------------

    def on_time(self, now_ms: int) -> bool:
        """Leave when the owner has not polled for too long; whether it leaves now."""
        limit_ms = self.settings.max_poll_interval_ms
        member = self.state in (MemberState.MEMBER, MemberState.JOINING)
        if not member or self._polling or now_ms - self._polled_ms <= limit_ms:
            return False
        self.state = MemberState.LEAVING
        self._expired = True
        self._due_ms = now_ms
        self._target = None
        self._reason = (
            f"poll() was not called for more than max.poll.interval.ms ({limit_ms} ms), so it has "
            "left the group and its partitions went to others; raise max_poll_interval_ms, or do "
            "less between two polls (lower max_poll_records). The next poll() joins again"
        )
        return True

    def due_in_ms(self, now_ms: int, at_most_ms: int) -> int:
        """Milliseconds until ``on_time`` and ``next_heartbeat`` should be called again."""
        due = now_ms + at_most_ms
        if self._sends():
            due = min(due, self._due_ms)
        if self.state in (MemberState.MEMBER, MemberState.JOINING):
            polled_ms = now_ms if self._polling else self._polled_ms
            due = min(due, polled_ms + self.settings.max_poll_interval_ms + 1)
        return max(0, due - now_ms)

    def _sends(self) -> bool:
        """Whether the answers that are awaited allow to say or to ask something more."""
        if self._asked is not None:
            return False
        if self.state is MemberState.MEMBER:
            return self._held is None or self._has_news()
        return self.state in (MemberState.JOINING, MemberState.LEAVING)

    def _has_news(self) -> bool:
        """Whether the coordinator has to hear something."""
        resubscribed = self._subscription != self._heard_subscription
        return self._full or resubscribed or self._tells_owned()

    def _tells_owned(self) -> bool:
        return self.owned != self._reported or (self._owes and self._target is None)

    def next_heartbeat(self, now_ms: int) -> Heartbeat | None:
        """What is to be sent now; the caller fills in ``partition`` and ``host``."""
        if not self._sends() or now_ms < self._due_ms:
            return None
        if self.state is MemberState.LEAVING:
            static = bool(self.settings.instance_id)
            request = self._request(LEAVE_FOR_NOW_EPOCH if static else LEAVE_EPOCH)
            self._asked = Heartbeat(request, self._life)
            return self._asked
        if not self._has_news():
            # The answer says nothing or brings news; in either case the next one follows at once.
            request = self._request(self.epoch, max_wait_ms=self._interval_ms)
            self._held = Heartbeat(request, self._life)
            self._due_ms = now_ms + _PACE_MS
            return self._held
        settings, full = self.settings, self._full
        says_topics = full or self._subscription != self._heard_subscription
        owned = self.owned if full or self._tells_owned() else None
        request = self._request(
            self.epoch,
            client_id=settings.client_id if full else "",
            rack_id=settings.rack_id if full else "",
            rebalance_timeout_ms=settings.max_poll_interval_ms if full else -1,
            subscribed_topics=list(self._topics) if says_topics else None,
            subscribed_pattern=self._pattern if says_topics else None,
            assignor=(settings.assignor or None) if full else None,
            owned=None if owned is None else as_topics(owned),
        )
        self._asked = Heartbeat(request, self._life, owned, self._subscription)
        return self._asked

    def _request(self, member_epoch: int, **said: Any) -> ConsumerGroupHeartbeatRequest:
        settings = self.settings
        return ConsumerGroupHeartbeatRequest(
            settings.group_id,
            -1,
            settings.member_id,
            member_epoch,
            instance_id=settings.instance_id,
            share=settings.share,
            **said,
        )

    def on_response(
        self, heartbeat: Heartbeat, response: ConsumerGroupHeartbeatResponse, now_ms: int
    ) -> None:
        """The coordinator has answered."""
        if self._is_void(heartbeat):
            return
        if heartbeat.leaves:
            self._left(now_ms)
            return
        joined = self.state is MemberState.JOINING
        self.state = MemberState.MEMBER
        self.epoch = response.member_epoch if joined else max(self.epoch, response.member_epoch)
        self._interval_ms = max(1, response.heartbeat_interval_ms or self._interval_ms)
        self._unreleased_ms = None
        self._backoff.reset()
        if not heartbeat.held:
            self._full = False
            self._heard_subscription = heartbeat.subscription
            self._due_ms = now_ms
        if heartbeat.owned is not None:
            self._reported = heartbeat.owned
            self._owes = False
        if response.assignment is not None:
            self._owes = True
            self._target = as_owned(response.assignment)
        elif joined:
            self._target = NOTHING

    def on_error(self, heartbeat: Heartbeat, error: RaykafkaError, now_ms: int) -> None:
        """The heartbeat was refused, or nobody answered it."""
        if self._is_void(heartbeat):
            return
        removed = isinstance(error, (FencedMemberEpochError, UnknownMemberIdError))
        if error.retriable:
            self._try_again(now_ms)
        elif heartbeat.leaves:
            self._left(now_ms)
        elif removed:
            self._fenced(error, now_ms)
        elif isinstance(error, UnreleasedInstanceIdError) and self._may_be_released(now_ms):
            self._try_again(now_ms)
        else:
            self.state = MemberState.FAILED
            self.failure = error
            self._target = None
            self._reason = error.message

    def _is_void(self, heartbeat: Heartbeat) -> bool:
        """Whether the answer comes too late to mean anything."""
        if self._asked is heartbeat:
            self._asked = None
        if self._held is heartbeat:
            self._held = None
        member = (MemberState.JOINING, MemberState.MEMBER)
        expected = (MemberState.LEAVING,) if heartbeat.leaves else member
        return heartbeat.life != self._life or self.state not in expected

    def _left(self, now_ms: int) -> None:
        if self._rejoin:
            self._join(now_ms)
        else:
            self.state = MemberState.AWAY if self._expired else MemberState.IDLE

    def _fenced(self, error: RaykafkaError, now_ms: int) -> None:
        self._target = None
        self._reason = (
            f"the coordinator has removed it ({error.message}): its heartbeats came too late, it "
            "took too long to give partitions up, or somebody removed it. The next poll() joins "
            "again"
        )
        self.state = MemberState.FENCED
        if not self.owned:
            self._join(now_ms)

    def _join(self, now_ms: int) -> None:
        self.state = MemberState.JOINING
        self._expired = self._rejoin = False
        self.epoch = JOIN_EPOCH
        self._target = None
        self._reported = NOTHING
        self._owes = False
        self._full = True
        self._life += 1
        self._asked = self._held = None
        self._due_ms = now_ms

    def _try_again(self, now_ms: int) -> None:
        self._full = True
        self._due_ms = now_ms + self._backoff.next_ms()

    def _may_be_released(self, now_ms: int) -> bool:
        if self._unreleased_ms is None:
            self._unreleased_ms = now_ms
        return now_ms - self._unreleased_ms < _INSTANCE_RELEASE_MS
