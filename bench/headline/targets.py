"""What the headline must show: which figure of ours against which of whose, and how much better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.measuring.statistics import Spread

Figures = Mapping[str, Sequence[float]]
"""Every figure that was measured, by name: one value per counted run."""

_PEER_TOO_SLOW = 0.7


@dataclass(frozen=True)
class Row:
    """One line of the table. Figures are named ``case/client``, as the cases return them."""

    row: str
    peer: str
    unit: str
    ours: str
    theirs: str
    bound: float | None
    """What the ratio ours / theirs must reach (rates), or must not pass (everything else)."""
    most: float | None = None
    """What ours must not pass, whatever the peer does."""
    known: float | None = None
    """What the peer does on such a machine (its worse end): a peer much slower is wrongly tuned."""
    worst: bool = False
    """Whether the worst run is judged, not the median."""
    landed: bool = True

    @property
    def higher_is_better(self) -> bool:
        return self.unit.endswith("/s")

    @property
    def target(self) -> str:
        sign = ">=" if self.higher_is_better else "<="
        parts = [] if self.bound is None else [f"{sign} {self.bound:g}x"]
        if self.most is not None:
            parts.append(f"<= {self.most:g} {self.unit}")
        return ", ".join(parts)

    def judge(self, figures: Figures) -> dict[str, Any]:
        """The row with its medians; figures are None where a feature or a peer is not there."""
        ours, theirs = _spread(figures, self.ours), _spread(figures, self.theirs)
        result: dict[str, Any] = {
            "row": self.row,
            "peer": self.peer,
            "unit": self.unit,
            "ours": self._figure(ours),
            "theirs": self._figure(theirs),
            "ratio": None,
            "target": self.target,
            "bound": self.bound,
            "met": None,
            "ours_spread": ours and [ours.least, ours.most],
            "theirs_spread": theirs and [theirs.least, theirs.most],
            "runs": ours.runs if ours else 0,
            "note": self._note(theirs),
        }
        if ours and theirs:
            result["ratio"] = result["ours"] / result["theirs"]
        result["met"] = self._met(result)
        return result

    def _figure(self, spread: Spread | None) -> float | None:
        if spread is None:
            return None
        if not self.worst:
            return spread.median
        return spread.least if self.higher_is_better else spread.most

    def _met(self, result: Mapping[str, Any]) -> bool | None:
        ratio, ours = result["ratio"], result["ours"]
        aimless = self.bound is None and self.most is None
        if aimless or ours is None or (self.bound is not None and ratio is None):
            return None
        met = self.most is None or ours <= self.most
        if self.bound is not None:
            met &= ratio >= self.bound if self.higher_is_better else ratio <= self.bound
        return met

    def _note(self, theirs: Spread | None) -> str:
        if not self.landed:
            return "the feature has not landed"
        if theirs is None:
            return "no figure of the peer" if self.theirs else ""
        if self.known is None:
            return ""
        share = theirs.median / self.known
        if share < _PEER_TOO_SLOW if self.higher_is_better else share > 1 / _PEER_TOO_SLOW:
            return f"the peer is slower than its known {self.known:,.4g} {self.unit}"
        return ""


def _spread(figures: Figures, name: str) -> Spread | None:
    return Spread.of(figures[name]) if figures.get(name) else None


CONFLUENT = "Apache Kafka, confluent-kafka"
CALLBACKS = "Apache Kafka, confluent-kafka with a callback per record"
DEFAULTS = "Apache Kafka, confluent-kafka with its defaults"
KAFKA_TOOLS = "Apache Kafka, its own perf tools"
KAFKA_PYTHON = "Apache Kafka, kafka-python"
AIOKAFKA = "Apache Kafka, aiokafka"

ROWS = (
    Row("produce 100 B, send() one by one, acks=all, one copy", CONFLUENT, "records/s",
        "produce/raykafka", "produce/confluent-kafka", 1.2, known=0.5e6),
    Row("produce 100 B one by one", CALLBACKS, "records/s",
        "produce/raykafka", "produce/confluent-kafka, a callback each", None),
    Row("produce 100 B one by one", DEFAULTS, "records/s",
        "produce/raykafka", "produce/confluent-kafka, its defaults", None),
    Row("produce 100 B as tables of 10,000", CONFLUENT, "records/s",
        "produce/raykafka tables", "produce/confluent-kafka", 10, known=0.5e6),
    Row("produce 100 B as tables of 10,000", KAFKA_TOOLS, "records/s",
        "produce/raykafka tables", "produce/kafka-producer-perf-test", 5, known=0.53e6),
    Row("produce 1 KB as tables", CONFLUENT, "MB/s",
        "produce 1 KB/raykafka tables", "produce 1 KB/confluent-kafka", 5, known=118),
    Row("consume 100 B record by record", CONFLUENT, "records/s",
        "consume/raykafka", "consume/confluent-kafka", 3, known=0.44e6),
    Row("consume 100 B record by record", DEFAULTS, "records/s",
        "consume/raykafka", "consume/confluent-kafka, its defaults", None),
    Row("consume 100 B as tables over the network", CONFLUENT, "records/s",
        "consume/raykafka tables", "consume/confluent-kafka", 10, known=0.44e6),
    Row("consume 100 B as tables over the network", KAFKA_TOOLS, "records/s",
        "consume/raykafka tables", "consume/kafka-consumer-perf-test", 2, known=3.9e6),
    Row("consume 100 B as tables, co-located (mapped)", CONFLUENT, "records/s",
        "consume/raykafka mapped", "consume/confluent-kafka", 100, known=0.44e6),
    Row("one-record ack, p50", CONFLUENT, "us",
        "ack p50/raykafka", "ack p50/confluent-kafka", 0.8, known=205),
    Row("one-record ack, p99", CONFLUENT, "us",
        "ack p99/raykafka", "ack p99/confluent-kafka", 0.25, known=3800),
    Row("one record end to end, p50", CONFLUENT, "us",
        "end to end p50/raykafka", "end to end p50/confluent-kafka", 0.6, known=432),
    Row("one record end to end, p99", CONFLUENT, "us",
        "end to end p99/raykafka", "end to end p99/confluent-kafka", 0.25, known=4200),
    Row("three copies, acks=all: one-record ack, p50", CONFLUENT, "us",
        "three copies ack p50/raykafka", "three copies ack p50/confluent-kafka", 0.4,
        known=1200),
    Row("three copies, acks=all: one-record ack, p99", CONFLUENT, "us",
        "three copies ack p99/raykafka", "three copies ack p99/confluent-kafka", 0.2,
        known=8200),
    Row("three copies, acks=all: 100 B as tables of 10,000", CONFLUENT, "MB/s",
        "three copies 100 B/raykafka tables", "three copies 100 B/confluent-kafka", 6,
        known=42),
    Row("leader killed with SIGKILL, longest gap without an ack", CONFLUENT, "s",
        "kill gap/raykafka", "kill gap/confluent-kafka", 0.05, most=0.2, known=11),
    Row("leader killed with SIGKILL, the worst of all kills", CONFLUENT, "s",
        "kill gap/raykafka", "kill gap/confluent-kafka", None, most=1, worst=True),
    Row("leader's node silent (SIGSTOP), longest gap without an ack", CONFLUENT, "s",
        "silent gap/raykafka", "silent gap/confluent-kafka", None, most=3, worst=True),
    Row("a broker's empty disk: copied again", "raw copy from socket to file", "MB/s",
        "empty disk/raykafka", "empty disk/raw copy", 0.6),
    Row("the same until every copy is in sync", "raw copy from socket to file", "MB/s",
        "empty disk in sync/raykafka", "empty disk/raw copy", None),
    Row("a broker's empty disk: one-record ack p99 meanwhile", "raykafka before", "us",
        "ack p99 while copying/raykafka", "ack p99 before copying/raykafka", 3),
    Row("start to first acked record, Ray already running", CONFLUENT, "s",
        "cold start/raykafka, Ray running", "cold start/kafka", 1, known=3.6),
    Row("start to first acked record, Ray not running", CONFLUENT, "s",
        "cold start/raykafka", "cold start/kafka", 2.5, known=3.6),
    Row("CPU per million 100 B records, produced and consumed as tables", CONFLUENT, "CPU s",
        "cpu/raykafka tables", "cpu/confluent-kafka", 0.1, known=4.1),
    Row("produce 100 B one by one", KAFKA_PYTHON, "records/s",
        "produce/raykafka", "produce/kafka-python", 10, known=59e3),
    Row("consume 100 B one by one", KAFKA_PYTHON, "records/s",
        "consume/raykafka", "consume/kafka-python", 5, known=176e3),
    Row("produce 100 B one by one", AIOKAFKA, "records/s",
        "produce/raykafka", "produce/aiokafka", 4, known=179e3),
    Row("consume 100 B one by one", AIOKAFKA, "records/s",
        "consume/raykafka", "consume/aiokafka", 1.5, known=807e3),
    Row("transactions of 1,000 records", CONFLUENT, "records/s",
        "transactions/raykafka", "transactions/confluent-kafka", 5, known=116e3),
    Row("commit of a one-record transaction, p50", CONFLUENT, "us",
        "commit p50/raykafka", "commit p50/confluent-kafka", 0.5, most=2700, known=5500),
    Row("transactions of 1,000 records", "raykafka without transactions", "records/s",
        "transactions/raykafka", "without transactions/raykafka", 0.7),
    Row("the same of Apache Kafka", "Apache Kafka without transactions", "records/s",
        "transactions/confluent-kafka", "without transactions/confluent-kafka", None),
    Row("create 1,000 partitions: answered", CONFLUENT, "s",
        "1,000 partitions answered/raykafka", "1,000 partitions answered/confluent-kafka", 10,
        known=0.11),
    Row("create 1,000 partitions: all writable", CONFLUENT, "s",
        "1,000 partitions writable/raykafka", "1,000 partitions writable/confluent-kafka", None,
        most=3),
    Row("consume a log of one-record batches, one by one", CONFLUENT, "records/s",
        "consume one-record batches/raykafka", "consume one-record batches/confluent-kafka", 0.7),
    Row("rows into ray.data (typed topic against read_kafka + JSON)", "Apache Kafka, ray.data",
        "rows/s", "ray.data/raykafka", "ray.data/kafka", 10),
)  # fmt: skip
