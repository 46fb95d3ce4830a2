# Every target sets itself up: .venv is made once, and again when pyproject.toml changes.

VENV := .venv
BIN := $(VENV)/bin
# A name that is found may still be a wrapper without an interpreter behind it, so each is tried.
PYTHON ?= $(shell for name in python3.11 python3.13 python3.12 python3.10 python3 python; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$name && break; done)

.PHONY: help demo test check sim chaos groups docs bench bench-full bench-floor bench-peers format clean

# What only computes runs on every core; what has clusters, sockets or deadlines has the machine alone.
EACH_CORE := --numprocesses=auto --dist=loadfile
COMPUTING := tests/unit tests/model tests/oracle tests/simulation tests/storage tests/test_tidy.py

SEEDS ?= 1000
FIRST ?= 1
MINUTES ?= 10
ROUNDS ?= 0
SEED ?= 1

help:
	@echo "make demo    the flights of 2013 through a real cluster, with a kill on the way"
	@echo "make test    all tests"
	@echo "make check   lint, types, import rules and the tests that need no Ray: under a minute"
	@echo "make sim     simulated clusters, one per seed: SEEDS=n (1000) from FIRST=s (1)"
	@echo "make chaos   a real cluster under faults: MINUTES=n (10) or ROUNDS=n, SEED=s (1)"
	@echo "make groups  a consumer group whose members and coordinator are killed: ROUNDS=n (200), SEED=s"
	@echo "make bank    money in transactions on such a cluster: MINUTES=n (10) or ROUNDS=n, SEED=s (1)"
	@echo "make docs    write the pages that are generated from the code"
	@echo "make bench   side by side with Apache Kafka: the rows with targets, about 20 minutes"
	@echo "make bench-full    every workload, every peer: sweeps, load curves, fan-out, catch-up"
	@echo "make bench-floor   against a bare socket server, and how it scales"
	@echo "make bench-peers   install the peers' servers (Debian packages; needs root)"
	@echo "make format  apply the formatter"
	@echo "make clean   remove .venv and all caches"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "raykafka needs Python 3.10 to 3.13 with venv; none was found" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo $(VENV)/.bench

demo: $(VENV)/.demo
	$(BIN)/python examples/flights.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(EACH_CORE) $(COMPUTING)
	$(BIN)/python -m pytest $(COMPUTING:%=--ignore=%)

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m pytest --quiet $(EACH_CORE) tests/unit tests/model tests/test_tidy.py

sim: $(VENV)/.dev
	$(BIN)/python -m raykafka.testing.simulation --seeds $(SEEDS) --first $(FIRST)

chaos: $(VENV)/.dev
	$(BIN)/python -m raykafka.testing.chaos --minutes $(MINUTES) --rounds $(ROUNDS) --seed $(SEED)

groups: $(VENV)/.dev
	$(BIN)/python -m raykafka.testing.membership --rounds $(if $(filter 0,$(ROUNDS)),200,$(ROUNDS)) --seed $(SEED)

bank: $(VENV)/.dev
	$(BIN)/python -m raykafka.testing.bank --minutes $(MINUTES) --rounds $(ROUNDS) --seed $(SEED)

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

bench: $(VENV)/.bench
	$(BIN)/python -m bench headline

bench-full: $(VENV)/.bench
	$(BIN)/python -m bench full
	$(BIN)/python -m bench typed

bench-floor: $(VENV)/.bench
	$(BIN)/python -m bench.floor

bench-peers:
	apt-get update
	apt-get install --yes --no-install-recommends default-jre-headless maven redis-server nats-server

format: $(VENV)/.dev
	$(BIN)/ruff check --fix --select I
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
