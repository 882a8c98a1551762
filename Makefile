# `make help` lists what can be made. Everything that needs Python makes .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AUDIT := $(VENV)/audit/bin/pip-audit
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help env demo up test test-fast check lint types matrix bench bench-reads chaos tools pictures contracts licences audit lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

env: $(STAMP) ## Create .venv with everything pinned (leaves .venv/bin/crm)

$(STAMP): requirements-dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pinned requirements into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: env ## Start everything here, feed it a real shop's orders, keep it running
	@$(BIN)/crm demo

up: env ## Start PostgreSQL, Valkey, the worker and the web process on this machine
	@$(BIN)/crm up

# Each process has servers of its own. Those that are given are one for all: no two tests at a time.
PARALLEL = $(if $(CRM_TEST_DATABASE_URL)$(CRM_TEST_REDIS_URL),,--numprocesses=2 --dist=loadfile --no-loadscope-reorder)

test: env ## Run the tests on real servers (ten minutes)
	@$(BIN)/pytest $(PARALLEL)

test-fast: env ## Run the tests that need no server, in seconds
	@$(BIN)/pytest -q tests/unit

lint: env ## Style, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: env ## Strict types, tests too
	@$(BIN)/mypy

matrix: env ## Install the pins on Python 3.12 and 3.13, where there are any, and run a part of the tests
	@$(BIN)/nox --parallel 2

check: lint types test matrix ## All that CI runs

bench: env ## Measure how fast events are applied, beside other ways (ten minutes)
	@$(BIN)/python -m tests.bench.writes

bench-reads: env ## Measure how long reading takes in a large shop (ten minutes)
	@$(BIN)/python -m tests.bench.reads

chaos: env tools ## Faults on real processes, then an audit: SECONDS=600 SEED=7 REDIS=valkey|redis
	@for redis in $(or $(REDIS),valkey redis); do \
	  $(BIN)/python -m tests.system.chaos --redis $$redis --seconds $(or $(SECONDS),120) $(if $(SEED),--seed $(SEED)) $(MORE) || exit 1; \
	done

# What the tests drive or compare with; without it those tests are skipped, and say so.
DEBIAN := chromium fonts-dejavu-core fonts-noto-color-emoji redis-server libfaketime prometheus
DEBIAN += $(if $(shell command -v npm),,nodejs npm)
tools: ## Install Debian's Chromium, Redis 7, libfaketime, promtool and Node.js, where this is root
	@{ command -v chromium && command -v redis-server && command -v promtool && command -v npm && ls /usr/lib/*/faketime; } >/dev/null 2>&1 \
	  || { test "$$(id -u)" = 0 && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(DEBIAN); } >/dev/null 2>&1 \
	  || echo "some of $(DEBIAN) are missing and cannot be installed here: what needs them is skipped"

pictures: env tools ## Take pictures of the dashboard with the demo's data, the README's too
	@$(BIN)/python -m tests.system.browser.pictures

contracts: env ## Write deploy/contracts from the code
	@$(BIN)/python -m tests.integration.contracts

licences: env ## List the licence of everything that is shipped
	@$(BIN)/python -m tests.system.security.licences

audit: env ## Look the pins up for known vulnerabilities (needs the network)
	@test -x $(AUDIT) || { $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install -q --disable-pip-version-check pip-audit==2.10.1; }
	@$(BIN)/python -m tests.system.security.audit $(AUDIT)

lock: env ## Pin the requirements anew from pyproject.toml
	@$(BIN)/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-options --no-header --extra otel -o requirements.txt pyproject.toml
	@$(BIN)/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-options --no-header --allow-unsafe --only-build-deps --build-deps-for wheel -o deploy/requirements-build.txt pyproject.toml
	@$(BIN)/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-options --no-header --allow-unsafe --extra local --extra otel --extra dev --extra bench -c requirements.txt -o requirements-dev.txt pyproject.toml
	@sed -i 's/^bytewax==[^ ]*/& ; python_version < "3.13"/' requirements-dev.txt  # pip-compile drops the markers of extras

clean: ## Remove the environment and caches (the data in .crm stays)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
