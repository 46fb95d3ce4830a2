from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from raykafka.cli import ray_head


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYKAFKA_HOME", str(tmp_path))
    return tmp_path


def remember(home: Path, pid: int, address: str = "", file: str = "") -> None:
    state = {"pid": pid, "address": address, "address_file": file}
    (home / "ray.json").write_bytes(msgspec.json.encode(state))


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": "x"}'])
def test_a_broken_note_is_no_ray(home: Path, content: bytes) -> None:
    (home / "ray.json").write_bytes(content)
    assert not ray_head.started_ray()
    assert not ray_head.stop_ray()


def test_a_process_that_is_not_our_ray_is_left_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    remember(home, os.getpid())
    assert not ray_head.started_ray()
    assert not ray_head.stop_ray()
    assert killed == []
    assert not (home / "ray.json").exists()


@pytest.mark.parametrize(("noted", "stays"), [("10.0.0.1:1", False), ("10.0.0.1:2", True)])
def test_only_the_note_of_the_stopped_ray_is_removed(
    home: Path, monkeypatch: pytest.MonkeyPatch, noted: str, stays: bool
) -> None:
    note = home / "ray_current_cluster"
    note.write_text(noted)
    remember(home, 12345, "10.0.0.1:1", str(note))
    killed: list[int] = []
    monkeypatch.setattr(ray_head, "_is_head", lambda _: not killed)
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    assert ray_head.stop_ray()
    assert killed == [12345]
    assert note.exists() is stays
