"""A process that works for a share group until it is killed; what it does stands in a file.

Lines are ``begin OFFSET...`` before acceptances are sent and ``done OFFSET...`` when they are
confirmed. Values that begin with ``poison`` fail.
"""

from __future__ import annotations

import sys
from pathlib import Path

from raykafka.client.cluster.file_bootstrap import FileBootstrap
from raykafka.client.share_consumer import ShareConsumer
from raykafka.model import AcknowledgeType


def main(endpoint_file: str, journal: str) -> None:
    with (
        Path(journal).open("a", buffering=1) as lines,
        ShareConsumer(
            FileBootstrap(endpoint_file),
            group_id="workers",
            share_acknowledgement_mode="explicit",
            max_poll_records=20,
        ) as consumer,
    ):
        consumer.subscribe(["t"])
        lines.write("ready\n")
        while True:
            names = []
            for place, records in consumer.poll(1000).items():
                for record in records:
                    if record.value.startswith(b"poison"):
                        consumer.acknowledge(record, AcknowledgeType.RELEASE)
                    else:
                        consumer.acknowledge(record)
                        names.append(f"{place.partition}:{record.offset}")
            if not names:
                consumer.commit()
                continue
            lines.write(f"begin {' '.join(names)}\n")
            refused = {place.partition for place, error in consumer.commit().items() if error}
            kept = [name for name in names if int(name.partition(":")[0]) not in refused]
            lines.write(f"done {' '.join(kept)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
