# The commands of the house. `make check` while working, `make test` before handing in, `make demo` to see it run.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CODE := crds operator pipelines serving local tests $(wildcard bench examples)
PACKAGES := crds/trimtab_api crds/trimtab_oci operator/trimtab_operator pipelines/trimtab_pipelines \
	serving/trimtab_serving local/trimtab_local
PROGRAMS := $(wildcard tests/pipelines tests/serving tests/faults)
PY := .venv/bin/python
# Where it is set, every program would compile all of our code at its start.
unexport PYTHONDONTWRITEBYTECODE
# Our packages are found by path, so that one environment in the cache serves every clone.
export PYTHONPATH := $(CURDIR):$(CURDIR)/crds:$(CURDIR)/operator:$(CURDIR)/pipelines:$(CURDIR)/serving:$(CURDIR)/local

.PHONY: help
help: ## what there is to do
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# --- environments -------------------------------------------------------------------------------------------------

.PHONY: setup
setup: ## the development environment, in .venv
	@venv=$$(requirements/venv.sh dev.txt) && ln -sfn "$$venv" .venv

# The demo trains and serves in the cluster's containers, so that it needs no torch on the host.
.PHONY: setup-local
setup-local:
	@[ -e .venv/.complete ] || { venv=$$(requirements/venv.sh local.txt) && ln -sfn "$$venv" .venv; }

.PHONY: lock
lock: setup ## write the lock files anew from pyproject.toml (LOCK_FLAGS=--upgrade for newer versions)
	@requirements/lock.sh

# --- checks -------------------------------------------------------------------------------------------------------

# Each look at the code uses one processor, and some tests wait for time to pass: side by side they fill both.
.PHONY: check
check: setup format-check lint ## everything that needs nothing but Python, in a few minutes
	@$(MAKE) --no-print-directory -j unit types imports generated

.PHONY: format
format: setup ## rewrite the code in the house's format
	@.venv/bin/ruff format $(CODE)
	@.venv/bin/ruff check --fix-only --select I $(CODE)

.PHONY: format-check
format-check: setup
	@.venv/bin/ruff format --check --quiet --output-format concise $(CODE) || { echo "run: make format" >&2; exit 1; }

.PHONY: lint
lint: setup
	@.venv/bin/ruff check --quiet --output-format concise $(CODE)

.PHONY: types
types: setup
	@.venv/bin/mypy $(PACKAGES) $(wildcard crds/generate.py tests bench examples)

.PHONY: imports
imports: setup
	@.venv/bin/lint-imports --no-logo

.PHONY: generated
generated: setup
	@$(PY) crds/generate.py --check

.PHONY: generate
generate: setup ## write the CRDs and the chart's copies from crds/trimtab_api
	@$(PY) crds/generate.py

.PHONY: release-crds
release-crds: setup ## keep the CRDs as those of the version in pyproject.toml: later ones must not break them
	@$(PY) crds/generate.py --release

# --- tests: each tier has its own short command -------------------------------------------------------------------

.PHONY: unit
unit: setup ## the tests that need nothing but Python
	@$(PY) -m pytest -q -n auto --timeout 60 $(wildcard tests/unit tests/golden)

.PHONY: local-build
local-build: setup-local ## what the local cluster is made of: programs and images, side by side
	@$(PY) -m trimtab_local build

.PHONY: cluster-up
cluster-up: setup ## a real Kubernetes on this machine
	@$(PY) -m trimtab_local up

.PHONY: images
images: setup ## build what changed and load it into the local cluster (or push it to IMAGE_REGISTRY=, as IMAGE_TAG=)
	@$(PY) -m trimtab_local images $(if $(IMAGE_REGISTRY),push $(IMAGE_REGISTRY) $(if $(IMAGE_TAG),--tag $(IMAGE_TAG)),build)

# Each file has servers and a control plane of its own, on ports of its own.
.PHONY: test-programs
test-programs: setup ## whole programs on this machine, killed at bad moments among other things
	@$(PY) -m pytest -q -n auto --dist loadfile $(PROGRAMS)

.PHONY: test-cluster
test-cluster: cluster-up ## tests against a real API server
	@$(PY) -m pytest -q tests/cluster

.PHONY: test-e2e
test-e2e: cluster-up images ## the main job on the whole local cluster
	@$(PY) -m pytest -q tests/e2e

.PHONY: test
test: check local-build cluster-up images ## all tiers on a real local cluster
	@$(MAKE) --no-print-directory test-programs
	@$(PY) -m pytest -q --maxfail 8 tests/cluster tests/e2e # each failure may have waited for minutes

.PHONY: soak
soak: cluster-up images ## the long tests: minutes of traffic, kills and changes
	@TRIMTAB_SOAK=1 $(PY) -m pytest -q tests/e2e tests/faults -k soak

# --- the demo -----------------------------------------------------------------------------------------------------

.PHONY: demo
demo: setup-local ## from raw text to a tuned model that answers
	@$(PY) -m examples.quickstart.demo up

.PHONY: demo-loop
demo-loop: setup-local ## the same, then live traffic: promotion by evidence, rollback, drift, a successor
	@$(PY) -m examples.quickstart.demo loop

.PHONY: demo-down
demo-down: setup-local ## take everything of the demo away again
	@$(PY) -m examples.quickstart.demo down
