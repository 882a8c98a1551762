# `make help` lists the targets. Every target that needs Python creates .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
AUDIT := $(VENV)/audit/bin/pip-audit
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help env demo up test test-fast check lint types matrix bench bench-reads search chaos tools pictures contracts sql licences audit lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

env: $(STAMP) ## Create .venv with everything pinned (leaves .venv/bin/crm)

$(STAMP): requirements-dev.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pinned requirements into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: env ## Start everything on this machine with a real shop's orders, then live ones, until Ctrl-C
	@$(BIN)/crm demo

up: env ## Start everything on this machine, without the demo's orders
	@$(BIN)/crm up

# Three files of tests at a time on two cores, since tests also wait, each process with its own servers. Servers named by a URL are shared by all
# processes, so then tests run one at a time.
PARALLEL = $(if $(CRM_TEST_DATABASE_URL)$(CRM_TEST_REDIS_URL),,--numprocesses=3 --dist=loadfile --no-loadscope-reorder)

test: env ## Run the tests on real servers (a quarter of an hour)
	@$(BIN)/pytest $(PARALLEL)

test-fast: env ## Run the unit tests, which need no server (seconds)
	@$(BIN)/pytest -q tests/unit

lint: env ## Check style and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: env ## Check types strictly, in the tests too
	@$(BIN)/mypy

matrix: env ## Run a part of the tests on Python 3.12 and 3.13, where they are installed
	@$(BIN)/nox --parallel 2

check: lint types test matrix ## Run everything that CI runs

bench: env ## Measure how fast events are applied, and what is kept, beside other designs (half an hour)
	@$(BIN)/python -m tests.bench.writes

bench-reads: env ## Measure how fast a large shop's data is read (a quarter of an hour; CUSTOMERS=20000 ORDERS=100000: one)
	@$(BIN)/python -m tests.bench.reads --customers $(or $(CUSTOMERS),1000000) --orders $(or $(ORDERS),5000000)

search: env ## Try random mixtures of operations against the model (EXAMPLES=1000, five minutes)
	@CRM_TEST_EXAMPLES=$(or $(EXAMPLES),1000) $(BIN)/pytest --hypothesis-profile=default tests/system/state_machine/test_machine.py

chaos: env tools ## Inject faults into real processes, then audit (SECONDS=600 SEED=7 REDIS=valkey|redis)
	@for redis in $(or $(REDIS),valkey redis); do \
	  $(BIN)/python -m tests.system.chaos --redis $$redis --seconds $(or $(SECONDS),120) $(if $(SEED),--seed $(SEED)) $(MORE) || exit 1; \
	done

# Programs that tests drive or compare with. Without them those tests are skipped, and say so.
DEBIAN := chromium-headless-shell fonts-dejavu-core fonts-noto-color-emoji redis-server libfaketime strace prometheus
DEBIAN += $(if $(shell command -v npm),,nodejs npm)
tools: ## Install Chromium, Redis 7, libfaketime, strace, promtool and Node.js from Debian (as root)
	@{ command -v chromium-headless-shell && command -v redis-server && command -v strace && command -v promtool && command -v npm && ls /usr/lib/*/faketime; } >/dev/null 2>&1 \
	  || { test "$$(id -u)" = 0 && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(DEBIAN); } >/dev/null 2>&1 \
	  || echo "Some of $(DEBIAN) are missing and cannot be installed here. Tests that need them are skipped."

pictures: env tools ## Take pictures of the dashboard with the demo's data, for the README too
	@$(BIN)/python -m tests.system.browser.pictures

sql: env ## Write the composed SQL statements beside their modules
	@$(BIN)/python -m tests.sql

contracts: env ## Write OpenAPI and AsyncAPI into deploy/contracts from the code
	@$(BIN)/python -m tests.contracts

licences: env ## List the licence of everything shipped
	@$(BIN)/python -m tests.system.security.licences

audit: env ## Look for known vulnerabilities of the pins (needs the network)
	@test -x $(AUDIT) || { $(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install -q --disable-pip-version-check pip-audit==2.10.1; }
	@$(BIN)/python -m tests.system.security.audit $(AUDIT)

lock: env ## Write the pins in requirements*.txt from pyproject.toml
	@$(BIN)/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-options --no-header --extra insight --extra otel -o requirements.txt pyproject.toml
	@$(BIN)/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-options --no-header --allow-unsafe --only-build-deps --build-deps-for wheel -o deploy/requirements-build.txt pyproject.toml
	@$(BIN)/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-options --no-header --allow-unsafe --extra insight --extra local --extra otel --extra dev --extra bench -c requirements.txt -o requirements-dev.txt pyproject.toml
	@sed -i 's/^bytewax==[^ ]*/& ; python_version < "3.13"/' requirements-dev.txt  # pip-compile drops the markers of extras

clean: ## Remove .venv and caches (the data in .crm stays)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
