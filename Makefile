# Two commands a newcomer needs: `make demo` and `make test`. Both do all set-up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

.PHONY: setup demo lint test test-cluster campaign
setup: $(BIN)/.installed

demo: setup
	$(BIN)/podctl demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

# All that is tested on a cluster: make test-cluster KUBECONFIG=FILE PODCTL_IMAGE=IMAGE
test-cluster: setup
	$(BIN)/pytest -m cluster

campaign: setup
	$(BIN)/pytest -m "campaign and not cluster"
