# What a newcomer needs: `make demo` and `make test`. Both set everything up first.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
# Interpreters are never downloaded; compiled bytecode makes every start 2 to 3 times faster.
export UV_PYTHON_DOWNLOADS := never
# Companies put their own certificates into the system's store, where pip finds them as well.
export UV_SYSTEM_CERTS := 1
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test kills backfills years lint types check bench lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: $(VENV)/.installed ## Create .venv from the locked pins, with the command revrec

# pip alone takes four times as long as uv, and checks the same hashes: it is the fall-back.
$(VENV)/.installed: requirements/dev.lock requirements/bootstrap.lock pyproject.toml
	@echo "Setting up $(VENV) (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.lock \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

demo: setup ## Run the main job from nothing: sandbox, sync, conversion file, live load
	@$(BIN)/revrec demo

test: setup ## Pass the tests
	@$(BIN)/python -m pytest

kills: setup ## Kill syncs of all sources a hundred times; compare with an undisturbed home
	@$(BIN)/python -m pytest -n 0 tests/sync_kills.py

backfills: setup ## Cancel, re-execute and kill a backfill in a real Dagster, by the UI's own requests
	@$(BIN)/python -m pytest -n 0 tests/e2e/backfills.py

years: setup ## Live 40 random histories of each source, or as many as YEARS says (an hour)
	@YEARS=$(or $(YEARS),40) $(BIN)/python -m pytest -n 2 tests/test_year_of_life.py

lint: setup ## Check style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## Check types
	@$(BIN)/mypy

check: lint types test ## All of the above

# dlt and its dependencies live apart, for users do not need them.
.venv-bench/.installed: requirements/bench.lock
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --require-hashes -r requirements/bench.lock
	@touch $@

bench: setup .venv-bench/.installed ## Measure against dlt, the official client and the floor (15 minutes)
	@$(BIN)/python -m bench $(BENCH)

lock: setup ## Resolve the pins anew from requirements/*.in
	@for name in bootstrap runtime dev bench; do \
		$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-strip-extras \
			--no-header --quiet requirements/$$name.in -o requirements/$$name.lock || exit 1; done

clean: ## Remove the virtual environment and caches; the home .revrec stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
