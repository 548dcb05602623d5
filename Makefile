# Everything from a bare clone: "make test" or "make demo". The first call makes .venv; later ones install only what changed.
# Once there is a .venv, its torch and its Python are those to go on with.
TORCH ?= $(or $(shell sed -n 's/^Version: \([0-9.]*\).*/\1/p' .venv/lib/python3*/site-packages/torch-*.dist-info/METADATA 2>/dev/null | head -n 1),2.13.0)
PYTHON ?= $(firstword $(wildcard .venv/bin/python) python3)
SEEDS ?= 1
# Processes that run tests.
JOBS ?= 2
PY := .venv/bin/python

.PHONY: help install lint test soak demo clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## +/  make \1\t/' | expand -t 20
	@echo 'Variables: TORCH=$(TORCH) PYTHON=$(PYTHON) SEEDS=$(SEEDS) JOBS=$(JOBS)'

install:  ## make .venv with all that mmps needs
	@$(PYTHON) tools/setup_env.py --torch $(TORCH)

lint: install  ## style, and which module may import which
	$(PY) -m ruff check --output-format concise .
	.venv/bin/lint-imports --no-logo

test: lint  ## lint and all tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

soak: install  ## the long tests of docs/reliability.md; what they measure goes to work_dirs/soak.jsonl
	mkdir -p work_dirs && rm -f work_dirs/soak.jsonl
	OMP_NUM_THREADS=1 MMPS_REPORT=$(CURDIR)/work_dirs/soak.jsonl $(PY) -m pytest tests/reliability -m soak -v $(ARGS)

demo: install  ## distil a small model on drawn scenes
	$(PY) tools/demo.py --seeds $(SEEDS)

clean:  ## remove .venv and what tools left behind
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
