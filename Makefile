# Two commands a newcomer needs: `make demo` and `make test`. Both do all set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# In two halves that take as long as one another: two processes that each read all tests would read them twice.
PURE_1 := $(wildcard tests/unit/[a-f]*) tests/docs tests/browser
PURE_2 := $(wildcard tests/unit/[g-z]*)
MACHINE := tests/failure tests/contract
HERE := "not campaign and not cluster and not docker"

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

.PHONY: setup demo lint test test-machine test-projects test-pure-1 test-pure-2 test-docker test-small-cluster test-cluster campaign
setup: $(BIN)/.installed

demo: setup
	$(BIN)/podctl demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# First runs of whole projects, beside the linters and what looks at the machine and at what is left on it; then what mostly waits for an
# engine or a cluster, beside what looks at nothing but itself: no cluster and no engine is there while others look at the machine.
test: setup
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-projects test-machine lint
	$(MAKE) --no-print-directory --jobs=4 --output-sync=target test-pure-1 test-pure-2 test-small-cluster test-docker

test-machine: setup
	$(BIN)/pytest -m $(HERE) $(MACHINE)

test-projects: setup
	$(BIN)/pytest -n 2 --dist loadfile -m $(HERE) tests/e2e tests/cli

test-pure-1: setup
	$(BIN)/pytest -m $(HERE) $(PURE_1)

test-pure-2: setup
	$(BIN)/pytest -m $(HERE) $(PURE_2)

test-docker: setup
	$(BIN)/pytest -m "docker and not campaign" tests/docker tests/contract

test-small-cluster: setup
	$(BIN)/pytest -m "cluster and not campaign" tests/cluster tests/contract

# All that is tested on a cluster: make test-cluster KUBECONFIG=FILE PODCTL_IMAGE=IMAGE
test-cluster: setup
	$(BIN)/pytest -m cluster

campaign: setup
	$(BIN)/pytest -m "campaign and not cluster"
