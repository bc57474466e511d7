# Tandem. `make demo` and `make test` do all the set-up themselves; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
READY := $(VENV)/.ready
BUNDLE ?= bundles/ml-100k/current
DATA ?= ml-100k
REVIEWS ?=
ARGS ?=
VERSION ?=

# Every package by version and hash, made by `make lock`; torch, which is in none of these, by its
# version in pyproject.toml.
LOCKS := deploy/requirements
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' --no-emit-package tandem-recsys-client $(ARGS)
TORCH := $(shell grep -o 'torch==[0-9.]*' pyproject.toml)

# Python keeps what it compiled, also where the environment says that it must not: else each process
# compiles torch and transformers anew, which takes it ten seconds and more.
unexport PYTHONDONTWRITEBYTECODE

# Oldest grpcio-tools whose code runs on today's protobuf: its version is the floor for callers.
PROTOC := $(UV) run --no-project --isolated --with grpcio-tools==1.72.2 \
	--with mypy-protobuf==5.1.0 python -m grpc_tools.protoc -I protos -I protos/third_party
PROTOS := $(wildcard protos/tandem/v1/*.proto)

# Side by side, and one thread each, so that the processes do not take the cores from each other.
# The longest files begin, so that no process has one left when the others are done.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest tests/pipeline tests \
	--numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

CYCLONEDX := $(UV) run --no-project --isolated --with cyclonedx-bom==7.5.0 cyclonedx-py

# Without an NVIDIA GPU, PyTorch's own index has a wheel a tenth the size of PyPI's. Whether it can
# be reached is found out in seconds, by asking it for the one package.
TORCH_BACKEND = $(shell command -v nvidia-smi >/dev/null 2>&1 || [ "$$(uname -s)" != Linux ] || \
	(echo $(TORCH) | UV_HTTP_TIMEOUT=5 UV_HTTP_RETRIES=0 timeout 20 $(UV) pip compile --quiet \
	--no-deps --no-header --torch-backend=cpu - >/dev/null 2>&1 && echo --torch-backend=cpu))

.PHONY: help demo demo-reviews test test-all test-browser lint lock sbom release protos check-protos \
	load bench-generator bench-text bench-candidate bench-gateway bench-hedging soak soak-operate \
	prove reproduce gpu-check check-callers otelcol release-image clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(UV): $(LOCKS)/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit("Tandem needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCKS)/uv.txt
	@touch $@

# The distributions come last, without dependencies, so that no index is asked for their names.
$(READY): $(UV) $(LOCKS)/development.txt pyproject.toml protos/pyproject.toml
	$(UV) pip install --python $(BIN)/python --no-deps --require-hashes -r $(LOCKS)/development.txt
	$(UV) pip install --python $(BIN)/python $(TORCH_BACKEND) $(TORCH)
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation -e ./protos -e .
	@touch $@

demo: $(READY) ## MovieLens-100K to recommendations from three running services
	$(BIN)/tandem build ml-100k
	$(BIN)/tandem demo --user 196

# Shares that give each text a pass in every epoch or two; ARGS overrides them.
demo-reviews: $(READY) ## five families of one model, from reviews: REVIEWS=reviews.jsonl.gz
	@[ -n "$(REVIEWS)" ] || { echo "name a file of reviews: make demo-reviews REVIEWS=reviews.jsonl.gz" >&2; exit 2; }
	$(BIN)/tandem build --name reviews --interactions "$(REVIEWS)" --rating-column rating \
		--review-column review --summary-column summary \
		--family explanation=12 --family review=6 $(ARGS)
	for family in direct rating explanation review; do \
		$(BIN)/tandem evaluate --bundle bundles/reviews/current --family $$family; \
	done
	$(BIN)/tandem demo --bundle bundles/reviews/current

test: $(READY) ## the tests that show each behavior once, in minutes
	$(PYTEST) -m "not slow and not browser"

test-all: $(READY) ## all tests, as CI runs them
	$(PYTEST) -m "not browser"

test-browser: $(READY) ## the console's pages in the machine's Chromium (Debian: chromium)
	$(UV) pip install --quiet --target build/browser playwright==1.65.2
	PYTHONPATH=build/browser $(BIN)/python -m pytest -m browser tests/console

lint: $(READY) check-protos ## ruff, mypy --strict, import-linter, buf
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint
	cd protos && ../$(BIN)/buf build -o - | ../$(BIN)/buf breaking - --against released.binpb
	$(BIN)/hadolint deploy/*.Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml

load: $(READY) ## load on the running services, by ghz: every strategy, and SimilarItems
	$(BIN)/python -m bench.load --bundle $(BUNDLE)

bench-generator: $(READY) ## the decoding engine beside others, batching, the catalog, precisions
	$(UV) pip install --quiet --python $(BIN)/python -e '.[bench]'
	$(BIN)/python -m bench.generator
	$(BIN)/python -m bench.batching
	$(BIN)/python -m bench.catalog
	$(BIN)/python -m bench.precision --bundle $(BUNDLE)
	$(BIN)/python -m bench.decoding.rows --bundle $(BUNDLE)
	$(BIN)/python -m bench.decoding.proofs --bundle $(BUNDLE)

bench-text: $(READY) ## texts beside transformers and CTranslate2
	$(UV) pip install --quiet --python $(BIN)/python -e '.[bench]'
	$(BIN)/python -m bench.text

bench-candidate: $(READY) ## vector search against FAISS, calls against an echo, a live catalog, memory
	$(BIN)/python -m bench.index
	$(BIN)/python -m bench.candidate --bundle $(BUNDLE)
	$(BIN)/python -m bench.memory --bundle $(BUNDLE)

bench-gateway: $(READY) ## the gateway: beside an echo, by stage, in overload, in bulk
	$(BIN)/python -m bench.gateway --bundle $(BUNDLE)

bench-hedging: $(READY) ## the gateway while some searches are late
	$(BIN)/python -m bench.hedging --bundle $(BUNDLE)

soak: $(READY) ## ten minutes of mixed calls while the catalog changes, every answer checked
	$(BIN)/python -m tests.robustness.soak

soak-operate: $(READY) ## all three processes, swapped, changed and cut off: ARGS="--minutes 60"
	$(BIN)/python -m tests.robustness.operate $(ARGS)

prove: $(READY) ## what the generator is worth on DATA, arm by arm: ARGS="--minutes 30" and again
	$(BIN)/python -m bench.prove $(DATA) $(ARGS)

reproduce: $(READY) ## the tables of DATA, such as ml-100k, for docs/results
	$(BIN)/python -m bench.reproduce $(DATA) $(ARGS)

gpu-check: $(READY) ## with CUDA: train, evaluate and serve a larger generator in eight minutes
	$(BIN)/python -m bench.gpu_check $(DATA) $(ARGS)

check-callers: $(READY) ## build the examples in Go, Node and Java, and compare them with Python's
	$(BIN)/python -m tests.kit.callers

otelcol: build/otelcol ## the OpenTelemetry Collector that tests send traces through; needs Go

build/otelcol: $(wildcard tests/pipeline/collector/*)
	cd tests/pipeline/collector && go build -trimpath -ldflags=-s -buildvcs=false -o $(abspath $@) .

lock: $(UV) ## what changed in pyproject.toml into the locks; all to the newest: ARGS=--upgrade
	echo uv | $(LOCK) --output-file $(LOCKS)/uv.txt -
	$(LOCK) --extra offline --extra dev --no-emit-package torch \
		--overrides $(LOCKS)/without_nvidia.txt --output-file $(LOCKS)/development.txt pyproject.toml
	for process in candidate generator gateway; do \
		$(LOCK) --extra $$process $$([ $$process = gateway ] && echo --extra storage) \
			--constraints $(LOCKS)/development.txt \
			--output-file $(LOCKS)/$$process.txt pyproject.toml; done

sbom: $(READY) ## CycloneDX bills of materials, of this environment and of each image, in build/sbom
	@mkdir -p build/sbom
	@$(CYCLONEDX) environment --pyproject pyproject.toml --output-file build/sbom/development.cdx.json \
		$(BIN)/python
	@for process in candidate generator gateway; do \
		$(CYCLONEDX) requirements --pyproject pyproject.toml \
			--output-file build/sbom/$$process.cdx.json $(LOCKS)/$$process.txt; done

release: $(READY) ## check everything, then write VERSION=1.2.3 where it stands, commit and tag it
	$(BIN)/python -m deploy.release --check $(VERSION)
	$(MAKE) lint test-all release-image
	$(BIN)/python -m deploy.release $(VERSION)

protos: $(READY) ## regenerate the stubs
	$(PROTOC) --python_out=protos --grpc_python_out=protos \
		--mypy_out=quiet:protos --mypy_grpc_out=quiet:protos $(PROTOS)

check-protos: $(READY) ## show that the committed stubs are those of the contract
	@rm -rf build/stubs && mkdir -p build/stubs
	$(PROTOC) --python_out=build/stubs --grpc_python_out=build/stubs \
		--mypy_out=quiet:build/stubs --mypy_grpc_out=quiet:build/stubs $(PROTOS)
	@for file in build/stubs/tandem/v1/*; do \
		diff -q "$$file" "protos/tandem/v1/$$(basename "$$file")" \
			|| { echo "the stubs are not current: run make protos"; exit 1; }; done

release-image: $(READY) ## keep the contract as released, for make lint to compare with
	cd protos && ../$(BIN)/buf build -o released.binpb --exclude-source-info

clean: ## remove what was built, and the environment
	rm -rf build bundles $(VENV)
