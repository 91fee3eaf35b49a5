# `make serve` runs the server, `make test` tests it: both from nothing. What they need stands in .venv, made from the lock files.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS ?=
# More than the usual two processors: much of its time a test waits for a server, a browser or a clock.
WORKERS ?= 3

.PHONY: serve test lint types format format-check check assets lock schema schema-check settings migration snapshot bench faults test-faults test-long fuzz topology bench-subscriptions soak-export clean

serve: $(VENV)/runtime.stamp
	@$(BIN)/loquent serve $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check $(ARGS)

types: $(VENV)/dev.stamp
	$(BIN)/mypy $(ARGS)

format: $(VENV)/dev.stamp
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

format-check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check

check: format-check lint types test

# GraphiQL for the playground, from npm's packages. Without it a small page of our own stands in; see docs/playground.md
PLAYGROUND := server/playground/built/index.html

assets: $(PLAYGROUND)

$(PLAYGROUND): playground/node_modules/.package-lock.json playground/build.mjs $(wildcard playground/src/*) \
	$(wildcard server/playground/assets/*.js)
	@npm run --silent --prefix playground build

playground/node_modules/.package-lock.json: playground/package.json playground/package-lock.json
	@command -v npm >/dev/null || { echo "make assets needs Node.js 20 or newer with npm on the PATH." >&2; exit 1; }
	@npm ci --prefix playground --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Exact versions with their hashes, for every platform; no address of a registry inside. Extras stay, because pip holds
# `name[extra]` for another thing than `name`, and would look for a newer one of it.
LOCK := $(BIN)/uv pip compile pyproject.toml --quiet --group build --universal --generate-hashes --no-strip-extras \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock: $(VENV)/lock.stamp
	$(LOCK) $(ARGS) --output-file requirements.lock
	$(LOCK) $(ARGS) --extra local --extra dev --constraint requirements.lock --output-file requirements-dev.lock

schema: $(VENV)/runtime.stamp
	$(BIN)/loquent schema > schema.graphql.new
	mv schema.graphql.new schema.graphql

# What would break the clients of the last release; a release copies schema.graphql to schema.released.graphql
schema-check: $(VENV)/runtime.stamp
	$(BIN)/loquent schema --check schema.released.graphql

# docs/settings.md from server/settings.py
settings: $(VENV)/runtime.stamp
	$(BIN)/loquent settings --markdown > docs/settings.md.new
	mv docs/settings.md.new docs/settings.md

# A revision from what db/models/ has and the migrations have not: make migration ARGS='"add shares"'
migration: $(VENV)/dev.stamp
	$(BIN)/python -m db.migrate $(ARGS)

# What the migrations make of an empty SQLite, in one piece: after each new revision
snapshot: $(VENV)/runtime.stamp
	$(BIN)/python -m db.snapshot

bench: $(VENV)/dev.stamp
	$(BIN)/python -m bench $(ARGS)

# The small form of every promise of reliability, also what the everyday tests leave out
test-faults: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m "long or not long" tests/faults $(ARGS)

# All that the everyday tests leave out, because it takes minutes
test-long: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m long $(ARGS)

# A promise of reliability put to the test at length: make faults ARGS=durable, or ARGS=--help for all there are
faults: $(VENV)/dev.stamp
	$(BIN)/python -m tests.faults $(ARGS)

# What compose.yaml describes, as plain processes of this machine: make topology ARGS="--port 8080"
topology: $(VENV)/dev.stamp
	@$(BIN)/python -m deploy.topology $(ARGS)

# Requests made up from /openapi.json, for every route: make fuzz ARGS="-k generate"
fuzz: $(VENV)/dev.stamp
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-50} $(BIN)/python -m pytest --timeout 600 tests/rest_compat/test_fuzz.py $(ARGS)

# Streaming beside Node's graphql-ws, which npm brings: make bench-subscriptions ARGS=--quick
bench-subscriptions: $(VENV)/dev.stamp
	$(BIN)/python -m bench.subscriptions $(ARGS)

# Memory while 200 MB go in and out: make soak-export, or ARGS=megabytes
soak-export: $(VENV)/dev.stamp
	$(BIN)/python -m bench.transfer $(ARGS)

clean:
	rm -rf $(VENV) dist build playground/node_modules server/playground/built .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer is on the PATH. Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Building the environment in $(VENV): once, and again when the lock changes."
	@"$(PYTHON)" -m venv $(VENV)

# The development lock holds the runtime's pins too, so that a tested environment still serves.
$(VENV)/runtime.stamp: requirements.lock pyproject.toml $(VENV)/pyvenv.cfg
	@$(INSTALL) --require-hashes --requirement requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/runtime.stamp
	@$(INSTALL) --require-hashes --requirement requirements-dev.lock
	@touch $@

$(VENV)/lock.stamp: $(VENV)/pyvenv.cfg
	@$(INSTALL) 'uv>=0.13'
	@touch $@
