# Newcomers need two targets: `make demo` and `make test`. The others are for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo-run
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# One thread for each test process: on two cores, two processes of two threads would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: demo docs notebooks test test-slow test-exhaustive coverage mutants sanitize lint check bench clean

$(VENV)/.installed: pyproject.toml setup.py $(wildcard seclcompress/kernel/csrc/* seclcompress/kernel/csrc/onnxruntime/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group test
	touch $@

# What the slow tests need: packages with other networks, what drives a browser, what makes the site and the
# notebooks. torch is installed already and keeps its version.
$(VENV)/.zoo: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group zoo --group trackers --group browser --group docs --group notebooks
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group docs --group notebooks
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

# The whole workflow on real scanned digits: train, convert, distil, count, and a page to show. The policy makes waiting
# threads sleep: on a busy machine, spinning ones cost more.
demo: export OMP_WAIT_POLICY := PASSIVE
demo: $(VENV)/.installed
	$(BIN)/seclcompress train resnet18 --data digits --epochs 10 --batch-size 64 --lr 0.05 \
	  --output-dir $(DEMO)/teacher --overwrite
	$(BIN)/seclcompress convert $(DEMO)/teacher --output-dir $(DEMO)/student --overwrite
	$(BIN)/seclcompress distill $(DEMO)/student --teacher $(DEMO)/teacher --data digits \
	  --epochs 24 --batch-size 64 --lr 0.05 --output-dir $(DEMO)/distilled --overwrite
	$(BIN)/seclcompress count $(DEMO)/distilled
	$(BIN)/seclcompress report $(DEMO)/distilled --data digits --output $(DEMO)/report.html --overwrite

# The documentation as a site, in site/: open site/index.html.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Makes the notebooks of examples/ from its scripts, which are what is edited.
notebooks: $(VENV)/.docs
	$(BIN)/python examples/make_notebooks.py

# The tests that every change must pass; at most 15 minutes on 2 cores.
test: $(VENV)/.test
	$(PYTEST)

test-slow: $(VENV)/.zoo
	$(PYTEST) -m slow

# What `make test-slow` takes a part of: larger networks (tests/thinned.py), more cases, seeds and kills, and examples
# that how-to pages repeat.
test-exhaustive: $(VENV)/.zoo
	$(PYTEST) -m exhaustive

# Runs the fused kernel under the address, undefined-behaviour and thread sanitizers. Needs g++ or
# clang++.
sanitize:
	$(MAKE) -C tests/kernel sanitize

# Measures the lines and branches that `make test` runs; fails under 95 %.
coverage: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --group coverage
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n 2
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Finds changes of the mathematics, the costs, the plans and the families that the tests do not notice.
# Takes well over an hour on 2 cores; docs/mutation.md explains the survivors. A second run tests only
# what has changed.
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

# Each benchmark prints the machine, the threads, medians and the spread.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/training_route.py
	$(BIN)/python benchmarks/kernel.py --threads 1 2
	$(BIN)/python benchmarks/lengths.py

clean:
	rm -rf $(VENV) $(DEMO) mutants build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
