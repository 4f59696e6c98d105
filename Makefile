# Every target is one call of course.py, which does the same on Windows without make.
PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help lab test run build doctor format clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab:  ## set up and open JupyterLab on the course
	@$(PYTHON) course.py lab $(ARGS)

test:  ## set up and run every test and every notebook headless
	@$(PYTHON) course.py test $(ARGS)

run:  ## run all notebooks headless; a table at the end, copies and HTML under build/
	@$(PYTHON) course.py run $(ARGS)

build:  ## text sources -> executed notebooks, exercises, decks
	@$(PYTHON) course.py build $(ARGS)

doctor:  ## what this machine can do, and what each missing piece disables
	@$(PYTHON) course.py doctor $(ARGS)

format:  ## format and lint the sources
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

clean:  ## remove what was built (not the environment)
	rm -rf build slides/build .pytest_cache .ruff_cache .hypothesis
