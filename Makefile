# Everything a checkout needs. Python 3.11 or newer (with pip and venv) and make are all that must be there before.

# The first Python here that is new enough; `make PYTHON=…` chooses another.
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
# What is passed on to the server, pytest, the benchmarks or uv.
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
# Stamps: what the environment holds is as new as its lock file.
UV_READY := $(VENV)/uv.stamp
SERVE_READY := $(VENV)/serve.stamp
DEV_READY := $(VENV)/dev.stamp

# pip settings that would put packages elsewhere than into the environment.
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PYTHONHOME
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# uv is to use the environment's Python, never one that it fetches itself.
export UV_PYTHON_DOWNLOADS := never
export UV_HTTP_TIMEOUT ?= 120

.DEFAULT_GOAL := help
.PHONY: help serve test lint bench lock clean

help: ## list what there is
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

# Servers on this machine are connected to only when that is allowed: for trying it out, it is.
serve: export MUSTER_ALLOW_LOOPBACK ?= on
serve: $(SERVE_READY) ## set everything up and serve on http://127.0.0.1:8000 (ARGS="--port 9000")
	@$(BIN)/muster serve $(ARGS)

test: $(DEV_READY) ## run all tests, on SQLite and on a PostgreSQL of their own (ARGS=tests/cli)
	@$(RUN) pytest -n logical $(ARGS)

lint: $(DEV_READY) ## check style and types
	@failed=0; for check in "ruff check" "ruff format --check" mypy; do \
		echo "$$check"; $(BIN)/$$check || failed=1; done; exit $$failed

bench: $(DEV_READY) ## measure against the floor; takes a while and prints a table
	@$(RUN) bench $(ARGS)

clean: ## remove the environment and the caches; the data directory stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find app bench migrations tests -name __pycache__ -type d -prune -exec rm -rf {} +

COMPILE = $(BIN)/uv pip compile --quiet --python $(BIN)/python --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --no-annotate $(ARGS)

lock: $(UV_READY) ## write the lock files from pyproject.toml (ARGS=--upgrade takes newer versions)
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra drivers --constraint requirements.lock --output-file requirements-drivers.lock
	$(COMPILE) pyproject.toml --extra dev --constraint requirements-drivers.lock --output-file requirements-dev.lock
	printf 'setuptools\nuv\n' | $(COMPILE) - --output-file requirements-build.lock

$(UV_READY): requirements-build.lock
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Muster needs Python 3.11 or newer, and $(or $(PYTHON),python3) is not; try: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --require-hashes --requirement requirements-build.lock
	@touch $@

# uv reads none of pip's settings, and whoever reaches the package index through a mirror has told pip. Which index
# a package comes from does not matter, since every file must have the hash in the lock.
define install
	@pip_setting() { $(RUN) pip config get "global.$$1" 2>/dev/null || true; }; \
	: "$${UV_DEFAULT_INDEX:=$${PIP_INDEX_URL:-$$(pip_setting index-url)}}"; \
	: "$${UV_INDEX:=$${PIP_EXTRA_INDEX_URL:-$$(pip_setting extra-index-url)}}"; \
	: "$${SSL_CERT_FILE:=$${PIP_CERT:-$$(pip_setting cert)}}"; \
	test -z "$$UV_DEFAULT_INDEX" || export UV_DEFAULT_INDEX; \
	test -z "$$UV_INDEX" || export UV_INDEX; \
	test -z "$$SSL_CERT_FILE" || export SSL_CERT_FILE; \
	export UV_INDEX_STRATEGY=unsafe-best-match; \
	echo "installing $(1) into $(VENV)"; \
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes $(1) requirements-build.lock && \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
endef

# Where the development packages are already there, serving keeps them.
$(SERVE_READY): requirements-drivers.lock pyproject.toml $(UV_READY)
	$(call install,$(if $(wildcard $(DEV_READY)),requirements-dev.lock,requirements-drivers.lock))
	@touch $@

$(DEV_READY): requirements-dev.lock pyproject.toml $(UV_READY)
	$(call install,requirements-dev.lock)
	@touch $@ $(SERVE_READY)
