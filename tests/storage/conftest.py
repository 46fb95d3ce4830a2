"""Stores under test: a directory, memory, and S3 as moto's server on loopback speaks it."""

from __future__ import annotations

import resource
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from raykafka.storage.api import SegmentStore
from raykafka.storage.fsspec_store import FsspecStore
from raykafka.storage.local_store import LocalStore
from raykafka.testing.memory_store import MemoryStore


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_store(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> FsspecStore:
    import s3fs

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": s3_endpoint}}
    bucket = f"raykafka-{uuid.uuid4().hex}"
    s3fs.S3FileSystem(skip_instance_cache=True, **options).mkdir(bucket)
    return FsspecStore(f"s3://{bucket}/logs", **options)


@pytest.fixture
def local_store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(str(tmp_path / "logs"))
    yield store
    store.close()


@pytest.fixture(params=["local", "memory", "fsspec-file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SegmentStore:
    """Every kind of store."""
    if request.param == "local":
        return request.getfixturevalue("local_store")  # type: ignore[no-any-return]
    if request.param == "memory":
        return MemoryStore()
    if request.param == "s3":
        return request.getfixturevalue("s3_store")  # type: ignore[no-any-return]
    return FsspecStore(f"file://{tmp_path}/objects")


@pytest.fixture(params=["local", "memory"])
def log_store(request: pytest.FixtureRequest) -> SegmentStore:
    """The stores that can append."""
    if request.param == "local":
        return request.getfixturevalue("local_store")  # type: ignore[no-any-return]
    return MemoryStore()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        # Without the right to mount, the limit of this process's file size gives the same partial
        # writes, with EFBIG in the place of ENOSPC.
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        yield disk
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
