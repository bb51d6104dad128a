# Two commands a newcomer needs: `make demo` and `make test`. Both do all set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PURE := tests/unit tests/docs tests/browser
MACHINE := tests/failure tests/contract
HERE := "not campaign and not cluster and not docker"

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

.PHONY: setup demo lint test test-machine test-projects test-pure test-docker test-small-cluster test-cluster campaign
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
	$(MAKE) --no-print-directory --jobs=3 --output-sync=target test-pure test-small-cluster test-docker

test-machine: setup
	$(BIN)/pytest -m $(HERE) $(MACHINE)

test-projects: setup
	$(BIN)/pytest -n 2 --dist loadfile -m $(HERE) $(PURE:%=--ignore=%) $(MACHINE:%=--ignore=%)

test-pure: setup
	$(BIN)/pytest -n 2 --dist loadfile -m $(HERE) $(PURE)

test-docker: setup
	$(BIN)/pytest -m "docker and not campaign"

test-small-cluster: setup
	$(BIN)/pytest -m "cluster and not campaign"

# All that is tested on a cluster: make test-cluster KUBECONFIG=FILE PODCTL_IMAGE=IMAGE
test-cluster: setup
	$(BIN)/pytest -m cluster

campaign: setup
	$(BIN)/pytest -m "campaign and not cluster"
