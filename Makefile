# make demo    install, then a video from a bundled photo: needs Python 3.11 to 3.13 and, once, a package index
# make test    all fast tests        make test-slow    the slow tests
# make lint    style and types       make clean        remove their output (environment: make distclean)
# make docs    documentation site, in build/site

PYTHON ?= python3
DEMO_PHOTO ?= examples/dress.jpg
DEMO_VIDEO ?= demo.mp4
# CI adds trt-rtx, which builds real engines without a GPU (Linux and Windows only).
EXTRAS ?= dev,train,onnx
# Each worker imports torch (half a gigabyte); more than four are slower on most machines.
PYTEST_ARGS ?= -n auto --maxprocesses 4 --dist worksteal

BIN := .venv/bin
STAMP := .venv/.installed

# Only the installation uses the network: the bundled model needs none.
export HF_HUB_OFFLINE := 1

.PHONY: setup demo test test-slow lint style types docs clean distclean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	  f"FashionFlow needs Python 3.11 to 3.13, but $(PYTHON) is {v.major}.{v.minor}: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP)
	$(BIN)/fashionflow generate $(DEMO_PHOTO) -o $(DEMO_VIDEO) --overwrite

# Helper processes of catalogues run at nice 10: the tests do as well, or they would wait for them.
test: $(STAMP)
	nice -n 10 $(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

# Tests of a file run in one process, since they share models and engines that are slow to create.
test-slow: $(STAMP)
	nice -n 10 $(BIN)/python -m pytest -m slow -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: style types

style: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/pyright

docs: $(STAMP)
	@$(BIN)/python -c 'import material' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python scripts/docs_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

clean:
	rm -rf dist build .pytest_cache .ruff_cache $(DEMO_VIDEO)

distclean: clean
	rm -rf .venv
