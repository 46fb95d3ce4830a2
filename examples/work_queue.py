"""A topic as a queue of work for Ray tasks: one of them dies, and one job cannot be done.

    python examples/work_queue.py

Eight tasks take jobs from a topic of two partitions as members of one share group. One is killed
with SIGKILL in the middle of its work: others do what it had taken. A job that fails every time
ends in the dead-letter topic. Any job that is lost ends the program with exit code 1.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile

import ray

import raykafka
from raykafka import AcknowledgeType, NewTopic, TopicPartition

JOBS = 2000
WORKERS = 8
POISON = 1234


@ray.remote(num_cpus=0, max_retries=0)
def work(data_dir: str, number: int) -> list[int]:
    """Do jobs until there are none for a while; returns those that this task has done."""
    done: list[int] = []
    consumer = raykafka.connect(data_dir).share_consumer(
        group_id="workers", share_acknowledgement_mode="explicit", max_poll_records=20
    )
    with consumer:
        consumer.subscribe(["jobs"])
        quiet = 0
        while quiet < 10:
            polled = consumer.poll(timeout_ms=500)
            quiet = 0 if polled else quiet + 1
            for records in polled.values():
                for record in records:
                    job = int(record.value)
                    if number == 0 and job > JOBS // 10:
                        os.kill(os.getpid(), signal.SIGKILL)
                    failed = job == POISON
                    kind = AcknowledgeType.RELEASE if failed else AcknowledgeType.ACCEPT
                    consumer.acknowledge(record, kind)
                    if not failed:
                        done.append(job)
            consumer.commit()
    return done


def run(cluster: raykafka.Cluster, data_dir: str) -> int:
    with cluster.admin() as admin:
        admin.create_topics([NewTopic("jobs", num_partitions=2), NewTopic("failed")])
        admin.alter_share_group_configs(
            "workers",
            {
                "share.auto.offset.reset": "earliest",
                "errors.deadletterqueue.topic.name": "failed",
            },
        )
    with cluster.producer() as producer:
        for job in range(JOBS):
            producer.send("jobs", b"%d" % job, partition=job % 2)
    done = finished([work.remote(data_dir, number) for number in range(WORKERS)])
    with cluster.admin() as admin:
        for number in range(WORKERS, WORKERS + 3):
            if not left(admin):
                break
            # On a busy machine they may have gone before what the dead one had taken was free.
            done += finished([work.remote(data_dir, number)])
        jobs_left = left(admin)
    with cluster.consumer(auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("failed", 0)])
        failed = [int(r.value) for records in consumer.poll(5000).values() for r in records]
    print(f"{len(done)} jobs done by the others, failed: {failed}, left: {jobs_left}")
    return 0 if failed == [POISON] and jobs_left == 0 and len(done) == len(set(done)) else 1


def finished(tasks: list[ray.ObjectRef]) -> list[int]:
    """The jobs that these tasks have done, but for the one that was killed."""
    done: list[int] = []
    for task in tasks:
        try:
            done += ray.get(task)
        except ray.exceptions.WorkerCrashedError:
            print("a worker was killed")
    return done


def left(admin: raykafka.Admin) -> int:
    """Jobs that nobody has accepted or given up."""
    return sum(each.lag or 0 for each in admin.list_share_group_offsets("workers"))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="rk") as folder:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            data_dir = os.path.join(folder, "data")
            with raykafka.start("queue", data_dir=data_dir) as cluster:
                return run(cluster, data_dir)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
