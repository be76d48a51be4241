# Every command of the project; `make` alone lists them. The first one that needs it makes .venv and installs into it.
#
# Overridable, as in `make test PYTHON=python3.13`:
#   PYTHON          the interpreter that .venv is made from, 3.11 or newer
#   TORCH_PIP_ARGS  pip arguments for torch alone, to choose another build of it (an index URL, say)
#   SERVE_ARGS      arguments of `reelq up`
#   TEST_WORKERS    processes that share the tests
#   PYTEST_ARGS     arguments added to pytest's
#   FUZZ_ARGS       arguments of the fuzzing run
#   CHAOS_ARGS      arguments of the chaos campaign
#   BENCH_ARGS      arguments of a benchmark

SHELL = /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two pip runs must not meet in one .venv.
.NOTPARALLEL:

PYTHON ?= python3
TORCH_PIP_ARGS ?=
SERVE_ARGS ?=
TEST_WORKERS ?= 2
PYTEST_ARGS ?=
FUZZ_ARGS ?=
CHAOS_ARGS ?=
BENCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
comma := ,
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input

# torch goes first and alone, so that TORCH_PIP_ARGS decides its build and nothing else's; what follows finds it there.
define install
	@echo "installing $(1) (the first time this downloads torch and takes minutes)"
	@$(PIP) install -c constraints.txt $(TORCH_PIP_ARGS) "$$(grep '^torch==' constraints.txt)"
	@$(PIP) install -c constraints.txt -e '.[$(2)]'
endef

.PHONY: help demo serve test fuzz chaos bench-queue bench-http bench-pages bench-schedule bench-gpu lint format constraints clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.runtime ## start the service and a worker, make demo.mp4 from a sample image, stop both
	@$(BIN)/python -m app.demo

serve: $(VENV)/.runtime ## the service with its workers on this machine, in the foreground (SERVE_ARGS="--port 9000")
	@$(BIN)/reelq up $(SERVE_ARGS)

test: lint ## lint, then every test that needs no GPU (PYTEST_ARGS="-k queue")
	@echo "test: pytest, $(TEST_WORKERS) processes"
	@status=0; $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder -m 'not gpu' $(PYTEST_ARGS) || status=$$?; \
	if [ $$status -eq 0 ]; then echo "test: passed"; else echo "test: FAILED, pytest exit status $$status" >&2; fi; \
	exit $$status

fuzz: $(VENV)/.dev ## call the whole API in ways that nobody foresaw, for minutes (FUZZ_ARGS="--seed 7")
	@$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

chaos: $(VENV)/.dev ## kill, stop and restart everything under load, and count what the queue did (CHAOS_ARGS="--seed 7")
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

bench-queue: $(VENV)/.dev ## measure the queue beside other queues, into benchmarks/results (BENCH_ARGS="--quick")
	@$(BIN)/python -m benchmarks.queue $(BENCH_ARGS)

bench-http: $(VENV)/.dev ## measure the front end beside a bare one and a peer, into benchmarks/results (BENCH_ARGS="--quick")
	@$(BIN)/python -m benchmarks.http $(BENCH_ARGS)

bench-pages: $(VENV)/.dev ## measure the pages on a large installation, into benchmarks/results (BENCH_ARGS="--quick")
	@$(BIN)/python -m benchmarks.pages $(BENCH_ARGS)

bench-schedule: $(VENV)/.dev ## compare the order and placement of jobs with others in virtual time, into benchmarks/results (BENCH_ARGS="--quick")
	@$(BIN)/python -m benchmarks.schedule $(BENCH_ARGS)

bench-gpu: $(VENV)/.dev ## measure the GPU worker beside the stock pipeline, into benchmarks/results (BENCH_ARGS="--quick")
	@$(BIN)/python -m benchmarks.gpu $(BENCH_ARGS)

lint: $(VENV)/.dev ## formatter, linter, types and the import rule; changes nothing
	@echo "lint: ruff format --check"
	@$(BIN)/ruff format --check --quiet .
	@echo "lint: ruff check"
	@$(BIN)/ruff check --quiet .
	@echo "lint: mypy"
	@$(BIN)/mypy --no-error-summary
	@echo "lint: lint-imports"
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev ## format the code and apply the linter's safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# A stamp is touched last, so an interrupted install is done again; so is one whose pins have changed since.
$(VENV)/.made:
	@$(PYTHON) -c '' 2>/dev/null || \
	  { echo "error: cannot run '$(PYTHON)'; name a Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1): make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "error: '$(PYTHON)' cannot make virtual environments; install its venv package (Debian: python3-venv)" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/.made
	$(call install,the service and the worker,worker)
	@touch $@

# Holds all that .runtime does, and says so, lest `make demo` after `make test` install once more.
$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.made
	$(call install,the service$(comma) the worker and the development tools,worker$(comma)postgres$(comma)s3$(comma)dev)
	@touch $(VENV)/.runtime $@

constraints: $(VENV)/.made ## write constraints.txt anew: the newest versions that pyproject.toml allows
	@set -e; clean=$$(mktemp -d); trap 'rm -rf "$$clean"' EXIT; trap 'exit 1' HUP INT TERM; \
	echo "resolving in a clean environment (minutes)"; \
	$(PYTHON) -m venv "$$clean"; pip="$$clean/bin/python -m pip -qq --disable-pip-version-check --no-input"; \
	$$pip install $(TORCH_PIP_ARGS) "$$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)"; \
	$$pip install "$$(sed -n 's/^requires = \["\([^"]*\)"\]$$/\1/p' pyproject.toml)" editables '.[worker,postgres,s3,dev]'; \
	$$pip freeze --all --exclude pip --exclude reelq > "$$clean/frozen"; \
	{ \
	  echo "# Every version that reelq and its extras run and are built with; pip itself is not pinned."; \
	  echo "# Made by 'make constraints' with $$($(PYTHON) -V) on $$(uname -s), with a CPU build of torch and without the"; \
	  echo "# '+cpu' of its version: a CUDA build of the same torch pins its own CUDA packages, which are not listed here."; \
	  sed 's/+.*//' "$$clean/frozen" | LC_ALL=C sort -f; \
	} > "$$clean/constraints.txt"; \
	cp "$$clean/constraints.txt" constraints.txt; echo "wrote constraints.txt"

clean: ## remove .venv, caches and the demo's output; your data stays
	@rm -rf $(VENV) .demo demo.mp4 dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
	  benchmarks/.environments
	@find . -type d -name __pycache__ -prune -exec rm -rf {} +
