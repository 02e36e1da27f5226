# Everything that one types. `make help` is made from the comments behind the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup setup-demo demo test test-fast lint format bench bench-backtest bench-decisions lock clean

# the first Python that is new enough
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# two at once on the smallest machine; tests that measure time are marked `alone` and get the machine for themselves
WORKERS ?= 2
BAD ?=
TESTS ?=

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | awk -F'#' '{ printf "%-18s %s\n", $$1, $$2 }'

.venv/.made: pyproject.toml requirements-dev.lock
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer is on the PATH; install one (on Debian or Ubuntu: sudo apt-get install python3 python3-venv)." >&2; exit 1; }
	@$(PYTHON) -m tests.realparts.environment
	@touch $@

setup: .venv/.made ## .venv and the servers that the tests need; the others call it
	@$(BIN)/python -m tests.realparts.obtain test

setup-demo: .venv/.made
	@$(BIN)/python -m tests.realparts.obtain demo

demo: setup-demo ## watch a canary go to 100 %, on this machine; BAD=1 makes it fail at 30 %
	@BAD=$(BAD) $(BIN)/python -m demo

test: setup ## all tests, on real servers; TESTS=path takes a part
	@$(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadgroup $(TESTS)

test-fast: .venv/.made ## the tests that need no server, in seconds
	@$(BIN)/pytest -m "not real and not lint" $(TESTS)

lint: .venv/.made ## ruff, mypy and the layers of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/.made ## let ruff put the code in order
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

bench-decisions: .venv/.made ## how often verdicts are wrong and how soon they come, beside what others do; minutes
	@$(BIN)/python -m tests.bench.decisions

bench-backtest: setup ## how long a backtest of a month takes, and that it says what the counts say; minutes
	@$(BIN)/python -m tests.bench.backtest

bench: setup ## the figures: one table, and JSON under build/
	@$(BIN)/python -m tests.bench

lock: .venv/.made ## renew the locks to the newest versions that pyproject.toml allows
	@$(BIN)/python -m tests.realparts.lock

clean: ## remove .venv and what was made here; the user's cache of built servers stays
	@rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
