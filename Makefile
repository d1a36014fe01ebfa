# `make check` is what CI runs after an install: format, lint, types, the fast tests.
# Everything runs in the environment that `python3 launcher.py test` makes.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: check format lint types test lock

check: lint types test

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -q

# One lock for every system and Python that requires-python names (needs `pip install uv`). Torch and
# what only its CUDA builds need is left to the launcher's own step; pip comes with the environment.
TORCH_STEP = torch triton cuda-bindings cuda-pathfinder cuda-toolkit \
	nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 \
	nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(foreach name,pip $(TORCH_STEP),--no-emit-package $(name))

lock:
	$(LOCK) pyproject.toml --output-file requirements/lock.txt
	$(LOCK) --group pyproject.toml:test --constraint requirements/lock.txt \
		--output-file requirements/test-lock.txt

.PHONY: docs
docs:
	$(PYTHON) -m tests.test_docs
