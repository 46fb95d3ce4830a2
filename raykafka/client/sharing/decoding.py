"""From the batches of a share fetch to the records that were acquired."""

from __future__ import annotations

from collections.abc import Sequence

from raykafka.client.consuming.decoding import TopicDecoder, decode_frame
from raykafka.client.consuming.fetch_queue import FetchedFrame
from raykafka.client.consuming.rows import as_arrow
from raykafka.client.sharing.share_records import ShareRows
from raykafka.model import Endpoint
from raykafka.protocol.share_messages import AcquiredRecords


def decode_acquired(
    decoder: TopicDecoder,
    frame: FetchedFrame,
    acquired: Sequence[AcquiredRecords],
    endpoint: Endpoint,
) -> list[ShareRows]:
    """The acquired records of a frame, as columns; raises as ``decode_frame`` does."""
    found: list[ShareRows] = []
    index, last = 0, acquired[-1].last_offset
    while index < len(frame.messages):
        batch = decode_frame(decoder, frame, index, 0)
        index += batch.messages
        if batch.offset > last:
            break
        end = batch.offset + batch.columns.num_rows
        for each in acquired:
            first, stop = max(batch.offset, each.first_offset), min(end, each.last_offset + 1)
            if first >= stop:
                continue
            columns = batch.columns
            if stop - first < columns.num_rows:
                columns = as_arrow(columns).slice(first - batch.offset, stop - first)
            found.append(
                ShareRows(
                    columns,
                    batch.format,
                    frame.partition.partition,
                    first,
                    batch.log_append_time,
                    each.delivery_count,
                    endpoint,
                )
            )
    return found
