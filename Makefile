# `make demo` and `make test` need only make and Python 3.11 or newer: each builds its own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
WORKERS ?= 2
CORE := veritydb/kernel/*,veritydb/vsr/*
CORE_TESTS := $(wildcard tests/test_kernel*.py tests/test_vsr_*.py) tests/test_transcripts.py
LOG := veritydb/log/*
LOG_TESTS := $(wildcard tests/test_log_*.py) tests/test_adopt.py
HOOKS := hooks/*,veritydb/hooks/*
HOOKS_TESTS := $(addprefix tests/test_,$(addsuffix .py,buffer capture capture_schema capture_virtual late interruptions sequences outcomes attack))

.PHONY: bench-failover bench-cluster suites-cluster chaos bench-rolling vopr coverage mutation explore help venv demo test check bench bench-subscriptions conformance conformance-sqlalchemy campaign lock clean conformance-django

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## */\1\t/p' $(MAKEFILE_LIST) | expand -t 20

venv: $(VENV)/.installed  ## the virtual environment that all the others use

$(VENV)/.installed: pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet -r requirements-dev.lock
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@# As pip does for what it installs otherwise: Python may be told not to write bytecode, and importing takes twice as long.
	$(BIN)/python -m compileall -q veritydb hooks replay schemas
	touch $@

demo: venv  ## load real data, crash, recover, rebuild, verify
	$(BIN)/python examples/demo.py

test: venv  ## the tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q

check: venv  ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# pyright fetches its engine from npm at its first run; a machine without that still checks all the rest.
	@if $(BIN)/pyright --version >/dev/null 2>&1; then set -x; $(BIN)/pyright --pythonpath $(BIN)/python; \
	else echo "pyright: its engine cannot be fetched here; not run"; fi

coverage: venv  ## kernel, replica, log and hooks: their branches are tested, or this fails
	$(BIN)/coverage run --data-file=.coverage.core -m pytest -q -p no:cacheprovider $(CORE_TESTS)
	$(BIN)/coverage report --data-file=.coverage.core --include='$(CORE)' --skip-covered --show-missing --fail-under=100
	$(BIN)/coverage run --data-file=.coverage.log -m pytest -q -p no:cacheprovider $(LOG_TESTS)
	$(BIN)/coverage report --data-file=.coverage.log --include='$(LOG)' --skip-covered --show-missing --fail-under=100
	$(BIN)/coverage run --data-file=.coverage.hooks -m pytest -q -p no:cacheprovider $(HOOKS_TESTS)
	$(BIN)/coverage report --data-file=.coverage.hooks --include='$(HOOKS)' --skip-covered --show-missing --fail-under=100

# mutmut changes functions; a test of its own changes the table of quorums, which is none (tests/test_vsr_quorums.py).
mutation: venv  ## the kernel, the quorums and the choice of a log, each broken in a thousand ways
	$(BIN)/mutmut run --max-children $(WORKERS)
	$(BIN)/mutmut results

STATES ?= 5000000
explore: venv  ## every order of events in a small scope, up to STATES states (SEED=n: drawn by lot)
	$(BIN)/python -m veritydb.simulation.exploring --states $(STATES) $(if $(SEED),--seed $(SEED))

bench: venv  ## the measured floors, interleaved, medians
	$(BIN)/python -m benchmarks

bench-rolling: venv  ## restart all nodes of a cluster, one after the other, while programs commit
	$(BIN)/python -m benchmarks.rolling_restart

KILLS ?= 50
bench-failover: venv  ## kill the primary while programs commit (KILLS times), and see how soon they go on
	$(BIN)/python -m benchmarks.failover --kills $(KILLS)

bench-cluster: venv  ## commits through three nodes, against rqlite and PostgreSQL, where they are installed
	$(BIN)/python -m benchmarks cluster

bench-subscriptions: venv  ## how soon a commit is told, and what telling costs those who commit
	$(BIN)/python -m benchmarks subscriptions subscriptions_http

conformance: venv  ## CPython's own tests of sqlite3, and the classic suite of PEP 249, on VerityDB
	$(BIN)/python -m tests.conformance.cpython
	$(BIN)/python -m tests.conformance.pep249

conformance-django: venv  ## Django's own test suite, on VerityDB and on its SQLite backend (SLICE=1: a minute of it)
	$(BIN)/python -m tests.django.conformance --jobs $(WORKERS) $(if $(SLICE),--slice)

conformance-sqlalchemy: venv  ## SQLAlchemy's own tests, on VerityDB and on its pysqlite
	$(BIN)/python -m tests.sqlalchemy.suites

suites-cluster: venv  ## SQLAlchemy's and Django's own tests over three nodes (SLICE=1: of Django's a minute)
	$(BIN)/python -m tests.cluster.suites $(if $(SLICE),--slice)

campaign: venv  ## the long runs: kills, signals, faults, fuzzing, the random machine
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q --campaign

RUNS ?= 1000
vopr: venv  ## the simulation, RUNS seeds from SEED (default: drawn by chance)
	$(BIN)/veritydb simulate --runs $(RUNS) --jobs $(WORKERS) $(if $(SEED),--seed $(SEED))

CHAOS_RUNS ?= 100
CHAOS_SECONDS ?= 60
chaos: venv  ## real nodes and clients while processes are killed and stopped and cables cut (CHAOS_RUNS, CHAOS_SECONDS)
	$(BIN)/python -m tests.chaos.run --runs $(CHAOS_RUNS) --seconds $(CHAOS_SECONDS) $(if $(SEED),--seed $(SEED))

lock:  ## pin anew what pyproject asks for
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip --disable-pip-version-check install --quiet '.[dev]'
	sed '/^[^#]/d' requirements-dev.lock > build/lock/head
	build/lock/bin/python -m pip --disable-pip-version-check list --format=freeze | grep -viE '^(pip|veritydb)=' > build/lock/pins
	cat build/lock/head build/lock/pins > requirements-dev.lock

clean:  ## everything that can be made again
	rm -rf $(VENV) mutants build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
