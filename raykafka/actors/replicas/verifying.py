"""Asks the coordinator of a transaction to let a partition take part in it (KIP-890)."""

from __future__ import annotations

from raykafka.actors.peers import Peers
from raykafka.errors import CoordinatorNotAvailableError
from raykafka.internal_topics import TRANSACTION_STATE, coordinator_partition
from raykafka.protocol.messages import ApiKey
from raykafka.protocol.txn_messages import AddPartitionsToTxnRequest, TxnPartition


class TransactionVerifier:
    """``VerifyTransaction`` by ADD_PARTITIONS_TO_TXN."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def __call__(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        place: TxnPartition,
        timeout_s: float,
    ) -> None:
        """See ``VerifyTransaction``."""
        partition = await self._coordinator_of(transactional_id)
        request = AddPartitionsToTxnRequest(transactional_id, partition, *producer, [place])
        await self._peers.call_leader(
            TRANSACTION_STATE,
            partition,
            ApiKey.ADD_PARTITIONS_TO_TXN,
            request,
            timeout_s=timeout_s,
        )

    async def _coordinator_of(self, transactional_id: str) -> int:
        view = self._peers.view
        if TRANSACTION_STATE not in view.topics:
            await view.refresh()
        found = view.topics.get(TRANSACTION_STATE)
        if found is None or not found.partitions:
            raise CoordinatorNotAvailableError(
                f"there are no transactions yet, so there is none of {transactional_id!r}"
            )
        return coordinator_partition(transactional_id, len(found.partitions))
