"""Who a transactional id belongs to, and what everybody else is told (KIP-360, KIP-890)."""

from __future__ import annotations

from raykafka.errors import (
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    ProducerFencedError,
    RaykafkaError,
    TransactionAbortableError,
)
from raykafka.txn.records import LAST_EPOCH, NOBODY, ProducerIdentity, TransactionState


def successor_of(owner: ProducerIdentity, new_producer_id: int) -> ProducerIdentity:
    """The next epoch, or the new id where the epochs are used up; nobody where one is needed."""
    if owner.producer_epoch < LAST_EPOCH:
        return ProducerIdentity(owner.producer_id, owner.producer_epoch + 1)
    return NOBODY if new_producer_id < 0 else ProducerIdentity(new_producer_id, 0)


def check_last(state: TransactionState, producer: ProducerIdentity) -> None:
    """A producer that asks for a new epoch must be the last one (KIP-360)."""
    ended = state.ended
    is_last = ended is not None and producer == ended.owner and state.owner == ended.successor
    if producer != state.owner and not is_last:
        raise ProducerFencedError(
            f"producer id {producer.producer_id} with epoch {producer.producer_epoch} does not "
            "own the transactional id any more: a newer producer uses it"
        )


def check_owner(state: TransactionState, producer: ProducerIdentity) -> None:
    """Raise what ``refusal`` gives for anybody but the owner."""
    if producer != state.owner:
        raise refusal(state, producer)
    if producer.producer_epoch > LAST_EPOCH:
        raise InvalidProducerEpochError(
            f"the epochs of producer id {producer.producer_id} are used up: init the producer again"
        )


def unknown(transactional_id: str, producer: ProducerIdentity) -> InvalidProducerIdMappingError:
    """The id was never used, or forgotten."""
    return InvalidProducerIdMappingError(
        f"transactional id {transactional_id} is not known, producer id {producer.producer_id} "
        "cannot be its: init the producer"
    )


def aborted() -> TransactionAbortableError:
    """The owner's transaction ran into its timeout (KIP-588)."""
    return TransactionAbortableError(
        "the transaction was aborted after its timeout: abort it, then go on with the next one"
    )


def refusal(state: TransactionState, producer: ProducerIdentity) -> RaykafkaError:
    """Why a producer that is not the owner may not go on."""
    owner, ended = state.owner, state.ended
    if ended is not None and producer in (ended.owner, ended.transaction):
        if ended.requested:
            return InvalidProducerEpochError(
                f"the transaction of epoch {producer.producer_epoch} has ended"
            )
        if owner == ended.successor:
            return aborted()
    elif producer.producer_id != owner.producer_id:
        return InvalidProducerIdMappingError(
            f"producer id {producer.producer_id} does not belong to the transactional id, "
            f"{owner.producer_id} does"
        )
    elif producer.producer_epoch > owner.producer_epoch:
        return InvalidProducerEpochError(
            f"producer id {producer.producer_id} has epoch {owner.producer_epoch}, "
            f"not {producer.producer_epoch} yet"
        )
    return ProducerFencedError(
        f"a newer producer uses the transactional id, with producer id {owner.producer_id} and "
        f"epoch {owner.producer_epoch}"
    )
