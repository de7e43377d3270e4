# Each target sets up what it needs in .venv by itself, and skips what is already there.
# Options: PYTHON=python3.12   ARGS="-k softmax"   WORKERS=0 (tests in one process)
#          FASTLOGITS_BUILD_ISA=v4 (compile for one instruction set alone)   FASTLOGITS_SKIP_EXTENSION=1 (for none)

PYTHON ?= python3
comma := ,
COMPILED := $(if $(filter 1,$(FASTLOGITS_SKIP_EXTENSION)),,cython$(comma))
REQUIRE := $(COMPILED)numba,scipy,ml_dtypes,dask,distributed,pandas,polars,xarray,array_api_strict,onnxruntime,torch,transformers,tensorflow,jax,h5py,pyarrow,safetensors,zarr,sphinx,mypy,basedpyright

# Two workers, whatever the machine: one compiles and runs the Numba backend, which takes as long as all the rest.
WORKERS ?= 2
# A test that hangs says where, and ends the run: xdist waits for ever for another worker in the place of a dead one.
HANGING := -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true --max-worker-restart=0
PYTEST = FASTLOGITS_REQUIRE=$(REQUIRE) $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(HANGING)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-input

# Where ccache is installed, what was compiled once, in whatever folder, is not compiled again.
COMPILER := $(if $(filter default,$(origin CC)),,$(CC))
CCACHE := $(if $(findstring ccache,$(COMPILER)),,$(shell command -v ccache))
COMPILE := $(if $(CCACHE),CCACHE_NOHASHDIR=1 CCACHE_BASEDIR="$(CURDIR)" CC="ccache $(or $(COMPILER),cc)")

# $(call quietly,line to say,command): the command's own output is shown only where it fails.
quietly = @echo "* $(1)"; $(2) > $(VENV)/log 2>&1 || { cat $(VENV)/log; echo "* failed: $(1)"; exit 1; }

.PHONY: help demo docs test test-all test-sanitized quick oldest lint built wheels clean
.PHONY: bench bench-quick bench-compare bench-publish bench-gate compare compare-frameworks compare-post cost-curve
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile
	@sed -n '2,3s/^# / /p' Makefile

demo: built $(VENV)/.demo $(VENV)/.frameworks ## train two small models and a Keras one, with the usual losses and with these
	@$(BIN)/python examples/train_digits.py
	@$(BIN)/python examples/train_language_model.py --steps 50
	@$(BIN)/python examples/keras_fit.py --epochs 1

# Runs the examples too, where they or the package have changed since the last time.
docs: built $(VENV)/.demo $(VENV)/.frameworks $(VENV)/.dev $(VENV)/.docs ## the documentation, in build/docs, with a gallery of examples
	$(BIN)/python -m sphinx -W --keep-going docs build/docs $(ARGS)
	@echo "* pages: build/docs/index.html"

test: built $(VENV)/.frameworks $(VENV)/.dev $(VENV)/.docs ## the whole test suite
	$(PYTEST) $(ARGS)

test-all: built $(VENV)/.frameworks $(VENV)/.dev $(VENV)/.docs ## with the tests that take minutes or gigabytes
	$(PYTEST) -m "" $(ARGS)
	$(MAKE) test-sanitized

# The compiled backend once more, built with AddressSanitizer and UBSan: the first fault ends the run. What is left out
# are the other backends and the frameworks, whose own memory would be watched too.
SANITIZED := build/sanitized
LEFT_OUT := adapters benchmarks build cancellation_adapters cli dask docs examples imports jax keras memory numba packaging places portable pressure scipy \
    results side streaming tables team tensorflow thread_counts torch xarray
test-sanitized: $(VENV)/.installed $(VENV)/.dev ## the compiled backend's tests under AddressSanitizer and UBSan
	FASTLOGITS_SANITIZE=1 $(BIN)/python setup.py --quiet build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	    FASTLOGITS_BACKEND=cython PYTHONPATH=$(CURDIR)/$(SANITIZED)/lib PYTHONSAFEPATH=1 $(BIN)/python -m pytest -m "" -p no:cacheprovider \
	    $(foreach name,$(LEFT_OUT),--ignore-glob='tests/test_$(name)*') $(ARGS)

quick: built $(VENV)/.test ## some tests, without any framework: make quick ARGS="tests/test_values.py -k softmax"
	$(BIN)/python -m pytest $(ARGS)

# With .venv-oldest, where each release is the lowest that pyproject.toml allows; `make test` has the newest.
oldest: ## the core's tests with the oldest versions supported
	@mkdir -p build
	@sed -nE 's/^.*"([A-Za-z_-]+)>=([0-9.]+)[^"]*".*/\1==\2.*/p' pyproject.toml | sort -V \
	    | awk -F = '{ bound[$$1] = $$0 } END { for (name in bound) print bound[name] }' > build/oldest.txt
	PIP_CONSTRAINT=$(CURDIR)/build/oldest.txt $(MAKE) quick VENV=.venv-oldest $(if $(ARGS),,ARGS=tests/test_values.py)

lint: $(VENV)/.lint ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

# The compiler's own look at what has changed takes two seconds, and forgets nothing that make would have to be told.
# -P: as wheels are built, without this folder on the path.
built: $(VENV)/.installed ## compile what has changed
	@test "$(FASTLOGITS_SKIP_EXTENSION)" = 1 || $(COMPILE) $(BIN)/python -P setup.py --quiet build_ext --inplace

# From an sdist, as an index would have it. cibuildwheel builds the others (pyproject.toml).
wheels: $(VENV)/.wheels ## an sdist, the wheel for this Python and system, and one without compiled kernels for any other; tested
	rm -rf dist
	$(COMPILE) $(BIN)/python -m build --outdir dist/raw
	FASTLOGITS_SKIP_EXTENSION=1 $(BIN)/python -m build --wheel --outdir dist
	mv dist/raw/*.tar.gz dist
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist dist/raw/*.whl
	rm -r dist/raw
	FASTLOGITS_WHEEL="$$(ls $(CURDIR)/dist/*linux*.whl)" $(BIN)/python -m pytest -m slow tests/test_packaging.py -k "wheel"

# BASE, of bench-compare and bench-gate, is the commit to compare with.
# asv builds each commit of RANGE in an environment of its own: RANGE=HEAD~12..HEAD. One benchmark: ARGS="--bench Softmax"
RANGE ?= HEAD^!
ASV = $(BIN)/asv $(1) --config benchmarks/asv.conf.json
# Not forked: JAX says that the child of a process with its threads may hang.
SPAWN := --launch-method spawn --show-stderr

bench: $(VENV)/.dev ## the asv suite, for this commit or RANGE
	$(call ASV,machine) --yes > /dev/null
	$(call ASV,run) $(SPAWN) $(RANGE) $(ARGS)

# The working tree, each benchmark once, nothing kept: does the suite run?
bench-quick: $(VENV)/.dev built ## the asv suite, each benchmark once
	$(call ASV,machine) --yes > /dev/null
	$(call ASV,run) $(SPAWN) --quick --environment existing:$(CURDIR)/$(BIN)/python $(ARGS)

bench-compare: $(VENV)/.dev ## this commit beside BASE
	$(call ASV,machine) --yes > /dev/null
	$(call ASV,continuous) $(SPAWN) --split --factor 1.15 $(or $(BASE),HEAD~1) HEAD $(ARGS)

bench-publish: $(VENV)/.dev ## the pages of the benchmarks' history
	$(call ASV,publish)
	@echo "* pages: $(call ASV,preview), or any web server in benchmarks/.asv/html"

bench-gate: $(VENV)/.dev built ## has the working tree become slower than BASE?
	$(BIN)/python benchmarks/gate.py $(or $(BASE),HEAD) $(ARGS)

compare: built $(VENV)/.frameworks $(VENV)/.dev ## every operation beside SciPy and the frameworks
	$(BIN)/python benchmarks/compare.py $(ARGS)

compare-frameworks: built $(VENV)/.frameworks $(VENV)/.dev ## each framework's own losses beside ours, eager and in graphs
	$(BIN)/python benchmarks/compare_frameworks.py $(ARGS)

# What comes after the logits (statistics, filters, sampling, calibration) beside the same from others: a minute.
compare-post: built $(VENV)/.frameworks $(VENV)/.dev ## what comes after the logits beside the same from others
	$(BIN)/python benchmarks/postprocessing.py $(ARGS)

cost-curve: built $(VENV)/.frameworks $(VENV)/.dev ## what a logit costs by the number of classes, and the picture of it
	$(BIN)/python benchmarks/curve.py $(ARGS)

clean: ## all that was installed and built
	rm -rf $(VENV) .venv-oldest build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	find fastlogits \( -name '*.so' -o -type d -empty \) -delete

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "fastlogits needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "* creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --upgrade-deps $(VENV) > /dev/null
	@touch $@

# The build requirements are read from pyproject.toml, their one place.
$(VENV)/.build-needs: pyproject.toml | $(VENV)/.python
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" \
	    > $(VENV)/build-requires.txt
	$(call quietly,installing what the build needs,$(PIP) -r $(VENV)/build-requires.txt)
	@touch $@

# Only a pointer to this folder: what is compiled goes there by itself.
$(VENV)/.installed: setup.py pyproject.toml $(wildcard adapters/*/__init__.py) $(VENV)/.build-needs
	$(call quietly,installing fastlogits,FASTLOGITS_SKIP_EXTENSION=1 $(PIP) --no-build-isolation -e .)
	@touch $@

# torch first and alone, so that nothing that depends on it brings another build.
$(VENV)/.frameworks: $(VENV)/.torch
$(VENV)/.dev: $(VENV)/.installed

$(VENV)/.demo $(VENV)/.dev $(VENV)/.docs $(VENV)/.frameworks $(VENV)/.lint $(VENV)/.test $(VENV)/.torch $(VENV)/.wheels: $(VENV)/.%: pyproject.toml | $(VENV)/.python
	$(call quietly,installing what $* needs (pyproject.toml: dependency-groups.$*),$(PIP) --group $*)
	@touch $@
