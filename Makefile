# packetwalk: `make help` lists what there is. Everything is installed into .venv and nowhere else.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3.11
# Tried in this order; the first that is 3.11 or newer and can make an environment with pip in it wins.
PYTHONS := $(PYTHON) python3.11 /usr/bin/python3.11 python3 /usr/bin/python3 python3.12 python3.13 python3.14
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: walk test test-all lint notebook docs fuzz-kernel bench clean help

walk: $(VENV)/.run  ## show one packet's whole path, then one line per CNI (installs into .venv the first time)
	@$(BIN)/packetwalk walk a b --cni calico-ipip --full
	@$(BIN)/python scenarios/same_flow_all_modes.py

test: lint  ## ruff, mypy, then every test but the long ones
	@$(BIN)/python -m pytest -q

test-all: lint $(VENV)/.all  ## the same with the long ones: notebooks, docs, a browser, more of the kernel
	@$(BIN)/python -m pytest -q -m ''

lint: $(VENV)/.dev  ## ruff and mypy only
	@$(BIN)/ruff check .
	@$(BIN)/mypy

notebook: $(VENV)/.notebook  ## the first teaching notebook, in JupyterLab
	@$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/1-one-packet.ipynb

docs: $(VENV)/.all  ## all pages, into build/docs/index.html
	@$(BIN)/python -m sphinx -q -W --keep-going docs build/docs

fuzz-kernel: $(VENV)/.dev  ## SEEDS random networks against this kernel (200), as root
	@$(BIN)/python -m tests.kernel.fuzz --seeds $(or $(SEEDS),200) --first $(or $(FIRST),1)

bench: $(VENV)/.run  ## how long things take
	@$(BIN)/python tests/bench/bench.py
	@$(BIN)/python tests/bench/rules.py
	@$(BIN)/python tests/bench/modes.py
	@$(BIN)/python tests/bench/services.py
	@$(BIN)/python tests/bench/traffic.py

clean:  ## remove .venv, caches and built files
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Stamps. .made: the environment exists, and holds the path it was made for; .run: packetwalk is installed in it;
# .dev: so are the tools; .notebook: so is JupyterLab; .all: so is what notebooks, docs and the browser need. A newer
# pyproject.toml installs again; a lost interpreter or a moved checkout starts afresh.
ifneq ($(CURDIR),$(shell test -x $(BIN)/python && cat $(VENV)/.made 2>/dev/null))
.PHONY: $(VENV)/.made
endif

$(VENV)/.made:
	@for python in $(PYTHONS); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    rm -rf $(VENV); \
	    "$$python" -m venv $(VENV) >/dev/null 2>&1 && $(BIN)/python -m pip --version >/dev/null 2>&1 || continue; \
	    echo "$(VENV): $$($(BIN)/python -V) from $$python"; \
	    echo "$(CURDIR)" >$@; \
	    exit 0; \
	done; \
	rm -rf $(VENV); \
	echo "No Python 3.11 or newer that can make an environment (venv with pip) was found." >&2; \
	echo "On Debian or Ubuntu: apt-get install python3-venv; elsewhere: make PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.run: $(VENV)/.made pyproject.toml
	@echo "$(VENV): installing packetwalk"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "$(VENV): installing packetwalk and the tools that check it"
	@$(PIP) install --editable '.[dev]'
	@touch $(VENV)/.run $@

$(VENV)/.notebook: $(VENV)/.run
	@echo "$(VENV): installing JupyterLab"
	@$(PIP) install --editable '.[notebook]'
	@touch $@

$(VENV)/.all: $(VENV)/.dev
	@echo "$(VENV): installing what notebooks, docs and the browser need"
	@$(PIP) install --editable '.[dev,notebook,docs,browser]'
	@touch $@
