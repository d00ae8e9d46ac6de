# Every target works alone on a fresh clone: it makes .venv and installs what it needs, once.
# PYTHON=python3.12 picks an interpreter; PIP_ARGS="--index-url ..." is handed to pip.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: help demo test test-slow lint types imports docs fmt clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(INSTALLED) ## distil the embedded digits and judge the result: about two minutes
	$(BIN)/python -m raydd.run

test: $(INSTALLED_DEV) ## everything but the slow tests: six to twelve minutes on two cores
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(INSTALLED_DEV) ## drivers end to end, kills, node losses
	$(BIN)/python -m pytest -m slow --timeout 1800

lint: $(INSTALLED_DEV) ## ruff, changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED_DEV) ## mypy over the package
	$(BIN)/mypy

imports: $(INSTALLED_DEV) ## the floors of the house
	$(BIN)/lint-imports

docs: $(INSTALLED_DEV) ## the guides, every key and the reference as a site in build/docs
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . build/docs

fmt: $(INSTALLED_DEV) ## sort imports, mend what ruff can mend, format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean: ## remove .venv and caches; runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("raydd needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# The stamps live in the environment, so that removing it forgets them.
$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -e .
	@touch $@

$(INSTALLED_DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -e ".[dev]"
	@touch $(INSTALLED) $@
