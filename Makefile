# `make help` lists the targets; nothing but Python 3.11 to 3.14 has to be there beforehand.
VENV := .venv
BIN := $(VENV)/bin
# The Python that .venv was made with, until another is named.
PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
LOCK := requirements-dev.txt
# The stamp's name holds what was installed: a second run, or another branch's lock, just knows.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
STAMP := $(VENV)/.ready-$(VERSION)-$(shell cat $(LOCK) pyproject.toml | cksum | cut -d' ' -f1)
CRATE := forwarder/native
MANIFEST := --manifest-path $(CRATE)/Cargo.toml
# Likewise for the package itself: what the native core was built of, and whether Rust was there.
CARGO ?= cargo
RUST := $(if $(shell command -v $(CARGO)),rust,python)
INSTALLED := $(VENV)/.installed-$(RUST)-$(shell cat setup.py tools/*.py $(CRATE)/Cargo.toml \
	$(sort $(wildcard $(CRATE)/src/*.rs $(CRATE)/src/*/*.rs)) | cksum | cut -d' ' -f1)
INSTALL := $(BIN)/python -m pip install --no-deps --no-build-isolation
export CARGO
ARGS ?=
# Two files of tests at once, unless ARGS chooses some: those with a broker wait more than they
# compute. A file stays with one process, so that what its tests share is made once; files go in
# their order, the long ones first. A process that dies would run the same test again and again.
# Tests of what has a native twin; all others know nothing of which core runs.
PURE := tests/acceptance/test_corpus.py tests/contract tests/unit/collect tests/unit/formats tests/unit/native/test_core.py
WIDE := --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help setup native demo demo-pinpoint test test-fast test-python test-docker soak faults fuzz asan bench bench-check check package dist format docs lock pin-images clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

setup: $(STAMP) $(INSTALLED) ## Make .venv with exactly the locked versions (PYTHON=python3.12 to choose one)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
		"Python 3.11 or newer is needed: install it, or name one: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(VERSION)")' \
		|| $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r $(LOCK)
	@rm -f $(VENV)/.ready-* $(VENV)/.installed-*
	@touch $@

$(INSTALLED): | $(STAMP)
	@rm -f $(VENV)/.installed-* $(CRATE)/_core.*
	$(INSTALL) -qq --editable .
	@$(BIN)/python tools/native_core.py
	@touch $@

native: $(STAMP) ## Build the native core, and show what is wrong where that fails (needs Rust 1.85)
	@rm -f $(VENV)/.installed-*
	FORWARDER_NATIVE=1 $(INSTALL) --quiet --editable .
	@touch $(INSTALLED)

demo: setup ## Show it all on this machine: Kafka, an emulated AWS, a kill -9, the batches arriving
	$(BIN)/python -m tests.demo $(ARGS)

demo-pinpoint: setup ## Show Pinpoint's clients and a gateway on this machine: figures grow out of the event stream
	$(BIN)/python -m tests.demo --pinpoint $(ARGS)

test: setup ## Run every test, on a real broker and the AWS emulator (ARGS="-k name" to choose)
	$(BIN)/python -m pytest $(or $(ARGS),$(WIDE))

test-fast: setup ## Run the tests that need no broker and no emulator
	$(BIN)/python -m pytest -m "not service" $(or $(ARGS),$(WIDE))

test-python: setup ## Run what formats, collecting and contracts are tested with without the native core
	FORWARDER_NATIVE=0 $(BIN)/python -m pytest -m "not service" $(or $(ARGS),$(WIDE) $(PURE))

test-docker: setup ## Test what needs Docker: the Compose file as Docker reads it
	$(BIN)/python -m pytest tests/docker/compose.py $(ARGS)

soak: setup ## Disturb a fleet of workers and Kafka for ten minutes and count everything (ARGS="--pinpoint": a gateway, too)
	$(BIN)/python -m tests.soak $(ARGS)

faults: setup ## Let AWS do everything wrong, row by row, and count (ARGS="--only kms --scale 0.1")
	$(BIN)/python -m tests.faults $(ARGS)

fuzz: setup ## Give both cores mutated input, and compare what they make of it (ARGS="--cases 10000000")
	$(BIN)/python -m tests.fuzz $(ARGS)

asan: setup ## Run the native core under the address sanitizer, on input that means it harm
	$(BIN)/python -m tests.fuzz.sanitize $(ARGS)

bench: setup ## Measure what an event costs a worker, beside others (ARGS="--load 1-event --bare")
	$(BIN)/python -m tests.bench $(ARGS)

bench-check: setup ## Count the instructions of the pipeline, and compare (ARGS=--record writes them; needs valgrind)
	$(BIN)/python -m tests.bench.instructions $(ARGS)

check: setup ## Lint, formatting, types and the layers between modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v $(CARGO) >/dev/null; then set -x; $(CARGO) fmt --check $(MANIFEST) && \
		$(CARGO) clippy --quiet --all-targets $(MANIFEST) -- -D warnings; \
		else echo >&2 "The native core is not checked: there is no Rust here."; test -z "$$CI"; fi

package: setup ## Build wheel and source distribution into dist, judge them, run the wheel as installed
	$(BIN)/python -m tests.package dist

dist: setup ## Build wheels with the native core for Linux, both architectures and every Python, into dist
	$(BIN)/python -m tests.package.wheels dist

format: setup ## Format the code and mend what the linter can mend by itself
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	@if command -v $(CARGO) >/dev/null; then $(CARGO) fmt $(MANIFEST); fi

docs: setup ## Write docs/metrics.md from the definitions of the metrics
	$(BIN)/python -m forwarder.ops.metrics_page > docs/metrics.md

lock: setup ## Resolve the newest allowed versions into the three lock files
	$(BIN)/python -m piptools compile $(LOCK_FLAGS) --output-file requirements.txt pyproject.toml
	$(BIN)/python -m piptools compile $(LOCK_FLAGS) --allow-unsafe --constraint requirements.txt \
		--output-file $(LOCK) pyproject.toml requirements-dev.in
	$(BIN)/python -m piptools compile $(LOCK_FLAGS) --allow-unsafe --only-build-deps --build-deps-for wheel \
		--constraint $(LOCK) --output-file requirements-build.txt pyproject.toml

pin-images: ## Write the digests of the images' bases into deploy, as the registry has them (needs Docker)
	$(PYTHON) tools/pin_images.py deploy/Dockerfile deploy/emulator.Dockerfile deploy/compose.yaml

LOCK_FLAGS := --quiet --upgrade --generate-hashes --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-header

clean: ## Remove the virtual environment, the caches and what tests downloaded
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		build dist out *.egg-info $(CRATE)/target $(CRATE)/_core.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
