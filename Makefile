# What the README names. Needs Python 3.11+, make and a shell; brings the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# CI installs exactly what was tested; everyone else gets what pyproject.toml allows.
CONSTRAINTS := $(if $(CI),-c .ci/constraints.txt,)
ARGS ?=
PAGE := meshllm/page/built/index.html
PAGE_SOURCES := $(shell find web -path web/node_modules -prune -o -path web/test -prune -o -type f -print)
WEB := CONSTRAINTS='$(if $(CI),-c ../.ci/constraints.txt,)' .ci/web

# A build that failed half way must not pass for one the next time.
.DELETE_ON_ERROR:
.PHONY: setup demo test check fix soak natlab screenshots bench release system clean

setup: $(STAMP) $(PAGE) ## .venv with everything, the page built

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "meshllm needs Python 3.11 or newer. Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --group dev -e '.[embedded]'
	@touch $@

$(PAGE): $(PAGE_SOURCES) | $(STAMP)
	@$(WEB) build

demo: setup ## a whole mesh on this machine: make demo ARGS='--once "Name three colours."'
	@$(BIN)/meshllm demo $(ARGS)

test: setup system ## the whole suite, or a part: make test ARGS='tests/routing -x'
	@$(BIN)/python -m tests $(ARGS)

check: setup ## linters and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(WEB) check

fix: setup ## the same, mending
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	@$(WEB) fix

soak: setup ## kills and freezes for ten minutes: make soak ARGS='--minutes 10'
	@$(BIN)/python -m tests.e2e.soak $(ARGS)

natlab: setup system ## every kind of NAT asks every kind: make natlab ARGS='--only symmetric'
	@$(BIN)/python -m tests.natlab $(ARGS)

screenshots: setup system ## docs/images and the icons, anew
	@$(WEB) screenshots

bench: setup ## meshllm against direct HTTP and a raw relay, as ratios of one run
	@$(BIN)/python -m bench $(ARGS)

release: setup ## dist/: a wheel that holds the page, the sources, and their checksums
	@test -f $(PAGE) || { echo "The chat page is not built: a wheel without it is no release." >&2; exit 1; }
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	cd dist && sha256sum -- *.whl *.tar.gz > SHA256SUMS && cat SHA256SUMS

system: ## what tests need from Debian; elsewhere those tests are skipped by name
	@.ci/system-packages iproute2:ip nftables:nft coturn:turnserver haproxy:haproxy chromium:chromium

clean:
	rm -rf $(VENV) web/node_modules meshllm/page/built .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage dist
