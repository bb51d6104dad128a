# Two commands a newcomer needs: `make demo` and `make test`. Both do all set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PURE := tests/unit tests/docs tests/browser

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

.PHONY: setup demo lint test test-pure test-elsewhere test-cluster campaign
setup: $(BIN)/.installed

demo: setup
	$(BIN)/podctl demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What needs a cluster or an engine mostly waits for it: beside it goes what looks at nothing but itself. The rest looks at the machine,
# and at what is left on it, and has it alone.
test: lint
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-pure test-elsewhere
	$(BIN)/pytest -m "not campaign and not cluster and not docker" $(PURE:%=--ignore=%)

test-pure: setup
	$(BIN)/pytest -m "not campaign and not cluster and not docker" $(PURE)

test-elsewhere: setup
	$(BIN)/pytest -m "(cluster or docker) and not campaign"

# All that is tested on a cluster: make test-cluster KUBECONFIG=FILE PODCTL_IMAGE=IMAGE
test-cluster: setup
	$(BIN)/pytest -m cluster

campaign: setup
	$(BIN)/pytest -m "campaign and not cluster"
