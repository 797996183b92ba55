# What one can do here. `make demo` and `make test` do all their own set-up on a bare machine:
# Python 3.10 to 3.13 with venv and pip, gcc, make.
PYTHON ?= python3
VENV   ?= .venv
RUN    := $(VENV)/bin
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test lint figures bench-parts bench-compare clean

demo: $(VENV)/.demo  ## compress and restore a real heart, show it
	$(RUN)/python -m benchmarks.demo

test: $(VENV)/.test  ## linters, then the whole test suite
	$(MAKE) --no-print-directory lint
	$(RUN)/python -m pytest

lint: $(VENV)/.test
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	PYTHONPATH=. $(RUN)/lint-imports

figures: $(VENV)/.test  ## this codec and its peers on the CC0 cine: docs/figures
	$(RUN)/edge-codec bench rd examples/sunnybrook_scd0000301_slice.nii.gz --out docs/figures --force

PARTS := -m pytest benchmarks/suite -q -o python_files='bench_*.py' -o python_functions='bench_*' \
	-o filterwarnings= --benchmark-storage=file://benchmarks/baselines \
	--benchmark-columns=min,median,iqr,rounds --benchmark-sort=name

bench-parts: $(VENV)/.test  ## time the parts, save under benchmarks/baselines
	$(RUN)/python $(PARTS) --benchmark-save=parts

bench-compare: $(VENV)/.test  ## time the parts, beside what was saved last
	$(RUN)/python $(PARTS) --benchmark-compare

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml setup.py $(wildcard edge_codec/*/*.[ch] edge_codec/*/*/*.[ch] runtime/*/*.[ch]) | $(VENV)/bin/python
	$(RUN)/python -m pip install --quiet --editable '.[plot]'
	touch $@

$(VENV)/.test: pyproject.toml setup.py $(wildcard edge_codec/*/*.[ch] edge_codec/*/*/*.[ch] runtime/*/*.[ch]) \
		$(wildcard tests/stub_tensorrt/*) tests/browser/install.sh | $(VENV)/bin/python
	$(RUN)/python -m pip install --quiet --editable '.[dev]'
	$(RUN)/python tests/stub_tensorrt/install.py
	sh tests/browser/install.sh
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build out *.egg-info
