# Everything from a bare clone: "make demo" or "make test". The first call makes .venv; later ones install only what changed.
# Once there is a .venv, its torch and its Python are those to go on with.
TORCH ?= $(or $(shell sed -n 's/^Version: \([0-9.]*\).*/\1/p' .venv/lib/python3*/site-packages/torch-*.dist-info/METADATA 2>/dev/null | head -n 1),$(shell sed -n 's/^torch==//p' requirements.txt))
PYTHON ?= $(firstword $(wildcard .venv/bin/python) python3)
SEEDS ?= 1
# Processes that run tests.
JOBS ?= 2
PY := .venv/bin/python
REAL := configs/real/real-oim_mobilenetv2-fpn_3e_synthps-photo.py
# What .venv was made from. Where it changed, or .venv was moved, pip runs again.
STAMP := .venv/mmps-installed
STATE = { pwd; echo $(TORCH); cat requirements.txt requirements/tests.txt setup.* pyproject.toml; }

.PHONY: help install lint test smoke soak gpu-check docs comparison-check demo page real clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## +/  make \1\t/' | expand -t 25
	@echo 'Variables: TORCH=$(TORCH) PYTHON=$(PYTHON) SEEDS=$(SEEDS) JOBS=$(JOBS) PICTURES=$(PICTURES)'

install:  ## make .venv with all that mmps needs; nothing is compiled
	@$(STATE) | cmp -s - $(STAMP) || $(MAKE) --no-print-directory .venv

.PHONY: .venv
.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "mmps needs Python 3.10 or newer, and $(PYTHON) is older: name another one, as in: make PYTHON=python3.12 install")'
	@rm -f $(STAMP)
	@test -x $(PY) || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	@# A compiled mmcv that is there stays; mmcv-lite has the same folder.
	@$(PY) -m pip show -q mmcv 2>/dev/null && drop='^mmcv-lite|^torch==' || drop='^torch=='; \
	    grep -Ev "$$drop" requirements.txt > .venv/requirements.txt
	$(PY) -m pip --disable-pip-version-check install torch==$(TORCH) -r .venv/requirements.txt -r requirements/tests.txt -e .
	@$(STATE) > $(STAMP)

lint: install  ## style, types, and which module may import which
	$(PY) -m ruff check --output-format concise .
	$(PY) -m ruff format --check --quiet . || { echo "run: $(PY) -m ruff format ."; exit 1; }
	$(PY) -m mypy
	$(PY) -c 'from importlinter.cli import lint_imports_command as command; command()' --no-logo

test: lint  ## lint and all tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal $(ARGS)

smoke: install  ## a minute: each detector and a distillation train, predict and are scored on tiny scenes
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) -m smoke $(ARGS)

soak: install  ## the long tests, those of docs/reliability.md among them; what they measure goes to work_dirs/soak.jsonl
	mkdir -p work_dirs && rm -f work_dirs/soak.jsonl
	OMP_NUM_THREADS=1 MMPS_REPORT="$(CURDIR)/work_dirs/soak.jsonl" $(PY) -m pytest -m soak -v $(ARGS)

gpu-check: install  ## on a machine with GPUs: 20 minutes of checks, written to gpu-check.md to send back
	$(PY) tools/benchmarks/gpu_check.py $(ARGS)

docs: install  ## the documentation site, in docs/_build/html
	$(PY) -m pip install -q --disable-pip-version-check -r requirements/docs.txt
	$(PY) -m sphinx -E -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo 'docs/_build/html/index.html'

comparison-check: install  ## whether the tables of docs/comparison.md are those of the committed results
	@for results in docs/comparison/*/; do \
	    test ! -d "$$results" || $(PY) tools/benchmark.py --from "$$results" --page docs/comparison.md --check || exit 1; \
	done

demo: install  ## distil a small model on drawn scenes
	$(PY) tools/demo.py --seeds $(SEEDS)

page: install  ## a page on which to search persons: in PICTURES (a folder or video), or in drawn scenes
	test -n "$(PICTURES)" || $(PY) tools/make_synthetic.py data/synthps-mini --size mini --style classic
	$(PY) tools/index.py work_dirs/page.db $(if $(PICTURES),"$(PICTURES)" --stride 10,'data/synthps-mini/Image/SSM/s[1-4]?0.jpg')
	$(PY) tools/page.py work_dirs/page.db

real: install  ## train the model for photographs again: an hour, and mmps/weights/real.pth is replaced
	$(PY) tools/make_synthetic.py data/synthps-photo --size photo --layout cuhk-sysu --workers $(JOBS)
	$(PY) tools/train.py $(REAL) --resume --work-dir work_dirs/real
	$(PY) tools/model_converters/publish.py work_dirs/real/epoch_3.pth mmps/weights/real.pth --force

clean:  ## remove .venv and what tools left behind
	rm -rf .venv build dist docs/_build docs/pages *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
