"""What a reader must know to compare: the machine, its versions, what else was running."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "ray", "pyarrow", "uvloop", "msgspec", "numpy", "confluent-kafka", "kafka-python", "aiokafka",
    "redis", "nats-py",
)  # fmt: skip


def environment(data_dir: Path) -> dict[str, str]:
    """Facts for the head of every result; ``data_dir`` is where the servers keep their logs."""
    found = {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory_gib": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f}",
        "kernel": platform.release(),
        "file_system": _file_system(data_dir),
        "load_before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "java": _first_line(["java", "-version"]),
        "sharing": "clients and servers share all cores, over loopback",
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _file_system(folder: Path) -> str:
    """Type of the file system that a folder is on: the longest mount point above it."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, this, *_ = line.split()
        inside = str(folder.resolve()).startswith(point.rstrip("/") + "/")
        if inside and len(point) > len(best):
            best, kind = point, this
    return kind


def _first_line(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"
