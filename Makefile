# make search: the quick start.  make test: the suite.  make coverage: the same, measured.  Everything runs in .venv, installed from constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
# Else the many processes that tests begin would each compile the package anew.
export PYTHONDONTWRITEBYTECODE =

# Python 3.12 and later count lines almost for free, and `make test` does; on 3.11 it costs a quarter of the time.
SYSMON := $(shell $(PYTHON) -c 'import sys; print("--cov" if sys.version_info >= (3, 12) else "")')
COVERAGE ?= $(SYSMON)
export COVERAGE_CORE = $(if $(SYSMON),sysmon,ctrace)

.PHONY: search test quick coverage test-slow lint lint-scripts docs

search: .venv/installed
	$(BIN)/nasseg search quickstart

test: .venv/installed
	$(MAKE) --no-print-directory -j 2 lint quick

quick: .venv/installed
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal $(COVERAGE)

coverage:
	$(MAKE) test COVERAGE=--cov

# Much of their time is waiting, for clusters and clocks: three at a time keep two cores busy. A file's tests share a process and
# what is made once for them; files begin in their own order, not those with few tests, which are the longest, last.
test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow -n 3 --dist loadfile --no-loadscope-reorder --durations 40

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-scripts; \
	else echo "no npm here: the report's scripts are not checked; install Node.js to check them"; fi

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint-scripts: node_modules/installed
	node_modules/.bin/eslint --max-warnings 0 nasseg/report/web

node_modules/installed: package.json package-lock.json
	npm ci --no-fund --no-audit --silent
	touch $@

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
