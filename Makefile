# Every target that needs something sets it up first (tools/machine/setup): quick and silent
# when nothing is missing. What it does and where it keeps things: docs/machine.md.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Where set-up puts kind, kubectl and helm if it may not write to /usr/local/bin. Last, so that
# whatever a user has wins.
export PATH := $(PATH):$(CURDIR)/.tools/bin

BIN   := .venv/bin
TIMED := tools/machine/timed
# `make test` runs failed tests once more; the targets for one kind of test do not.
AGAIN ?=

# These tests mostly start programs and wait for them: more workers than cores.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) * 2)))
RUNS   ?= 1
ROUNDS ?= 3
IMAGES ?= made-up
SLICE  ?= all
# What depends on how the engine keeps images: loads, references, what gc finds, reuse.
CONTAINERD_short := tests/e2e/test_loading.py
CONTAINERD_all := $(CONTAINERD_short) tests/e2e/test_images_from_elsewhere.py tests/e2e/test_registry.py tests/e2e/test_reuse.py tests/e2e/test_example.py
PROSE := README.md CONTRIBUTING.md CHANGELOG.md docs $(wildcard examples/*/README.md)
# The tests that the page names, in a folder.
named = $(shell grep -oE '`$(1)/\w+\.py::[A-Za-z0-9_:]+' docs/crash-safety.md | sed 's|^`|tests/|' | sort -u)

.PHONY: help setup registry-image podman venv demo test lint docs unit functional e2e e2e-containerd test-python313 stress stress-cluster matrix shape bench bench-boot bench-crowd bench-busy bench-load bench-waiting bench-copies format lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## what demo and test need: .venv, an engine, kind, helm, kubectl, images
	@tools/machine/setup

venv:
	@tools/machine/venv

demo: setup ## a small system of services, tested on a real cluster
	@$(BIN)/pytest examples/kubernaut-mini -n 4 -p no:randomly -p no:rerunfailures -p no:asyncio

test: setup ## everything that CI runs
	@$(MAKE) lint
	@$(MAKE) docs
	@$(TIMED) "unit and functional" tools/machine/once-more $(BIN)/pytest tests/unit tests/functional -n $(WORKERS) -q
	@$(MAKE) e2e AGAIN=tools/machine/once-more
	@$(MAKE) e2e-containerd SLICE=short AGAIN=tools/machine/once-more

lint: venv ## format check, ruff, mypy, pyright, import-linter, wording
	@$(TIMED) "format" $(BIN)/ruff format --check --quiet .
	@$(TIMED) "ruff" $(BIN)/ruff check --quiet .
	@$(TIMED) "mypy" $(BIN)/mypy
	@$(TIMED) "pyright" $(BIN)/basedpyright
	@$(TIMED) "import-linter" $(BIN)/lint-imports
	@$(TIMED) "wording" $(BIN)/python tools/prose/prose.py check
	@$(TIMED) "spelling" $(BIN)/codespell $(PROSE)

docs: ## the documentation as a site, in .tools/site; fails at a dead link
	@tools/docs/build

unit: venv ## unit tests: no engine, no pytest run inside
	@$(BIN)/pytest tests/unit -n $(WORKERS)

functional: venv ## pytest runs inside pytest, without an engine
	@$(BIN)/pytest tests/functional -n $(WORKERS)

registry-image: setup
	@tools/machine/registry-image

podman: setup
	@tools/machine/podman

e2e: setup registry-image podman ## tests on real clusters: first by two, then those that want to be alone
	@$(AGAIN) $(BIN)/pytest tests/e2e -m "not alone" -n 2 --dist loadfile
	@$(AGAIN) $(BIN)/pytest tests/e2e -m alone

e2e-containerd: setup registry-image ## what handles images, on an engine with containerd's image store, SLICE=all|short
	@$(TIMED) "containerd store" tools/machine/containerd-store $(AGAIN) $(BIN)/pytest -q $(CONTAINERD_$(SLICE))

test-python313: ## unit and functional tests with Debian 13's Python 3.13, in a container
	@$(TIMED) "unit and functional on Python 3.13" tools/machine/python313 tests/unit tests/functional -n $(WORKERS) -q

stress: venv ## interrupts at random moments of runs on fakes, RUNS=N
	@KINDINFRA_STRESS=$(RUNS) $(BIN)/pytest tests/functional/test_interrupts_at_random.py -n $(WORKERS) -q

stress-cluster: setup ## the same on real clusters, RUNS=N
	@KINDINFRA_STRESS=$(RUNS) $(BIN)/pytest tests/e2e/test_interrupts_at_random.py -n 2 -q

matrix: setup ## crash safety, RUNS=N times: the tests that docs/crash-safety.md names
	@for run in $$(seq $(RUNS)); do echo "matrix: run $$run of $(RUNS)"; \
	  $(BIN)/pytest -n 2 -q $(call named,unit) $(call named,functional) & fakes=$$!; \
	  $(BIN)/pytest -n 2 -q -m "not alone" $(call named,e2e); wait $$fakes; \
	  $(BIN)/pytest -q -m alone $(call named,e2e); \
	done

bench: setup ## a system brought up by scripts, other plugins and us, ROUNDS=N, IMAGES=example|made-up
	@test -x .tools/peers/bin/python || $(BIN)/python -m venv .tools/peers
	@.tools/peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement tools/bench/peers/requirements.txt
	@$(BIN)/python tools/bench/setups.py --images=$(IMAGES) --rounds=$(ROUNDS) --json=.tools/bench.json
	@.tools/peers/bin/python tools/bench/peers/picture.py .tools/bench.json .tools/bench.svg
	@echo "written: .tools/bench.json, .tools/bench.svg"

bench-boot: setup ## when DNS answers in a new cluster, as kind boots it and as we do, ROUNDS=N
	@$(BIN)/python tools/bench/boot.py --rounds=$(ROUNDS)

bench-crowd: venv ## 50 services and 8 workers beside programs that only play, ROUNDS=N
	@$(BIN)/python tools/bench/crowd.py --rounds=$(ROUNDS)

bench-busy: venv ## what tests that compute meanwhile cost the stack, ROUNDS=N, AGAINST=CHECKOUT
	@$(BIN)/python tools/bench/busy.py --rounds=$(ROUNDS) $(if $(AGAINST),--against=$(AGAINST))

bench-load: setup registry-image ## an edited image into a kind node: kind load, delta, archive, registry, ROUNDS=N
	@$(BIN)/python tools/bench/loads.py --rounds=$(ROUNDS) --json=.tools/bench-load.json

bench-waiting: venv ## what waiting for results costs, beside a file lock recipe
	@$(BIN)/python tools/bench/waiting.py

bench-copies: setup ## services for each of eight workers, beside one stack for all, ROUNDS=N
	@$(BIN)/python tools/bench/copies.py --rounds=$(ROUNDS)

shape: venv ## the shape of the code: modules, lines, importers, arrows between packages
	@$(BIN)/python tools/shape.py

format: venv ## rewrite the sources as ruff wants them, and the tables of docs/ that are made of them
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .
	@$(BIN)/python tools/docs/tables.py

lock: ## newest versions into requirements/dev.lock
	@tools/machine/lock

clean: ## remove what was made in this folder (not the caches: docs/machine.md)
	@rm -rf .venv .tools .kindinfra .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
