# make demo    runs the whole pipeline on rendered photos and shows the results (a few minutes)
# make test    runs the test suite, two files at a time (JOBS=8 for more)
# make lint    checks style and formatting
#
# Each first creates .venv from env.txt if it is missing or env.txt has changed, with python3 or the
# interpreter named by PYTHON: make test PYTHON=python3.12

PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint

$(READY): env.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r env.txt
	touch $@

demo: $(READY)
	$(BIN)/python tools/demo.py

test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
