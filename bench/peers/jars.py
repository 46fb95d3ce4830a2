"""Java archives of the peers: what ``bench/pom.xml`` names, fetched once by Maven."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

POM = Path(__file__).parents[1] / "pom.xml"
CACHE = Path(__file__).parents[1] / ".jars"
OLDEST_JAVA = 17
_COPY = "dependency:copy-dependencies"


def java() -> str | None:
    """The java that Kafka's own scripts would take."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which(str(Path(home, "bin", "java"))) if home else shutil.which("java")


def missing(pom: Path = POM, cache: Path = CACHE) -> str | None:
    """What is not there and how to get it. Fetches the archives when they are not there yet."""
    found = java()
    version = java_version(_output([found, "-version"])) if found else None
    if version is None or version < OLDEST_JAVA:
        return missing_java(version)
    if jars_of(pom, cache).is_dir():
        return None
    if shutil.which("mvn") is None:
        return "mvn is not installed, which fetches the jars (Debian: maven)"
    try:
        resolve(pom, cache)
    except RuntimeError as failure:
        return str(failure)
    return None


def missing_java(version: int | None) -> str:
    """How to get a java; ``version`` is the one that is too old."""
    found = "java is not installed" if version is None else f"java is {version}"
    return f"{found}, {OLDEST_JAVA} or later is needed (Debian: openjdk-17-jre-headless)"


def java_version(text: str) -> int | None:
    """Feature release in what ``java -version`` prints."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found[1]) if found else None


def class_path(pom: Path = POM, cache: Path = CACHE) -> str:
    """For ``java -cp``; only when nothing is missing."""
    return str(jars_of(pom, cache) / "*")


def kafka_version(pom: Path = POM) -> str:
    """The version of Apache Kafka that is named."""
    found = re.search(r"<kafka\.version>([^<]+)<", pom.read_text())
    if found is None:
        raise ValueError(f"{pom} has no property kafka.version")
    return found[1]


def jars_of(pom: Path, cache: Path) -> Path:
    """Where the archives of exactly this file are kept, so that a changed one is fetched anew."""
    return cache / hashlib.sha256(pom.read_bytes()).hexdigest()[:16]


def resolve(pom: Path, cache: Path) -> None:
    """Let Maven copy the archives. Raises ``RuntimeError`` with its complaint."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        part = Path(folder, "jars")
        command = ["mvn", "-q", "-B", "-f", str(pom), _COPY, f"-DoutputDirectory={part}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not part.is_dir():
            lines = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")]
            said = lines[0].removeprefix("[ERROR] ") if lines else f"exit code {done.returncode}"
            raise RuntimeError(f"mvn could not fetch the jars that {pom} names: {said}")
        try:
            part.rename(jars_of(pom, cache))
        except OSError:
            if not jars_of(pom, cache).is_dir():
                raise


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
