# make app        the app, in a virtual environment of its own
# make test       the test suite, browser included, under 15 minutes on 2 cores
# make test-long  what takes longer: demo recipes, sweeps, long stops
# make checkpoints  train the runs that ship with the product, from fixed seeds

PYTHON ?= python3
PY := .venv/bin/python
VENV = test -x $(PY) || { $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	"Python 3.11 or newer is needed: make PYTHON=python3.11 ...")' && $(PYTHON) -m venv .venv; }

.PHONY: app test test-long checkpoints format

app: .venv/app
	$(PY) -m streamlit run app/main.py

test: .venv/test
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-long: .venv/test
	$(PY) -m pytest -m long --timeout 3600

checkpoints: .venv/app
	$(PY) -m reid_core.ship

format: .venv/test
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# `python -m pip` and no activated environment: the path of this folder may hold spaces.
.venv/app: requirements.txt
	$(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/test: requirements-dev.txt requirements.txt
	$(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ .venv/app
