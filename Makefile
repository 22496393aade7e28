# nasopt: `make search` and `make test` are the whole set-up. `make help` lists all targets.

PYTHON ?= python3
STUDY ?= studies/fashion-mnist.toml
BUDGET ?=
WORKERS ?=
PORT ?= 8080

BIN := .venv/bin
CHROMIUM = $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
CORTEX = $(shell command -v arm-none-eabi-gcc >/dev/null && command -v qemu-system-arm)
OPTIONS := $(if $(WORKERS),--workers $(WORKERS))

.DEFAULT_GOAL := help
.PHONY: help setup search dashboard report test test-slow coverage check docs format lint types imports browser bench bench-search bench-driver bench-real bench-cortex clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: .venv/.ready ## Create .venv and install everything (search and test do this by themselves)

.venv/.ready: pyproject.toml CMakeLists.txt $(wildcard nasopt/training/native/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: nasopt needs Python 3.11 or newer, and $(PYTHON) is not there or older; install it (on Debian or Ubuntu: apt-get install python3-dev python3-venv), or name one: make setup PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv \
	  || { rm -rf .venv; echo "error: Python's venv module does not work here; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@echo "installing into .venv (with PyTorch; this takes some minutes and up to 7 GB)"
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

search: setup ## Search, verify and report (STUDY=file BUDGET=2h WORKERS=n); run again to resume
	@$(BIN)/nasopt search $(STUDY) $(OPTIONS) $(if $(BUDGET),--budget $(BUDGET))
	@$(BIN)/nasopt verify $(STUDY) $(OPTIONS)

dashboard: setup ## Open optuna-dashboard on the study (STUDY=file PORT=8080)
	@$(BIN)/nasopt dashboard $(STUDY) --port $(PORT)

report: setup ## Write the study's report again (STUDY=file)
	@$(BIN)/nasopt report $(STUDY)

test: setup browser ## Run the tests, but for the slow ones
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not slow$(if $(CHROMIUM),, and not browser)"
	@$(if $(CHROMIUM),,echo "NOT RUN: the browser tests, for want of Chromium")

test-slow: setup browser ## Run the slow tests
	@$(BIN)/python -m pytest -m "slow$(if $(CORTEX),, and not cortex)"
	@$(if $(CORTEX),,echo "NOT RUN: the Cortex-M tests; to run them (0.9 GB): apt-get install --no-install-recommends gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm")

coverage: setup browser ## Run the tests and measure what they cover
	@$(BIN)/python -m pytest -m "not slow" --cov --cov-report=term-missing

check: setup ## Format, lint, types, import rules, tests: all that must be green
	@$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory lint types imports test

docs: setup ## Build the documentation into site/
	@$(BIN)/mkdocs build

format: setup ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: setup ## Lint
	@$(BIN)/ruff check .

types: setup ## Check the types
	@$(BIN)/mypy

imports: setup ## Check the import rules
	@$(BIN)/lint-imports

# The browser tests need Chromium; it is installed where that takes no password.
browser:
	@if [ -z "$(CHROMIUM)" ] && command -v apt-get >/dev/null; then \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo "sudo -n"); \
	  $$SUDO true 2>/dev/null && $$SUDO apt-get -qq update && $$SUDO apt-get -qq install -y chromium >/dev/null \
	    || echo "Chromium could not be installed; to run the browser tests: sudo apt-get install chromium"; \
	fi

include native.mk

bench-search: setup ## Compare samplers on NAS-Bench-201 and on our own space
	@$(BIN)/python -m pip install --quiet --group bench
	@$(BIN)/python studies/bench_search.py
	@$(BIN)/python studies/bench_table.py

bench-driver: setup ## Time a trial and the opening of a study of 10,000 trials, against stock Optuna
	@$(BIN)/python studies/bench_driver.py

bench-real: setup ## Compare whole searches on real trainings at equal time; hours (BUDGET=12m)
	@$(BIN)/python studies/bench_real.py $(if $(BUDGET),--budget $(BUDGET))

bench-cortex: setup ## Measure networks in C on an emulated Cortex-M (needs gcc-arm-none-eabi and qemu-system-arm)
	@$(BIN)/python studies/bench_cortex.py

bench: bench-engine bench-search bench-driver ## Run the benchmarks that need neither hours nor a cross-compiler

clean: ## Remove .venv and what tools wrote; studies are kept
	rm -rf .venv build dist site .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
