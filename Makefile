# Needs Python 3.11 or later, make and a POSIX shell. `make help` lists the targets.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8080
APPS ?= examples.counter:App examples.chat:App
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# One stamp for each extra that is installed. `check` brings `test`, `test` brings `server`.
MADE := $(VENV)/.made
SERVER := $(VENV)/.installed-server
TEST := $(VENV)/.installed-test
CHECK := $(VENV)/.installed-check
INPUTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two of pip in one environment break it, so nothing here runs at once, not even under `make -j`.
.NOTPARALLEL:

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: PYTHON=$(PYTHON) HOST=$(HOST) PORT=$(PORT) ARGS (for pytest)"

.PHONY: setup
setup: $(CHECK) ## Install everything that working on rivet_ray needs into .venv

.PHONY: dev
dev: $(SERVER) ## Serve the examples at HOST:PORT
	@exec $(BIN)/python -m rivet_ray dev $(APPS) --host $(HOST) --port $(PORT)

# The tests of the Redis driver start a real server, from Debian's package where they may.
.PHONY: redis-server
redis-server:
	@command -v redis-server >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq >/dev/null && apt-get install -y -qq redis-server >/dev/null; } \
	  || echo "redis-server is missing: install it (apt-get install redis-server); its tests will fail" >&2

# The slow tests look through a real browser.
.PHONY: chromium
chromium:
	@command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq >/dev/null \
	  && apt-get install -y -qq --no-install-recommends chromium-headless-shell >/dev/null; } \
	  || echo "chromium is missing: install it (apt-get install chromium-headless-shell); its tests will fail" >&2

.PHONY: test
test: $(TEST) redis-server ## Run the tests, without the slow ones
	$(BIN)/python -m pytest -m 'not slow' $(ARGS)

.PHONY: test-slow
test-slow: $(TEST) redis-server chromium ## Run the slow tests
	$(BIN)/python -m pytest -m slow $(ARGS)

# pyright would otherwise ask the package index for a newer version at every run.
.PHONY: check
check: export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
check: $(CHECK) ## Check format, style, types and the floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python tests/typing/check_negative.py
	$(BIN)/lint-imports

.PHONY: format
format: $(CHECK) ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(TEST) ## Measure speed and memory; wants a machine with nothing else to do
	$(BIN)/python -m loadtests.bench $(ARGS)

.PHONY: constraints
constraints: $(MADE) ## Renew constraints.txt with the newest versions that fit pyproject.toml
	rm -rf build/constraints
	mkdir -p build
	$(BIN)/python -m venv build/constraints
	$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; extras = project["optional-dependencies"].values(); print(*project["dependencies"], *(line for extra in extras for line in extra if not line.startswith(project["name"])), sep="\n")' > build/constraints/requirements.txt
	build/constraints/bin/python -m pip install --quiet --disable-pip-version-check -r build/constraints/requirements.txt
	build/constraints/bin/python -m pip freeze > build/constraints/frozen.txt
	sed -n '/^#/p' constraints.txt > build/constraints/constraints.txt
	grep -E '^[A-Za-z0-9._-]+==' build/constraints/frozen.txt | LC_ALL=C sort -f >> build/constraints/constraints.txt
	mv build/constraints/constraints.txt constraints.txt
	rm -rf build/constraints

.PHONY: clean
clean: ## Remove .venv and everything else that was made here
	rm -rf $(VENV) build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "rivet_ray needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null || echo missing). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# A stamp is written last, so that a set-up which was cut short is done again.
$(SERVER): $(INPUTS) | $(MADE)
	@echo "Installing rivet_ray[server] into $(VENV) ..."
	@$(PIP_INSTALL) -c constraints.txt -e '.[server]'
	@touch $@

$(TEST): $(INPUTS) | $(MADE)
	@echo "Installing rivet_ray[test] into $(VENV) ..."
	@$(PIP_INSTALL) -c constraints.txt -e '.[test]'
	@touch $(SERVER) $@

$(CHECK): $(INPUTS) | $(MADE)
	@echo "Installing rivet_ray[check] into $(VENV) ..."
	@$(PIP_INSTALL) -c constraints.txt -e '.[check]'
	@touch $(SERVER) $(TEST) $@
