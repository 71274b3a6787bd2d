# Set up, show, test and prove edgematrix. `make help` lists what there is.
#
# Needs: git, make, Python 3.11 or newer (with the venv module). `make setup` says what is missing and how to get it.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
STAMPS := .venvs/stamps
ORCHESTRATOR := .venv/bin
AGENT_PYTHON := .venvs/agent/bin/python
LITERT_PYTHON := .venvs/agent-litert/bin/python
PIP_FLAGS := --quiet --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint unit integration lab agent-pythons evidence bench zoo locks clean python

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

python:
	@test -n "$(PYTHON)" || { echo "edgematrix needs Python 3.11: apt-get install python3.11 (or python3)"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "edgematrix needs Python 3.11 or newer; $(PYTHON) is older. Say which to use: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "$(PYTHON) lacks its venv module: apt-get install python3-venv (or python3.11-venv), then try again"; exit 1; }

# The orchestrator and each device environment are locked and built apart: their numpy versions exclude each other.
$(STAMPS)/orchestrator: requirements/orchestrator.lock pyproject.toml | python
	@echo "setting up the orchestrator's environment (.venv)"
	@"$(PYTHON)" -m venv .venv
	@.venv/bin/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements/orchestrator.lock
	@.venv/bin/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation --editable .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/agent $(STAMPS)/agent-litert: $(STAMPS)/%: requirements/%.lock | python
	@echo "setting up the device environment .venvs/$*"
	@"$(PYTHON)" -m venv .venvs/$*
	@.venvs/$*/bin/python -m pip install $(PIP_FLAGS) --require-hashes -r $<
	@mkdir -p $(STAMPS) && touch $@

setup: $(STAMPS)/orchestrator $(STAMPS)/agent $(STAMPS)/agent-litert ## Build the three environments from their locks
