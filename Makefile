# Two commands: `make lab` opens the notebooks, `make test` proves them. `make help` lists the rest.
# CPU=1 takes PyTorch's small CPU build, for a Linux machine without a GPU.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
LAB_ARGS ?=
TEST_ARGS ?=
FIRST = notebooks/00_start_here.ipynb
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --disable-pip-version-check

# By itself and first, so that PyTorch's index is asked for this one package.
CPU_TORCH := $(if $(CPU),$(PIP) --no-deps $$(grep -E '^(--extra-index-url|torch)' binder/requirements.txt))

# JupyterLab refuses to start as root (in a container, say) unless it is told that root is meant.
ROOT_ARGS := $(if $(filter 0,$(shell id -u)),--allow-root)

# A terminal in JupyterLab knows the command labkit.
lab: export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: lab test lint types train evaluate list strip hooks clean help

lab: $(VENV)/installed  ## install what is needed and open the lab in your browser (LAB_ARGS=... go to JupyterLab)
	$(BIN)/python -m jupyterlab $(ROOT_ARGS) --ServerApp.root_dir="$(CURDIR)" \
	    --LabApp.default_url=/lab/tree/$(FIRST) $(LAB_ARGS)

test: $(VENV)/installed-dev  ## install what the tests need, a browser included, and run them all (TEST_ARGS=... go to pytest)
	@$(BIN)/python tests/chromium.py
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TEST_ARGS)

lint: $(VENV)/installed-dev  ## style of the code
	$(BIN)/ruff check .

# The folder kernels/ becomes labkit.kernels only when the package is built, so types are checked on a built copy.
types: $(VENV)/installed-dev  ## types of the package as it is built
	rm -rf build && $(PIP) -q --no-deps --target build/types .
	MYPYPATH=build/types $(BIN)/mypy -p labkit

train: need-RECIPE $(VENV)/installed  ## train a recipe: make train RECIPE=depo-elastic [SEED=0]
	$(BIN)/labkit train $(RECIPE) $(if $(SEED),--seed $(SEED))

evaluate: need-CHECKPOINT $(VENV)/installed  ## measure a checkpoint: make evaluate CHECKPOINT=depo-elastic [PASSES="0 1 2 4 8 16"] (ARGS=... go to labkit)
	$(BIN)/labkit evaluate $(CHECKPOINT) --passes $(or $(PASSES),0 1 2 4 8 16) $(ARGS)

list: $(VENV)/installed  ## the recipes and the checkpoints there are
	$(BIN)/labkit list

strip: $(VENV)/installed-dev  ## remove the outputs from the notebooks
	$(BIN)/nbstripout notebooks/*.ipynb notebooks/assignments/*/*.ipynb

hooks: $(VENV)/installed-dev  ## let git strip and check what you commit
	$(BIN)/pre-commit install

clean:  ## remove the environment and what was built; data/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

need-%:
	@test -n "$($*)" || { echo "Say which: make $(MAKECMDGOALS) $*=name; make list shows the names"; exit 2; }

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-9s %s\n", $$1, $$2 }'

# An empty file marks a finished installation, so that a second `make lab` starts at once. A change of the
# requirements makes it old.
$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(CPU_TORCH)
	$(PIP) -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(CPU_TORCH)
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "The lab needs Python 3.11 or newer; name one: make lab PYTHON=python3.11"; exit 2; }
	@echo "Installing into $(VENV): 1.5 GB, or some GB more with PyTorch for GPUs. This happens once."
	$(PYTHON) -m venv $(VENV)
