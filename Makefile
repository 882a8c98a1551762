# `make help` lists what can be made. Everything that needs Python makes .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help env demo up test check lint types bench contracts lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

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

test: env ## Run the tests on real servers
	@$(BIN)/pytest

lint: env ## Style, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: env ## Strict types, tests too
	@$(BIN)/mypy

check: lint types test ## All that CI runs

bench: env ## Measure throughput on this machine
	@$(BIN)/python -m tests.bench.throughput

contracts: env ## Write deploy/contracts from the code
	@$(BIN)/python -m tests.contracts

lock: env ## Pin the requirements anew from pyproject.toml
	@$(BIN)/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-options --no-header --extra local -o requirements.txt pyproject.toml
	@$(BIN)/pip-compile -q --strip-extras --generate-hashes --no-emit-index-url --no-emit-options --no-header --allow-unsafe --extra local --extra dev -c requirements.txt -o requirements-dev.txt pyproject.toml

clean: ## Remove the environment and caches (the data in .crm stays)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
