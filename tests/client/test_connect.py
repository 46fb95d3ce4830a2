"""``raykafka.connect`` without Ray: by directory and by address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import raykafka
from raykafka.errors import (
    ClusterAuthorizationFailedError,
    ClusterUnreachableError,
    InvalidRequestError,
)
from raykafka.testing.local_cluster import LocalCluster


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("cluster")
    with LocalCluster(directory, name="here"):
        yield directory


@pytest.fixture
def address(directory: Path) -> str:
    found = json.loads((directory / "endpoint.json").read_text())
    return f"{found['host']}:{found['port']}"


def test_by_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert raykafka.connect(str(directory)).name == "here"
    monkeypatch.chdir(directory.parent)
    assert raykafka.connect(f"./{directory.name}").name == "here"
    with pytest.raises(ClusterUnreachableError, match=r"no cluster has left its address in .*/no"):
        raykafka.connect("./nowhere")


def test_by_address_with_the_secret_as_bytes_or_as_the_file_has_it(
    directory: Path, address: str
) -> None:
    text = json.loads((directory / "endpoint.json").read_text())["secret"]
    assert raykafka.connect(address, secret=text).name == "here"
    secret = (directory / "controller" / "secret").read_bytes()
    assert raykafka.connect(address, secret=secret).name == "here"


def test_by_address_without_the_right_secret(address: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"needs the cluster's secret.*endpoint\.json"):
        raykafka.connect(address)
    with pytest.raises(InvalidRequestError, match="base64"):
        raykafka.connect(address, secret="my password")
    with pytest.raises(ClusterAuthorizationFailedError, match=r"endpoint\.json"):
        raykafka.connect(address, secret=b"x" * 32)
