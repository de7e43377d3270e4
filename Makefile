# `make demo` and `make test` set up .venv by themselves and skip what is already there.
# Options: PYTHON=python3.12   ARGS="-k softmax"   FASTLOGITS_SKIP_EXTENSION=1   WORKERS=0 (tests in one process)

PYTHON ?= python3
REQUIRE := cython,numba,scipy,ml_dtypes,dask,distributed,xarray,torch,transformers,tensorflow,jax,h5py,pyarrow,safetensors,zarr,sphinx
DEMO_NEEDS := scipy scikit-learn matplotlib

# Two workers, whatever the machine: one compiles and runs the Numba backend, which takes as long as all the rest.
WORKERS ?= 2
PYTEST = FASTLOGITS_REQUIRE=$(REQUIRE) $(BIN)/python -m pytest -n $(WORKERS)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-input
SOURCES := setup.py pyproject.toml $(wildcard fastlogits/kernels/*.* fastlogits/backends/*.px? adapters/*/__init__.py adapters/*/*.pyx adapters/*/*.h)

# $(call quietly,line to say,command): the command's own output is shown only where it fails.
quietly = @echo "* $(1)"; $(2) > $(VENV)/log 2>&1 || { cat $(VENV)/log; echo "* failed: $(1)"; exit 1; }

.PHONY: demo docs test test-all test-sanitized lint bench bench-quick bench-compare bench-publish bench-gate compare compare-post clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(VENV)/.built $(VENV)/.demo $(VENV)/.frameworks
	@$(BIN)/python examples/train_digits.py
	@$(BIN)/python examples/train_language_model.py --steps 50
	@$(BIN)/python examples/keras_fit.py --epochs 1

# Runs the examples too, where they or the package have changed since the last time.
docs: $(VENV)/.built $(VENV)/.demo $(VENV)/.frameworks $(VENV)/.dev $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going docs build/docs $(ARGS)
	@echo "* pages: build/docs/index.html"

test: $(VENV)/.built $(VENV)/.frameworks $(VENV)/.dev $(VENV)/.docs
	$(PYTEST) $(ARGS)

test-all: $(VENV)/.built $(VENV)/.frameworks $(VENV)/.dev $(VENV)/.docs
	$(PYTEST) -m "" $(ARGS)
	$(MAKE) test-sanitized

# The compiled backend once more, built with AddressSanitizer and UBSan: the first fault ends the run. What is left out
# are the other backends and the frameworks, whose own memory would be watched too.
SANITIZED := build/sanitized
LEFT_OUT := adapters cli dask docs examples imports jax keras memory packaging scipy side streaming tensorflow torch
test-sanitized: $(VENV)/.built $(VENV)/.dev
	FASTLOGITS_SANITIZE=1 $(BIN)/python setup.py --quiet build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	    FASTLOGITS_BACKEND=cython PYTHONPATH=$(CURDIR)/$(SANITIZED)/lib PYTHONSAFEPATH=1 $(BIN)/python -m pytest -m "" -p no:cacheprovider \
	    $(foreach name,$(LEFT_OUT),--ignore-glob='tests/test_$(name)*') $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .

# BASE, of bench-compare and bench-gate, is the commit to compare with.
# asv builds each commit of RANGE in an environment of its own: RANGE=HEAD~12..HEAD. One benchmark: ARGS="--bench Softmax"
RANGE ?= HEAD^!
ASV = $(BIN)/asv $(1) --config benchmarks/asv.conf.json
# Not forked: in a process forked from one that has imported us, we run on one thread.
SPAWN := --launch-method spawn --show-stderr

bench: $(VENV)/.dev
	$(call ASV,machine) --yes > /dev/null
	$(call ASV,run) $(SPAWN) $(RANGE) $(ARGS)

# The working tree, each benchmark once, nothing kept: does the suite run?
bench-quick: $(VENV)/.dev $(VENV)/.built
	$(call ASV,machine) --yes > /dev/null
	$(call ASV,run) $(SPAWN) --quick --environment existing:$(CURDIR)/$(BIN)/python $(ARGS)

bench-compare: $(VENV)/.dev
	$(call ASV,machine) --yes > /dev/null
	$(call ASV,continuous) $(SPAWN) --split --factor 1.15 $(or $(BASE),HEAD~1) HEAD $(ARGS)

bench-publish: $(VENV)/.dev
	$(call ASV,publish)
	@echo "* pages: $(call ASV,preview), or any web server in benchmarks/.asv/html"

bench-gate: $(VENV)/.dev $(VENV)/.built
	$(BIN)/python benchmarks/gate.py $(or $(BASE),HEAD) $(ARGS)

compare: $(VENV)/.built $(VENV)/.frameworks $(VENV)/.dev
	$(BIN)/python benchmarks/compare.py $(ARGS)

# What comes after the logits (statistics, filters, sampling, calibration) beside the same from others: a minute.
compare-post: $(VENV)/.built $(VENV)/.frameworks $(VENV)/.dev
	$(BIN)/python benchmarks/postprocessing.py $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	find fastlogits \( -name '*.so' -o -type d -empty \) -delete

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "fastlogits needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "* creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The build requirements are read from pyproject.toml, their one place.
$(VENV)/.build-needs: pyproject.toml | $(VENV)/.created
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" \
	    > $(VENV)/build-requires.txt
	$(call quietly,installing what the build needs,$(PIP) -r $(VENV)/build-requires.txt)
	@touch $@

$(VENV)/.built: $(SOURCES) $(VENV)/.build-needs
	@test -n "$(FASTLOGITS_SKIP_EXTENSION)" || command -v $(firstword $(CC)) > /dev/null || { \
	    echo "No C compiler ($(CC)): install GCC or Clang, or do without: make FASTLOGITS_SKIP_EXTENSION=1 $(MAKECMDGOALS)"; exit 1; }
	$(call quietly,compiling fastlogits,$(PIP) --no-build-isolation -e .)
	@touch $@

$(VENV)/.demo: Makefile | $(VENV)/.created
	$(call quietly,installing $(DEMO_NEEDS),$(PIP) $(DEMO_NEEDS))
	@touch $@

# torch first and alone, so that nothing that depends on it brings another build.
$(VENV)/.torch: requirements-dev.txt | $(VENV)/.created
	$(call quietly,installing torch (its size makes this slow the first time),$(PIP) $$(grep ^torch== requirements-dev.txt))
	@touch $@

$(VENV)/.frameworks: requirements-dev.txt $(VENV)/.torch | $(VENV)/.created
	$(call quietly,installing the other frameworks,$(PIP) -r requirements-dev.txt)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.built
	$(call quietly,installing the test tools,$(PIP) "fastlogits[dev]")
	@touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/.built
	$(call quietly,installing what the documentation needs,$(PIP) "fastlogits[docs]")
	@touch $@
