# Two commands matter: `make demo` and `make test`. Each is enough on a fresh machine with Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup --no-loadscope-reorder
FASHION := /usr/share/datasets/fashion-mnist
CHROMIUM := command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null

.PHONY: help setup demo lint test test-deep check format docs bench clean
help:                ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

setup: $(STAMP)      ## create .venv, install raysal with the pinned versions, and Chromium where it may
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "raysal needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[images,tiff,fits,arrays,heif,jpeg,audio,lance,cloud,fsspec,serve,dev,docs]'
	@$(CHROMIUM) || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { apt-get install -y -qq chromium || { apt-get update -qq && apt-get install -y -qq chromium; }; } >/dev/null 2>&1; } || true
	@touch $@

demo: setup          ## label Fashion-MNIST with a simulated oracle, BADGE beside random; ends in demo/report.html
	@[ -d $(FASHION) ] || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  { apt-get install -y -qq dataset-fashion-mnist || { apt-get update -qq && apt-get install -y -qq dataset-fashion-mnist; }; } >/dev/null 2>&1; } || true
	$(BIN)/raysal demo --out demo

test: setup          ## every law for every part, on all cores; minutes
	$(PYTEST) -m "not deep"

test-deep: setup     ## the other tests: all crossings, all pairs on Ray, all kills, flipped bytes, the docs site
	$(PYTEST) -m deep

lint: setup          ## format, lint, docstrings, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test     ## `make lint`, and `make test`, which holds the tests of the docs

format: setup        ## reformat the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup          ## the docs site in build/site; every link in it is checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -f docs/site/mkdocs.yml
	@echo 'built: open build/site/index.html, or with search: $(BIN)/python -m http.server -d build/site'

bench: setup         ## every headline number in one run, as ratios; half an hour (BENCH="--against CHECKOUT", ...)
	$(BIN)/python -m benchmarks.suite --out build/suite.json $(BENCH)
	$(BIN)/python -m benchmarks.suite --table build/suite.json

clean:               ## remove what setup, demo and docs made
	rm -rf .venv demo build
