# Every command of the project. `make` alone lists them.
#
# make run ARGS="-p PROFILE quick"   passes parameters to the notebook
# make test ARGS="-k split"          passes arguments to pytest
# make clean run CONSTRAINTS=        installs the newest supported versions instead
# make run PYTHON=/path/to/python    builds the virtual environment with that Python

NOTEBOOK := assignment_2.ipynb
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
ARGS ?=
OUT := logs/$(shell date +%Y-%m-%d_%H-%M-%S)

# A candidate is executed, not just looked up: a command that exists may not work.
# Debian's Python has no ensurepip until python3-venv is installed.
USABLE := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	if $$python -c "$(USABLE)" 2>/dev/null; then echo $$python; break; fi; done)

ACTIVATE = . $(VENV)/bin/activate &&
ANNOUNCE = @sed -n 's/^$@:.*\#\# /$@: /p' Makefile
PAPERMILL = papermill --kernel python3 $(NOTEBOOK) $(OUT)/$(NOTEBOOK)

# The virtual environment's own kernel, whatever kernels the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1
unexport JUPYTER_PATH
unexport MPLBACKEND

.DEFAULT_GOAL := help
.PHONY: help run test stress lint lab tensorboard handin publish clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-12s %s\n", $$1, $$2}' Makefile

run: $(VENV)/run.stamp  ## run the whole notebook, as HTML too, into logs/ (9 minutes on the sample, 3 minutes on the assignment's data)
	$(ANNOUNCE)
	@mkdir -p $(OUT)
	@$(ACTIVATE) $(PAPERMILL) $(ARGS) || \
		{ echo "A cell failed. $(OUT)/$(NOTEBOOK) shows which." >&2; exit 1; }
	@$(ACTIVATE) jupyter nbconvert --log-level ERROR --to html $(OUT)/$(NOTEBOOK)
	@echo "Notebook: $(OUT)/$(NOTEBOOK)"
	@echo "HTML:     $(OUT)/$(NOTEBOOK:.ipynb=.html)"

test: $(VENV)/dev.stamp  ## run the tests (15 minutes)
	$(ANNOUNCE)
	@$(ACTIVATE) python -m pytest $(ARGS)

stress: $(VENV)/dev.stamp  ## run the long tests: large data, interruptions (2 minutes)
	$(ANNOUNCE)
	@$(ACTIVATE) python -m pytest -m stress $(ARGS)

lint: $(VENV)/dev.stamp  ## check the style of the notebook and all scripts (seconds)
	$(ANNOUNCE)
	@$(ACTIVATE) ruff check && ruff format --check

lab: $(VENV)/run.stamp  ## open the notebook in JupyterLab (seconds)
	$(ANNOUNCE)
	@$(ACTIVATE) jupyter lab $(NOTEBOOK) $(ARGS)

tensorboard: $(VENV)/run.stamp  ## show the training curves in logs/ in the browser (seconds)
	$(ANNOUNCE)
	@$(ACTIVATE) tensorboard --logdir logs $(ARGS)

handin: $(VENV)/run.stamp  ## assignment B's report and code as one zip file: make handin GROUP=1 STUDENTS="Name, number; Name, number" (seconds)
	$(ANNOUNCE)
	@$(ACTIVATE) python handin.py --group "$(GROUP)" --students "$(STUDENTS)" $(ARGS)

# The committed outputs are those of a plain Run All, without the times of its cells.
publish: $(VENV)/run.stamp  ## maintainers: renew the shipped weights, results and outputs (5 minutes)
	$(ANNOUNCE)
	@mkdir -p $(OUT)
	@$(ACTIVATE) $(PAPERMILL) -p PUBLISH True $(ARGS)
	@$(ACTIVATE) jupyter nbconvert --to notebook --execute --inplace $(NOTEBOOK) \
		--ExecutePreprocessor.kernel_name=python3 \
		--ExecutePreprocessor.record_timing=False

clean:  ## delete the virtual environment and caches; data, logs and weights stay
	$(ANNOUNCE)
	@rm -rf $(VENV) .pytest_cache .ruff_cache
	@find . \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

$(VENV)/run.stamp: requirements.txt $(CONSTRAINTS)
	@$(or $(PYTHON),false) -c "$(USABLE)" 2>/dev/null || { echo \
		"No Python 3.11, 3.12 or 3.13 with the venv module was found." \
		"On Debian or Ubuntu: sudo apt-get install python3-venv." \
		"Elsewhere: make PYTHON=/path/to/python ..." >&2; exit 1; }
	@echo "Installing into $(VENV) (once, about 1 minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(ACTIVATE) python -m pip install --quiet -r requirements.txt $(CONSTRAINTS:%=-c %)
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	@$(ACTIVATE) python -m pip install --quiet -r requirements-dev.txt $(CONSTRAINTS:%=-c %)
	@touch $@
