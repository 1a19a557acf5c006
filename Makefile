# `make demo` shows the whole loop, `make test` checks it. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TASK ?= classification
# The packages as type checkers see them: they cannot follow the import hook of an editable install.
TYPES := $(VENV)/types
ROOMS := $(filter-out api,$(patsubst %/__init__.py,%,$(wildcard */__init__.py)))

.PHONY: demo test test-slow lint types install clean

demo: install
	$(BIN)/python scripts/demo.py --task $(TASK)

test: install lint types
	$(BIN)/pytest -q -n auto --maxprocesses 4 --dist worksteal -m "not slow and not gpu"

test-slow: install
	$(BIN)/pytest -q -m "slow or gpu"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	rm -rf $(TYPES) && mkdir -p $(TYPES)/regrow
	ln -s $(CURDIR)/api/* $(TYPES)/regrow
	for room in $(ROOMS); do ln -s $(CURDIR)/$$room $(TYPES)/regrow; done
	MYPYPATH=$(TYPES) $(BIN)/mypy

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf build dist *.egg-info runs .mypy_cache .pytest_cache .ruff_cache
