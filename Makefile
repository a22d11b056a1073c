SHELL := /bin/bash
BIN := .venv/bin

# pytest takes extra arguments: make test ARGS='tests/store -k journal'
ARGS ?=

.PHONY: help setup installed demo test check lint coverage build docs lock fmt clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 12

setup: ## make .venv ready, with the system packages that it needs
	@packaging/setup.sh

# The package in .venv is the built wheel, renewed when the sources have changed.
installed: setup
	@packaging/install.sh

demo: installed ## show an update and a rollback on this machine
	@$(BIN)/ota-agent demo

test: installed ## run the tests against the built wheel; ARGS goes to pytest
	@$(BIN)/pytest $(ARGS)

check: lint coverage ## what CI runs: format, lint, types, layers, tests, coverage

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What decides, and what an update rests on, is covered line by line and branch by branch.
FULLY_COVERED := model store update detect

coverage: installed
	@$(BIN)/coverage erase
	$(BIN)/pytest --cov --cov-report= $(ARGS)
	@$(BIN)/coverage report --fail-under=95
	@for part in $(FULLY_COVERED); do \
	    echo "ota_agent/$$part has to be covered in full"; \
	    $(BIN)/coverage report --include="ota_agent/$$part/*" --fail-under=100 || exit 1; \
	done

build: setup ## build the wheel and the source archive into dist/
	@rm -rf dist
	$(BIN)/pyproject-build --no-isolation --outdir dist .

docs: installed ## make the diagram of the flow in docs/design.md anew
	@$(BIN)/python tests/flow_diagram.py

lock: setup ## lock the dependencies anew; UPGRADE=--upgrade takes the newest
	packaging/lock.sh

fmt: setup ## format the code, and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what was built, .venv too
	rm -rf .venv dist build .coverage .coverage.* .hypothesis .import_linter_cache
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
