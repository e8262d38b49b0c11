# Two commands are enough: `make demo` and `make test`. Each makes its own environment on first use.
PYTHON  ?= python3
VENV    ?= .venv
IMG     ?= examples/astronaut.png
DATA    ?= data
RUNS    ?= runs
TEACHER ?= teacher.ts
JUDGE   ?=
VERSION ?= 1
REPORT  ?= report
JOBS    ?= 2
LIMIT   ?=
NEURAL  ?= $(RUNS)/hyperprior/checkpoint.safetensors

RUN   := $(VENV)/bin/python
BESIDE = $(if $(wildcard $(NEURAL)),--neural $(NEURAL))
EVAL   = --jobs $(JOBS) --out $(REPORT) $(if $(LIMIT),--limit $(LIMIT))
STAMP := $(VENV)/.made-from-project

.DEFAULT_GOAL := help
.PHONY: help demo check test coverage vectors newvectors exactness fuzz bench train evaluate

help:  ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 picks the interpreter, IMG=photo.jpg the picture of the demo."

# pip reads its own configuration: name PyTorch's index of CPU wheels there to spare a Linux machine the CUDA ones.
$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## encode IMG, say where its bytes went, and draw a contact sheet under demo/
	@$(RUN) examples/demo.py $(IMG)

check: $(STAMP)  ## lint, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: $(STAMP)  ## run the tests
	$(RUN) -m pytest

coverage: $(STAMP)  ## run the tests and show the branches that none of them takes
	$(RUN) -m pytest --cov

vectors: $(STAMP)  ## hold the decoder and the reference decoder against the conformance vectors
	$(RUN) -m pytest tests/test_vectors.py

newvectors: $(STAMP)  ## write the conformance vectors that are missing; never one twice
	$(RUN) tests/make_vectors.py

exactness: $(STAMP)  ## decode 200 pictures of DATA in every way there is, and compare
	$(RUN) tests/exactness.py $(DATA)/test.jsonl

fuzz: $(STAMP)  ## feed hostile bytes for longer than the tests do
	$(RUN) -m pytest --hypothesis-profile=fuzz -k "hostile or fuzz or any_bytes"

bench: $(STAMP)  ## warm encode and decode time, and memory, of IMG
	$(RUN) -m facecodec bench $(IMG)

train: $(STAMP)  ## train every network on DATA with TEACHER into RUNS, going on from what is there, and freeze
	$(RUN) -m facecodec train detector --data $(DATA) --runs $(RUNS)
	$(RUN) -m facecodec train embedding --data $(DATA) --runs $(RUNS) --teacher $(TEACHER)
	$(RUN) -m facecodec train preview --data $(DATA) --runs $(RUNS) --teacher $(TEACHER)
	$(RUN) -m facecodec train texture --data $(DATA) --runs $(RUNS)
	$(RUN) -m facecodec train regions --data $(DATA) --runs $(RUNS) --teacher $(TEACHER)
	$(RUN) -m facecodec train hyperprior --data $(DATA) --runs $(RUNS)
	$(RUN) -m facecodec train freeze preview --data $(DATA) --runs $(RUNS) --version $(VERSION)
	$(RUN) -m facecodec train freeze texture --data $(DATA) --runs $(RUNS) --version $(VERSION)

evaluate: $(STAMP)  ## measure the weights on the sets under DATA into REPORT, with the recogniser JUDGE if there is one
	$(RUN) -m facecodec eval rd --images $(DATA)/test.jsonl --walk 4 $(EVAL) $(BESIDE)
	$(RUN) -m facecodec eval verify --images $(DATA)/lfw-dev.jsonl --pairs $(DATA)/lfw-dev-pairs.csv $(EVAL)
	$(if $(JUDGE),$(RUN) -m facecodec eval verify --images $(DATA)/lfw-dev.jsonl --pairs $(DATA)/lfw-dev-pairs.csv $(EVAL) --judge $(JUDGE) --chips 128 $(BESIDE))
	$(if $(JUDGE),$(RUN) -m facecodec eval verify --images $(DATA)/lfw-dev.jsonl --pairs $(DATA)/lfw-dev-pairs.csv $(EVAL) --judge $(JUDGE) --chips 128 --tune recognition $(BESIDE))
	$(RUN) -m facecodec eval faces1024 --images $(DATA)/lfw-dev.jsonl $(EVAL) --chips 128 $(if $(JUDGE),--judge $(JUDGE) --pairs $(DATA)/lfw-dev-pairs.csv,--limit 200)
	$(RUN) -m facecodec eval robust --images $(DATA)/lfw-dev.jsonl --pairs $(DATA)/lfw-dev-pairs.csv $(EVAL)
	$(RUN) -m facecodec eval previews --images $(DATA)/test.jsonl $(EVAL) $(if $(JUDGE),--judge $(JUDGE))
	$(RUN) -m facecodec eval groups --images $(DATA)/test.jsonl --labels group $(EVAL) $(if $(JUDGE),--judge $(JUDGE))
	$(RUN) -m facecodec eval groups --images $(DATA)/test.jsonl --labels gender $(EVAL) $(if $(JUDGE),--judge $(JUDGE))
	$(RUN) -m facecodec eval groups --images $(DATA)/test.jsonl --labels age --bands 20,40,60 $(EVAL) $(if $(JUDGE),--judge $(JUDGE))
	$(RUN) -m facecodec eval faces --images $(DATA)/lfw-dev.jsonl $(EVAL)
