# Handrail. `make` tells what there is.
SHELL := /bin/bash
UV := $(shell command -v uv 2>/dev/null || echo .venv/bin/uv)
RUN := $(UV) run --frozen
PATHS := contracts/src libs/graph/src libs/runtime/src libs/client/src services/gateway/src services/scheduler/src \
	services/agent-runner/src services/approvals/src services/projector/src cli/src

.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

.venv/.synced: pyproject.toml uv.lock
	@command -v uv >/dev/null 2>&1 || test -x .venv/bin/uv || (python3 -m venv .venv && .venv/bin/pip install --quiet uv)
	@if command -v uv >/dev/null 2>&1; then uv sync --frozen --quiet; else .venv/bin/uv sync --frozen --quiet --inexact; fi
	@touch $@

setup: .venv/.synced ## install everything into .venv

up: setup ## start the whole platform here, until Ctrl-C
	$(RUN) handrail up

bench: setup ## measure this machine and the platform on it
	$(RUN) handrail bench

demo: setup ## set everything up, run two workflows, show what happened
	$(RUN) handrail demo

check: setup ## style, types, layers
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy $(PATHS)
	$(RUN) mypy tests
	$(RUN) lint-imports
	$(RUN) python -m handrail_contracts.generate --check

test: setup ## all tests: unit, contracts, simulation, then those on the real broker and database
	$(RUN) pytest tests/unit tests/contracts tests/simulation -n 2 -q
	$(RUN) pytest tests/integration tests/patterns tests/product tests/chaos -q

clean: ## remove what tools left behind (not the data folder)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

replay: setup ## rebuild the read models of the platform that runs here
	$(RUN) handrail replay

chaos: setup ## the fault tests at full size
	HANDRAIL_CHAOS_EXECUTIONS=500 $(RUN) pytest tests/chaos -q -s

generate-check: setup ## thirty descriptions for a model: make generate-check MODEL=openai:gpt-5-mini
	HANDRAIL_GENERATOR_MODEL=$(or $(MODEL),offline) $(RUN) pytest tests/product/test_generate.py -q

fuzz: setup ## ten minutes of requests that the API document allows, or nearly: make fuzz SEED=7
	HANDRAIL_FUZZ_SECONDS=600 HANDRAIL_FUZZ_SEED=$(or $(SEED),1) $(RUN) pytest tests/product/test_openapi_fuzz.py -q -s

scale: setup ## 20,000 schedules, a fan-out of 100,000, a shadow of 1,000, at full size
	HANDRAIL_SCALE=1 $(RUN) pytest tests/product/test_scale.py -q -s

.PHONY: help bench fuzz generate-check scale demo replay chaos setup up check test clean
