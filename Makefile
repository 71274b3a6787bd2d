# Set up, show, test and prove edgematrix. `make help` lists what there is.
#
# Needs: git, make, Python 3.11 or newer (with the venv module). `make setup` says what is missing and how to get it.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
STAMPS := .venvs/stamps
ORCHESTRATOR := .venv/bin
AGENT_PYTHON := .venvs/agent/bin/python
LITERT_PYTHON := .venvs/agent-litert/bin/python
PIP_FLAGS := --quiet --disable-pip-version-check --no-input

# An interpreter by its minor version: from PATH, else from pyenv's folder; empty where there is none.
python_of = $(or $(shell command -v python$(1) >/dev/null && python$(1) -c 'import sys; print(sys.executable)' 2>/dev/null),$(lastword $(wildcard $(HOME)/.pyenv/versions/$(1).*/bin/python$(1))))

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint unit integration agent-pythons lab evidence zoo locks clean python

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

# One environment per interpreter for the agent's own tests: the device's packages and pytest, nothing else.
$(STAMPS)/agent-test-%: requirements/agent-test.lock | python
	@"$(call python_of,$*)" -m venv .venvs/agent-test-$*
	@.venvs/agent-test-$*/bin/python -m pip install $(PIP_FLAGS) --require-hashes -r $<
	@mkdir -p $(STAMPS) && touch $@

export EDGEMATRIX_AGENT_PYTHON ?= $(CURDIR)/$(AGENT_PYTHON)

demo: setup ## Run the example matrix on this computer; prints a table, writes report.html
	@EDGEMATRIX_HOME=$(CURDIR)/.edgematrix/demo $(ORCHESTRATOR)/edgematrix run examples/digits.yaml --report report.html

test: lint unit integration agent-pythons lab ## Everything that must hold (under 30 minutes on two cores)
	@echo "make test: everything holds"

lint: setup ## ruff, mypy --strict, import-linter
	@$(ORCHESTRATOR)/ruff check .
	@$(ORCHESTRATOR)/ruff format --check --quiet .
	@$(ORCHESTRATOR)/mypy
	@$(ORCHESTRATOR)/lint-imports

unit: setup ## Unit tests of the orchestrator
	@$(ORCHESTRATOR)/python -m pytest -q -n 2 tests/unit tests/contracts --ignore tests/unit/agent

# Most of these wait for processes, links and leases, so three at once fill two cores.
integration: setup ## Tests against real Redis, real databases and real runs
	@$(ORCHESTRATOR)/python -m pytest -q -n 3 tests/integration

lab: setup ## Tests with emulated devices in namespaces of their own (as root; elsewhere they say that they were skipped)
	@$(ORCHESTRATOR)/python -m pytest -q -rs tests/lab

# The agent's own tests, on every Python it supports that exists here; one missing is said, the main one must be there.
# Two at once: they wait for processes more than they compute.
AGENT_PYTHONS := 3.9 3.10 3.11 3.12 3.13

agent-pythons: setup ## The agent's own tests on Python 3.9 to 3.13, where they exist
	@$(MAKE) --no-print-directory --silent --output-sync=target -j 2 $(AGENT_PYTHONS:%=agent-python-%)

agent-python-%:
	@if $(MAKE) --no-print-directory --silent $(STAMPS)/agent-test-$*; then \
	  echo "agent tests on Python $*"; \
	  .venvs/agent-test-$*/bin/python -m pytest -q -p no:cacheprovider tests/unit/agent; \
	elif [ $* = 3.11 ]; then echo "no Python 3.11 for the agent's tests"; exit 1; \
	else echo "Python $*: not here, skipped"; fi

evidence: setup ## The long proofs and the performance figures, into benchmarks/results/
	@$(ORCHESTRATOR)/python -m benchmarks.crashes
	@$(ORCHESTRATOR)/python -m benchmarks.chaos --faults 200 --seed 1
	@$(ORCHESTRATOR)/python -m benchmarks.fleet
	@$(ORCHESTRATOR)/python -m benchmarks.transfer
	@$(ORCHESTRATOR)/python -m benchmarks.heat
	@$(ORCHESTRATOR)/python -m benchmarks.soak_rate
	@$(ORCHESTRATOR)/python -m benchmarks

# Training tools are no dependency of the product: they live in an environment of their own.
$(STAMPS)/zoo: examples/zoo/requirements.lock | python
	@echo "setting up the zoo's environment .venvs/zoo (large: it holds TensorFlow)"
	@"$(PYTHON)" -m venv .venvs/zoo
	@.venvs/zoo/bin/python -m pip install $(PIP_FLAGS) --require-hashes -r $<
	@mkdir -p $(STAMPS) && touch $@

zoo: $(STAMPS)/zoo ## Train the example network anew and rebuild its variants (examples/digits)
	@.venvs/zoo/bin/python examples/zoo/build.py

UV_COMPILE := $(ORCHESTRATOR)/uv pip compile --quiet --universal --generate-hashes --upgrade --no-header --no-emit-index-url

locks: setup ## Resolve the dependencies of pyproject.toml anew; hashes, no index address
	@$(UV_COMPILE) --python-version 3.11 --extra orchestrator --extra postgres --group dev pyproject.toml -o requirements/orchestrator.lock
	@$(UV_COMPILE) --python-version 3.9 --extra agent pyproject.toml -o requirements/agent.lock
	@$(UV_COMPILE) --python-version 3.9 --extra agent --group agent-test pyproject.toml -o requirements/agent-test.lock
	@$(UV_COMPILE) --python-version 3.11 --extra agent-litert pyproject.toml -o requirements/agent-litert.lock

clean: ## Remove everything that make built
	@rm -rf .venv .venvs .edgematrix build dist report.html
