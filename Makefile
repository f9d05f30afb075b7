# make demo: the whole chain on generated videos.   make check: linters and quick tests.   make test: all but four long ones.
# make soak: these four, minutes each.   make gpu: what a GPU saves.   make docs: generated pages and the site of docs/.
# All set up .venv first.
SHELL := /bin/bash
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
PIP := python -m pip install --quiet --disable-pip-version-check --no-compile --no-cache-dir # 6 GB, not 9
# Bytecode is kept, whatever the environment says: else each of many processes compiles Snakemake and PyTorch anew.
export PYTHONDONTWRITEBYTECODE :=
DEMO := snakemake --configfile config/demo.yaml --cores all --rerun-incomplete

.PHONY: demo check test soak gpu lint docs
# The longest files come first. Three at once fill two cores, as some wait.
PYTEST := OMP_NUM_THREADS=1 pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

demo: $(BIN)/.installed
	snakemake --configfile config/demo.yaml --unlock # a lock left by a killed run
	$(DEMO) all
	test -z "$$(find results/tables results/plots -newer results/report.html 2>&1)" || $(DEMO) --report results/report.html
	@cd results/tables; for part in findings full_size shapes; do echo; cat $$part.md; done; echo
	@ls results/tables/*.md results/plots/*.png results/report.html

check: lint
	$(PYTEST) -m 'not slow'

test: lint
	snakemake --lint
	$(PYTEST) -m 'not soak' tests/test_workflow*.py tests/test_s*.py tests/test_w[!o]*.py tests/test_[!sw]*.py

soak: $(BIN)/.installed-test # tests that take minutes each: a SLURM cluster, kills, repaired videos, a simulation
	$(PYTEST) -m soak

gpu: $(BIN)/.installed-test # results/gpu-DATE.md; a line and nothing else where PyTorch finds no GPU
	python -m centerclip.bench.gpu --out results/gpu-$$(date +%F)
	pytest -rs tests/test_gpu.py tests/test_kernel.py -k OnAGPU

lint: $(BIN)/.installed-test
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow

docs: $(BIN)/.installed-docs # config/README.md and the schema file; site/, which `python -m http.server --directory site` shows
	python docs/config_docs.py
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml

$(BIN)/.installed: pyproject.toml
	test -x $(BIN)/python || python3 -m venv .venv
	$(PIP) --editable .
	touch $@

$(BIN)/.installed-test: $(BIN)/.installed
	$(PIP) --editable '.[test]'
	touch $@

$(BIN)/.installed-docs: $(BIN)/.installed
	$(PIP) --editable '.[docs]'
	touch $@
