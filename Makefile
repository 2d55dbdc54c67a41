# Every target does its own set-up: a fresh machine needs Python 3.11 or later, make and git.
# The Python that makes the environment can be chosen: make test PYTHON=python3.13

PYTHON ?= python3
BIN := .venv/bin
# A file's tests stay together: they share servers and workers. A test process that dies ends the run; started anew it
# would wait for ever (pytest-xdist 3.8).
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo quick test test-all check chaos bench docs setup

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

demo: .venv/.product ## install millstream into .venv and run a first flow
	@$(BIN)/millstream run examples/stdlib_report.py

quick: .venv/.dev ## run unit tests and contracts (under a minute): backends in memory, ledgers in memory and on SQLite
	@$(PYTEST) -q -m 'not postgresql and not long' $(wildcard tests/unit tests/contract)

test: .venv/.dev ## run all tests but the rest of the matrix (a quarter of an hour)
	@$(PYTEST) -m 'not matrix' tests

test-all: .venv/.dev ## run all tests and the whole matrix, and compare canvases with real Celery (CASES=300 SEED=1)
	@$(PYTEST) tests
	@$(BIN)/python -m tests.differential --cases $(or $(CASES),300) --seed $(or $(SEED),1)

check: .venv/.dev ## check style, types, direction of imports, sizes and the lock file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_sizes.py
	$(BIN)/python scripts/check_lock.py

chaos: .venv/.dev ## kill processes under load and judge what they did (ROUNDS=4 SEED=1 BROKERS="none redis rabbitmq" SERVERS=0)
	@$(BIN)/python -m tests.chaos --rounds $(or $(ROUNDS),4) --seed $(or $(SEED),1) --brokers $(or $(BROKERS),none) \
		--servers $(or $(SERVERS),0)

bench: .venv/.dev ## measure speed on this machine
	@$(BIN)/python -m benchmarks

docs: .venv/.dev ## run every example of README.md and docs/
	@$(BIN)/python scripts/check_docs.py

setup: .venv/.dev

# The stamps lie in the environment itself, so that removing .venv starts afresh.
.venv/.product .venv/.dev: pyproject.toml scripts/setup_venv.sh
	@PYTHON='$(PYTHON)' sh scripts/setup_venv.sh $(subst .,,$(@F))
