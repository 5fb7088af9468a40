# make demo    the whole road on rendered photos: train, evaluate, find garments   (a few minutes)
# make test    the test suite, two files at a time (JOBS=8 for more)
# make lint    style
#
# Each creates .venv from env.txt when it is missing or env.txt has changed. PYTHON picks another
# interpreter for it: make test PYTHON=python3.12

PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint

$(READY): env.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r env.txt
	touch $@

# Small enough to learn something in minutes on two cores, without any download: a light network
# from random weights, one class, small photos.
DEMO_TRAINING := --backbone resnet18 --weights none --class-agnostic --epochs 6 -b 2 -j 1 \
    --optimizer adamw --lr 0.0005 --lr-schedule cosine --warmup-steps 20 --rois-per-image 16 \
    --short-sides 128 --max-side 192 --test-short-side 128 --test-max-side 192 --affine 0.2 \
    --eval-every 3 --device cpu

demo: $(READY)
	$(BIN)/python tools/make_wardrobe.py --output demo/wardrobe --count 120 --val-count 24 --size 320
	OMP_NUM_THREADS=1 $(BIN)/python -m torch.distributed.run --standalone --nproc_per_node=2 \
	    train.py detector --dataset deepfashion2 --data-path demo/wardrobe --output-dir demo/run \
	    $(DEMO_TRAINING)
	$(BIN)/python tools/evaluate.py detector --weights demo/run/checkpoint_best.pt \
	    --dataset deepfashion2 --data-path demo/wardrobe --class-agnostic --output-dir demo/evaluation
	$(BIN)/python infer.py demo/wardrobe/validation/image --output-dir demo/out \
	    --weights demo/run/checkpoint_best.pt --score-threshold 0.8 --overlap 0.2
	@echo "Done: open demo/out/index.html"

test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
