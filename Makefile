# Trimtab: `make help` lists what there is. `make demo` and `make test` work as the first command on a fresh Debian machine.
SHELL := /bin/bash
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
CLUSTER ?= local
export CLUSTER
BENCH := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv-bench/bin/python -m tests.bench

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-kills test test-unit test-cluster test-e2e test-e2e-beside test-e2e-alone test-e2e-long test-vllm test-vllm-programs test-vllm-cluster test-vllm-long test-soak test-faults test-teardown test-all explore bench-planner bench-real bench-judge bench-emulator bench-rollouts bench-engine soak lint type fmt crds docs golden cluster-up cluster-down clean

help: ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

setup: ## Install what the project needs on this machine (Debian packages, Go tools, a virtual environment).
	@bash tests/setup.sh

demo: setup ## Show the loop on a real cluster with real vLLM pods; the report lands in build/demo/.
	$(PYTHON) -m tests.cluster up --images operator,engine-demo,testkit
	$(PYTHON) -m tests.e2e.demo --engine vllm --out build/demo

demo-kills: setup ## The demo, with the operator killed every minute; the end must be the same (build/demo-kills/).
	$(PYTHON) -m tests.cluster up --images operator,engine-demo,testkit
	$(PYTHON) -m tests.e2e.demo --engine vllm --kill-operator-every 60 --out build/demo-kills

test: setup lint type ## Everything that CI runs: static checks, unit, cluster and end-to-end tests.
	$(MAKE) test-unit
	$(MAKE) test-cluster
	$(MAKE) test-e2e-beside
	$(MAKE) --jobs=3 --output-sync=target test-e2e-alone test-vllm-programs test-soak
	$(MAKE) test-vllm-cluster

test-unit: ## Unit, property and golden tests: no cluster, no engine.
	$(PYTEST) -n 2 --dist worksteal -m "not cluster and not vllm and not teardown and not long" --cov --cov-report=term:skip-covered --cov-fail-under=80

test-cluster: ## The resources and the clients against the real API server.
	$(PYTEST) -n 2 --dist loadfile -m "cluster and not vllm and not teardown and not faults" --ignore=tests/e2e

test-e2e: test-e2e-beside test-e2e-alone ## The operator end to end on the local cluster, with emulated engines.

test-e2e-beside: ## Of these, what can run three files at a time with one operator.
	$(PYTEST) -n 3 --dist loadfile -m "cluster and not vllm and not faults and not long and not alone" tests/e2e

test-e2e-alone: ## Of these, what changes something for every resource of the cluster.
	$(PYTEST) -m "cluster and alone" tests/e2e

test-e2e-long: ## The same, the longer ones: the strategies beside the canary, live values of running pods.
	$(PYTEST) -n 2 --dist loadfile -m "cluster and not vllm and long" tests/e2e

test-soak: ## Three minutes of the soak on our own server over the emulated engine.
	$(PYTEST) tests/soak

test-faults: ## The operator, the API server, Prometheus and pods fail at every moment (docs/faults.md), half an hour.
	$(PYTEST) -n 3 --dist worksteal -m "faults" tests/fault
	$(PYTEST) -m "faults" tests/e2e

test-vllm: test-vllm-programs test-vllm-cluster ## Real vLLM: the emulator's contract, the engine's programs, one run end to end.

test-vllm-programs: ## Of these, what needs no cluster.
	$(PYTEST) -n 2 --dist loadfile -m "vllm and not cluster and not long"

test-vllm-cluster: ## Of these, what runs in pods.
	$(PYTEST) -m "vllm and cluster and not long"

test-vllm-long: ## Real vLLM, the longer ones: the memory model, the quality gate on a trained model, the other engines.
	$(PYTEST) -m "vllm and long"

test-teardown: ## Bring local clusters up, kill them at every step and take them down, in a machine of their own.
	$(PYTEST) -m "teardown"

explore: ## Look for new examples against the properties of planning, rollout and memory; `make test` repeats the same ones.
	TRIMTAB_EXPLORE=1 $(PYTEST) -n 2 --dist worksteal tests/property

test-all: test test-e2e-long test-vllm-long test-faults test-teardown ## Everything there is.

bench-planner: ## The planner's accuracy, speed, memory, search and real vLLM (build/bench/planner.json); DATA=folder of the measurements.
	@bash tests/setup.sh bench
	$(BENCH).planner accuracy $(if $(DATA),--data $(DATA))
	$(BENCH).planner speed
	$(BENCH).search
	$(MAKE) bench-real

bench-real: setup ## Real vLLM on one core beside the planner's predictions (build/bench/planner.json), some 15 minutes.
	@bash tests/setup.sh bench
	$(BENCH).engine run

lint: ## ruff and the import contracts.
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	cd operator && ../.venv/bin/lint-imports --config ../pyproject.toml
	cd engine_image && ../.venv/bin/lint-imports --config importlinter.toml

type: ## mypy, strict.
	$(PYTHON) -m mypy

fmt: ## Format the code.
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench-judge: ## Error rates of the judge on simulated recordings (build/bench/judge.json), 15 to 20 minutes.
	PYTHONPATH=operator:. $(PYTHON) -m tests.bench.judge

bench-emulator: setup ## What batching brings on the emulator and on the real vLLM it stands for, some five minutes.
	nice -n 19 $(PYTHON) -m tests.bench.emulator

bench-rollouts: setup ## Twenty rollouts under load on the cluster with emulated engines: lost requests, harm (build/bench/rollouts.json), half an hour.
	$(PYTHON) -m tests.cluster up --images operator,testkit
	$(PYTHON) -m tests.bench.rollouts

bench-engine: setup ## Our server beside plain vLLM and others on this machine (build/bench/engine.json), an hour.
	nice -n 19 $(PYTHON) -m tests.bench.serving

soak: setup ## An hour of our server over real vLLM at 80 % load, everything on (build/soak/); MINUTES=60.
	nice -n 19 $(PYTHON) -m tests.bench.soak --minutes $(or $(MINUTES),60)

crds: ## Generate the CRDs from the API models.
	PYTHONPATH=operator $(PYTHON) -m trimtab.api.crds --write

docs: ## Generate the reference pages and diagrams.
	PYTHONPATH=operator $(PYTHON) -m trimtab.api.reference
	PYTHONPATH=operator $(PYTHON) -m trimtab.rollout.diagram > docs/rollout-states.md

golden: ## Rewrite the golden files; review the difference before committing it.
	TRIMTAB_UPDATE_GOLDEN=1 $(PYTEST) -m "not cluster and not vllm and not teardown" -q tests/golden tests/unit

cluster-up: setup ## Bring up the local cluster (CLUSTER=kind and CLUSTER=current use another).
	$(PYTHON) -m tests.cluster up

cluster-down: ## Take the local cluster down; nothing of it is left behind.
	$(PYTHON) -m tests.cluster down

clean: ## Remove what builds and tests left in the checkout.
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .import_linter_cache
