# Two commands do all the set-up: `make run` and `make test`.
# PYTHON=… uses an interpreter that has everything already and installs nothing.

VENV := .venv

ifdef PYTHON
PY := $(PYTHON)
RUN_READY :=
TEST_READY :=
else
PY := $(VENV)/bin/python
RUN_READY := $(VENV)/run.stamp
TEST_READY := $(VENV)/test.stamp
endif

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test lint types contracts unit bench check-axolotl clean

run: $(RUN_READY)
	@$(PY) -m cpadvisor $(ARGS)

test: lint types contracts unit

lint: $(TEST_READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(TEST_READY)
	$(PY) -m pyright --pythonpath $(PY)

contracts: $(TEST_READY)
	$(PY) -c "import sys; from importlinter.cli import lint_imports_command; sys.argv = ['lint-imports']; lint_imports_command()"

unit: $(TEST_READY)
	$(PY) -m pytest

bench: $(TEST_READY)
	$(PY) -m benchmarks

# axolotl needs packages of its own, so its schema is asked in an environment of its own.
check-axolotl: $(TEST_READY)
	$(PY) -m benchmarks.check_axolotl

$(VENV)/bin/python:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cpadvisor needs Python 3.11 or newer; python3 is $$(python3 --version 2>&1)" >&2; exit 3; }
	python3 -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[train]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[train,test]'
	@touch $@ $(VENV)/run.stamp

clean:
	rm -rf $(VENV) .venv-axolotl build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache bench.json
