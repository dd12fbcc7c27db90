# Everything starts here: `make demo`, `make test`. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
CLIP := assets/driving/grid_bbaf2n.mpg
# Not empty where a window can be shown.
DISPLAYED := $(DISPLAY)$(WAYLAND_DISPLAY)$(filter-out Linux,$(shell uname -s))

help:
	@echo "make demo   set up and be a bundled portrait, live: a window, or out/demo.mp4 where there is no display"
	@echo "make animate  the offline command on a bundled clip: out/animate.mp4, out/animate.png"
	@echo "make setup  every package, PyTorch too, which make demo does without"
	@echo "make test   set up and run the whole test suite"
	@echo "make test-avx2  the numeric tests once more, computed as on a processor that has AVX2 and nothing newer"
	@echo "make test-plain  what a machine with torch, numpy, safetensors and pytest alone can run of them"
	@echo "make check  ruff, mypy and import-linter"
	@echo "make site   the documentation as pages to read in a browser: build/site"
	@echo "make bench  milliseconds per frame, plain model against engine; the whole chain"
	@echo "make cuda   what needs a GPU: parity tests and benchmark on CUDA"
	@echo "make screenshots  pictures of the real window, to look at: out/screenshots; and those of docs/window.md"
	@echo "make pictures  the pictures of docs/how-it-works.md, by the bundled model"
	@echo "make languages  renew app/ui/translations by the texts in the sources, and compile them"
	@echo "make soak   ten minutes live with random faults; MINUTES=60 for an hour: out/soak/soak.png"
	@echo "make qemu   the app between a real V4L2 webcam and a real virtual camera, in a virtual machine (as root)"
	@echo "make bundle  what people install without Python, torch or a terminal: build/bundle; then it is started and looked at"
	@echo "make release  source, wheel, bundle and site, built and checked: dist/; BUNDLED=no leaves the bundle out"
	@echo "make clean  remove the virtual environment and what was built"

# A stamp, so that a second call is quick and an interrupted first one starts over.
.venv/.ready: pyproject.toml .ci/system-packages
	@PYTHON="$(PYTHON)" sh .ci/set-up
	@touch $@

setup: .venv/.ready

# What the app computes with on a processor, and no more: a tenth of the download. Where everything is, that serves.
.venv/.live: pyproject.toml .ci/system-packages
	@PYTHON="$(PYTHON)" sh .ci/set-up live
	@touch $@

LIVE := $(if $(wildcard .venv/.ready),setup,.venv/.live)

demo: $(LIVE)
	@mkdir -p out
ifeq ($(DISPLAYED),)
	@echo "No display here, so no window: the same chain writes 100 frames into out/demo.mp4, in half a minute or so"
	@rm -f out/demo.mp4  # beside one that is there, the app would write out/demo-2.mp4
	$(BIN)/mcnet-avatar --headless --camera $(CLIP) --source woman_1 --sink file:out/demo.mp4 --frames 100 \
		--report out/demo.json
	@echo "look at out/demo.mp4, and at out/demo.json for what was measured"
else
	@echo "The window opens, and a bundled clip moves the portrait; the first start loads the model for some seconds"
	$(BIN)/mcnet-avatar --camera $(CLIP)
endif

animate: $(LIVE)
	mkdir -p out
	$(BIN)/mcnet animate --source assets/portraits/woman_1.jpg --driving $(CLIP) \
		--output out/animate.mp4 --side-by-side --contact-sheet out/animate.png
	@echo "look at out/animate.png and out/animate.mp4; for your own: .venv/bin/mcnet animate --help"

# File by file in three processes, as tests also wait (421 s on two cores; two processes took 545), whose threads do not
# spin for each other's cores (tests/conftest.py). Where the environment bars bytecode (images for containers often do),
# each of the many processes that tests start would compile all modules anew. AGAIN=5 tries up to five tests that failed
# once more, alone (.ci/again).
test: setup
	PYTHONDONTWRITEBYTECODE= $(if $(AGAIN),.ci/again $(AGAIN) )$(BIN)/python -m pytest -n 3 --dist loadfile --durations=10

# Of the network, what computes it, and faces. The settings limit torch's own kernels, MKL, oneDNN, OpenVINO and OpenCV to
# what most laptops have.
AVX2 := ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 OV_CPU_MAX_ISA=AVX2 \
	OPENCV_CPU_DISABLE=AVX512-SKX
NUMERIC := $(addprefix tests/mcnet/test_,geometry.py golden.py starter.py) tests/mcnet/bench/test_measure.py \
	$(addprefix tests/mcnet/engine/test_,engine.py openvino.py quantization.py rewrites.py) \
	$(addprefix tests/training/fit/test_,augment.py backbones.py losses.py) tests/training/evaluate/test_metrics.py \
	$(addprefix tests/app/pipeline/animation/test_,animator.py calibration.py face_tracker.py mattes.py motion.py \
	performer.py posing.py reference_finder.py source.py source_store.py) \
	$(addprefix tests/media/test_,crop.py face_mesh.py faces.py head_motion.py retouch.py)
test-avx2: setup
	$(AVX2) $(BIN)/python -m pytest $(NUMERIC)

# The line that CONTRIBUTING.md gives for such a machine, and the tests in these files that need no GPU.
PLAIN := PYTHONPATH=. build/plain/bin/python -m pytest tests/mcnet/engine/test_engine.py tests/mcnet/engine/test_cuda_graph.py tests/mcnet/engine/test_measured.py
test-plain: setup
	$(PYTHON) -m venv --clear build/plain
	$(BIN)/python -m pip freeze | grep -E '^(torch|numpy|safetensors|pytest)==' >build/plain/requirements.txt
	build/plain/bin/python -m pip install --quiet --disable-pip-version-check -r build/plain/requirements.txt
	$(PLAIN) -m cuda
	$(PLAIN) -m "not cuda"

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Strict: a link that leads nowhere, a page that is in no menu, or a font from another host is an error. (The variable
# turns off what the theme says of its successor; --quiet would leave warnings uncounted.)
site: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "look at build/site/index.html"

screenshots: setup
	$(BIN)/python -m tests.app.ui.screenshot --page docs/window out/screenshots

pictures: setup
	$(BIN)/python -m tests.how_it_works

# Qt's compiler of translations is in no package of PyQt6's, and PySide6 is kept apart from what the app runs on.
build/languages/.ready:
	$(PYTHON) -m venv --clear build/languages
	build/languages/bin/python -m pip install --quiet --disable-pip-version-check "pyside6-essentials>=6.8"
	touch $@

languages: setup build/languages/.ready
	PATH="$(CURDIR)/build/languages/bin:$$PATH" $(BIN)/python -m tests.languages

qemu: setup
	$(BIN)/python -m tests.qemu

MINUTES ?= 10
soak: setup
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

bench: setup
	$(BIN)/mcnet bench --model starter released
	$(BIN)/python -m tests.benchmarks.chain --precision int8 bf16

cuda: setup
	$(BIN)/python -m pytest -m cuda -rs
	$(BIN)/mcnet bench --model starter released --device cuda --frames 50

# In an environment of its own, so that what only training or tests need cannot come along.
BUNDLE := build/bundle-environment/bin/python
build/bundle-environment/.ready: pyproject.toml packaging/bundle.py .ci/system-packages
	sh .ci/system-packages
	$(PYTHON) -m venv --clear build/bundle-environment
	$(BUNDLE) packaging/bundle.py requirements >build/bundle-requirements.txt
	$(BUNDLE) packaging/bundle.py tools >>build/bundle-requirements.txt
	$(BUNDLE) -m pip install --quiet --disable-pip-version-check -r build/bundle-requirements.txt
	touch $@

bundle: build/bundle-environment/.ready
	$(BUNDLE) packaging/bundle.py build
	$(BUNDLE) packaging/bundle.py smoke

BUNDLED ?= yes
release: setup site $(if $(filter yes,$(BUNDLED)),bundle)
	$(BIN)/python packaging/release.py $(if $(filter yes,$(BUNDLED)),,--without-bundle)

clean:
	rm -rf .venv build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# Two set-ups at once, by `make -j demo test`, would each clear the .venv that the other one fills.
.NOTPARALLEL:
.PHONY: help setup demo animate test test-avx2 test-plain check site screenshots pictures languages qemu soak bench cuda bundle release clean
