# Every target is one call of course.py, which does the same on Windows without make.
PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help lab test run build doctor plan check slides claims format clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab:  ## set up and open JupyterLab on your own copies of the course, in work/
	@$(PYTHON) course.py lab $(ARGS)

test:  ## set up and run every test and every notebook headless
	@$(PYTHON) course.py test $(ARGS)

run:  ## run all notebooks headless; a table at the end, copies and HTML under build/
	@$(PYTHON) course.py run $(ARGS)

plan:  ## will it fit? make plan ARGS="llama-3-8b --qlora --gpu 24"
	@$(PYTHON) course.py plan $(ARGS)

check:  ## check exercises: make check ARGS=work/exercises/01_formats.ipynb
	@$(PYTHON) course.py check $(ARGS)

doctor:  ## what this machine can do, and what each missing piece disables
	@$(PYTHON) course.py doctor $(ARGS)

build:  ## text sources -> executed notebooks, exercises, decks
	@$(PYTHON) course.py build $(ARGS)

slides:  ## build decks: make slides ARGS="01_formats --pdf"
	@$(PYTHON) course.py slides $(ARGS)

claims:  ## compute every claim of the register and write its page
	@$(PYTHON) course.py claims $(ARGS)

format:  ## format and lint the sources
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

clean:  ## remove what was built (not the environment)
	rm -rf build slides/build .pytest_cache .ruff_cache .hypothesis
