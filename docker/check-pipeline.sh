#!/usr/bin/env bash
# From raw files to recommendations on the cluster, with all data in the bucket. docker/check.sh runs
# it in a job container.
set -euo pipefail
root=$MY_S3_BUCKET/example
raw=$(mktemp -d)

# Customers of two tastes, in the format of conf/prepare_example.yaml.
python - "$raw" <<'PYTHON'
import random
import sys
from pathlib import Path

rng = random.Random(0)
folder = Path(sys.argv[1])
lines = ["customer;article;when;action;device"]
for step in range(12):
    for customer in range(60):
        article = f"a{customer % 2}-{rng.randrange(10)}"
        when = 1_709_251_200_000 + step * 86_400_000 + customer * 60_000
        lines.append(f"c{customer};{article};{when};purchase;app")
(folder / "events.csv").write_text("\n".join(lines) + "\n")
lines = ["article,category"] + [f"a{taste}-{n},kind {taste}" for taste in (0, 1) for n in range(10)]
(folder / "articles.csv").write_text("\n".join(lines) + "\n")
PYTHON

aws s3 cp --recursive --no-progress "$raw" "$root/raw"
aws s3 cp --recursive --no-progress schema/dssm/example "$root/schema/dssm"

submit() {
    local job=$1 conf=conf/$2.yaml
    shift 2
    envsubst < "$conf" > "$conf.dev"
    echo "== spark-submit jobs/$job.py --conf $conf.dev $*"
    spark-submit "jobs/$job.py" --conf "$conf.dev" "$@"
}

submit prepare prepare_example
submit history_features history_features_example
submit match_dataset match_dataset_example
submit match_dataset match_dataset_neg4_example
submit dssm dssm_bce_neg4_example --set training.workers=2
submit recommend recommend_example --set "model_path=$root/runs/dssm_bce_neg4_example/model" \
    --set "output_path=$root/recommendations/dssm"
aws s3 ls "$root/recommendations/dssm/LATEST"
