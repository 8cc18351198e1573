# Two commands for a newcomer: `make demo` and `make test`. The rest is for those who change things.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo-run
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# One thread a test process: two processes of two threads would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: demo test test-slow coverage mutants sanitize lint check bench clean

$(VENV)/.installed: pyproject.toml setup.py $(wildcard seclcompress/kernel/csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group test
	touch $@

# Networks of other packages, for the slow tests. torch is there already and stays as it is.
$(VENV)/.zoo: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group zoo
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

# The main job on real scanned digits: train, convert, distil, count.
# On a busy machine, threads that spin while they wait cost more than those that sleep.
demo: export OMP_WAIT_POLICY := PASSIVE
demo: $(VENV)/.installed
	$(BIN)/seclcompress train resnet18 --data digits --epochs 10 --batch-size 64 --lr 0.05 \
	  --output-dir $(DEMO)/teacher --overwrite
	$(BIN)/seclcompress convert $(DEMO)/teacher --output-dir $(DEMO)/student --overwrite
	$(BIN)/seclcompress distill $(DEMO)/student --teacher $(DEMO)/teacher --data digits \
	  --epochs 24 --batch-size 64 --lr 0.05 --output-dir $(DEMO)/distilled --overwrite
	$(BIN)/seclcompress count $(DEMO)/distilled

# Everything that a change must pass; at most 15 minutes on 2 cores.
test: $(VENV)/.test
	$(PYTEST)

test-slow: $(VENV)/.zoo
	$(PYTEST) -m slow

# The fused kernel under the address, undefined-behaviour and thread sanitizers; needs g++ or clang++.
sanitize:
	$(MAKE) -C tests/kernel sanitize

# Lines and branches, of what `make test` runs; fails under 95 %.
coverage: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group coverage
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n 2
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Do the tests see every change of the mathematics, the costs, the plans and the families? Well over an
# hour on 2 cores; docs/mutation.md explains what survives. A second run tests only what has changed.
mutants: export OMP_NUM_THREADS := 1
mutants: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group mutation
	$(BIN)/mutmut run --max-children 2
	$(BIN)/mutmut results
	$(BIN)/python tests/mutants_left_out.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test test-slow

# Each prints its machine, threads, medians and spread.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/training_route.py
	$(BIN)/python benchmarks/kernel.py --threads 1 2
	$(BIN)/python benchmarks/lengths.py

clean:
	rm -rf $(VENV) $(DEMO) mutants build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
