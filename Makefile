# `make demo` shows the whole loop, `make test` checks it, `make docs` builds the pages of docs/.
# Each installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TASK ?= classification
# The packages as they are installed, for tools that cannot follow an editable install's import hook.
TYPES := $(VENV)/types
ROOMS := $(filter-out api,$(patsubst %/__init__.py,%,$(wildcard */__init__.py)))

.PHONY: demo test test-slow lint types docs links install clean

demo: install
	$(BIN)/python scripts/demo.py --task $(TASK)

test: install lint types
	$(BIN)/pytest -q -n auto --maxprocesses 4 --dist worksteal -m "not slow and not gpu"

test-slow: install
	$(BIN)/pytest -q -m "slow or gpu"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install links
	MYPYPATH=$(TYPES) $(BIN)/mypy

docs: install links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/docs/index.html"

links:
	rm -rf $(TYPES) && mkdir -p $(TYPES)/regrow
	ln -s $(CURDIR)/api/* $(TYPES)/regrow
	for room in $(ROOMS); do ln -s $(CURDIR)/$$room $(TYPES)/regrow; done

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf build dist *.egg-info runs .mypy_cache .pytest_cache .ruff_cache
