# Everything that one types. `make help` is made from the comments behind the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup setup-demo demo test test-fast lint format bench bench-backtest bench-decisions lock clean \
	image image-push sbom chart chart-push

# the first Python that is new enough
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# two at once on the smallest machine, and no more than cores; tests that measure time are marked `alone` and get the
# machine for themselves
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(max(2, min(4, os.cpu_count() or 2)))')
BAD ?=
TESTS ?=

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | awk -F'#' '{ printf "%-22s %s\n", $$1, $$2 }'

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

# what the image is made of, and where it goes; docs/image.md
BUILDER ?= $(firstword $(shell command -v buildah) $(shell command -v podman))
BASE ?= python:3.13-slim-bookworm
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
IMAGE_NAME ?= auto-advance
IMAGE ?= $(IMAGE_NAME):$(VERSION)
OUT ?= build/image
SOURCE ?=
PIP_CONF ?=
AUTHORITIES ?=
# the same commit gives the same image
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
export SOURCE_DATE_EPOCH

image: ## the container image, its SBOM and its digest under build/image; BASE=, IMAGE=
	@test -n "$(BUILDER)" || { echo "make image: neither buildah nor podman is on the PATH; install one (on Debian or Ubuntu: sudo apt-get install buildah)." >&2; exit 1; }
	@mkdir -p $(OUT) && rm -f $(OUT)/image.tar $(OUT)/digest $(OUT)/sbom.cdx.json
	@$(BUILDER) build --format=oci --timestamp=$(SOURCE_DATE_EPOCH) \
		--build-arg=BASE=$(BASE) --build-arg=SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) \
		--build-arg=VERSION=$(VERSION) --build-arg=REVISION=$(REVISION) --build-arg=SOURCE=$(SOURCE) \
		$(if $(PIP_CONF),--secret=id=pip$(comma)src=$(PIP_CONF)) \
		$(if $(AUTHORITIES),--secret=id=authorities$(comma)src=$(AUTHORITIES)) \
		--tag=$(IMAGE) .
	@$(BUILDER) push --quiet $(IMAGE) oci-archive:$(OUT)/image.tar
	@$(PYTHON) -m deploy.image.contents $(OUT)/image.tar
comma := ,

# a tag that says another version than the files would be believed
TAG_IS_VERSION = @test "$(GITHUB_REF_TYPE)" != tag || test "$(GITHUB_REF_NAME)" = "v$(VERSION)" || \
	{ echo "make $@: the tag is $(GITHUB_REF_NAME) and pyproject.toml says $(VERSION); tag v$(VERSION), or change pyproject.toml and deploy/chart." >&2; exit 1; }

image-push: ## send the image that `make image` made to the registry that IMAGE= names
	$(TAG_IS_VERSION)
	@$(BUILDER) push --digestfile=$(OUT)/digest $(IMAGE) docker://$(IMAGE)
	@echo "$(IMAGE)@$$(cat $(OUT)/digest)"
	@test -z "$$GITHUB_OUTPUT" || echo "digest=$$(cat $(OUT)/digest)" >> "$$GITHUB_OUTPUT"

sbom: .venv/.made ## the bill of the locked packages as build/sbom.cdx.json; the image holds its own
	@mkdir -p build && $(BIN)/python -m deploy.image.sbom --lock requirements.lock > build/sbom.cdx.json
	@echo build/sbom.cdx.json

HELM = $$($(BIN)/python -c 'from tests.realparts.parts import find; print(find("helm"))')
CHARTS ?=

chart: .venv/.made ## check the chart and pack it under build/chart
	@$(BIN)/python -m tests.realparts.obtain chart
	@mkdir -p build/chart && rm -f build/chart/*.tgz
	@$(HELM) lint deploy/chart
	@$(HELM) package deploy/chart --destination build/chart

chart-push: ## send the chart that `make chart` packed to the registry that CHARTS= names (oci://...)
	$(TAG_IS_VERSION)
	@$(HELM) push build/chart/*.tgz $(CHARTS)

clean: ## remove .venv and what was made here; the user's cache of built servers stays
	@rm -rf .venv build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
