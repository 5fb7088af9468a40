# make demo    the whole road on rendered photos: train, evaluate, find garments   (a few minutes)
# make test    the test suite
# make lint    style
#
# Each creates .venv from env.txt when it is missing or env.txt has changed. PYTHON picks another
# interpreter for it: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint clean-demo

$(READY): env.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r env.txt
	touch $@

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
