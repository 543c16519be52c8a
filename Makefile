# make search: the quick start.  make test: the suite.  Everything runs in .venv, installed from constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
# Else the many processes that tests begin would each compile the package anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: search test test-slow lint

search: .venv/installed
	$(BIN)/nasseg search quickstart

test: .venv/installed lint
	$(BIN)/python -m pytest -m "not slow" -n 2

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow -n 2 --dist loadgroup

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
