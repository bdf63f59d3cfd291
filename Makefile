# The commands a user types. Everything runs inside .venv, which `make venv` builds from the pinned files.
SHELL := /bin/bash
PYTHON ?= python3.11
TRACK ?= demo
CORES ?= all
VENV := .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

.PHONY: help venv reproduce restore test lint benchmark lock clean-venv

help: ## show these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: $(VENV)/.installed ## build .venv from requirements.lock

$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11 or pass PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

reproduce: venv ## run the whole experiment of TRACK (demo, open, paper, smoke) and build its report
	@$(RUN) python -m isopose.bridge run --track "$(TRACK)" --cores $(CORES)

restore: venv ## bring back what was published of TRACK instead of running it
	@$(RUN) python -m isopose.bridge restore --track "$(TRACK)"

test: venv ## unit tests, the smoke track through snakemake, lint and format checks
	@$(RUN) workflow/check

lint: venv ## lint and format checks alone
	@$(RUN) workflow/check lint

benchmark: venv ## speed and size, each figure a ratio to a plain reference
	@$(RUN) OMP_NUM_THREADS=1 pytest benchmarks --benchmark-only --benchmark-columns=median,iqr,rounds

lock: ## renew requirements.lock and environment.yml from pyproject.toml
	$(PYTHON) workflow/lock.py
