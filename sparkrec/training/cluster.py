"""What a cluster has to offer to a training on its executors, checked before anything starts."""

from pyspark import SparkConf
from pyspark.sql import SparkSession

from sparkrec.errors import StorageError, TrainingError
from sparkrec.io import storage
from sparkrec.session import is_local, local_cores
from sparkrec.training.spec import TrainingSpec

# GPUs of one task of Spark. TorchDistributor reads it from the session.
_GPU_AMOUNT = "spark.task.resource.gpu.amount"


def what_each_gets(spark: SparkSession, spec: TrainingSpec) -> str:
    """What every training process on the executors gets, for the log."""
    workers = spec.training.workers
    if not spec.training.use_gpu:
        return f"{workers}, each with one task slot of Spark and no GPU; they talk through gloo"
    amount = spark.sparkContext.getConf().get(_GPU_AMOUNT, "1")
    return (
        f"{workers}, each with one GPU; a task of Spark has {amount} GPU(s) ({_GPU_AMOUNT}) and "
        "starts as many processes; they talk through nccl"
    )


def check_cluster(spark: SparkSession, workers: int, use_gpu: bool, work_path: str) -> None:
    """Raise TrainingError, before anything is started, if the training cannot run here.

    Parameters
    ----------
    work_path
        Where the training processes write checkpoints. If it is on S3, an executor is asked whether
        it can read it.
    """
    if workers == 1 and is_local(spark):
        if use_gpu:
            _check_device()
        return
    _check_slots(spark.sparkContext.master or "", workers)
    conf = spark.sparkContext.getConf()
    if conf.get("spark.dynamicAllocation.enabled", "false").lower() == "true":
        raise TrainingError(
            "training on executors is a barrier stage, which Spark does not run while "
            "spark.dynamicAllocation.enabled is true; give `--conf "
            "spark.dynamicAllocation.enabled=false --num-executors <number>` to spark-submit"
        )
    if use_gpu:
        _check_gpus(conf, workers, is_local(spark))
    if storage.is_s3(work_path):
        asked = spark.sparkContext.parallelize([work_path], 1).map(_why_unreadable)
        if (reason := asked.collect()[0]) is not None:
            raise TrainingError(
                f"executors cannot reach {reason}; they need credentials of their own, such as a "
                "role of the machine, or the variables of the driver as "
                "spark.executorEnv.AWS_ACCESS_KEY_ID and so on in spark-defaults.conf"
            )


def _check_gpus(conf: SparkConf, workers: int, local: bool) -> None:
    """Raise TrainingError unless Spark gives every training process a GPU of its own."""
    amount = conf.get(_GPU_AMOUNT) or "0"
    if not amount.isdecimal() or int(amount) < 1:
        raise TrainingError(
            f"training.use_gpu is true, but {_GPU_AMOUNT} is "
            f"{f'{amount}, not a whole number' if amount != '0' else 'not set'}, so that Spark "
            "gives no GPU to a task; give `--conf spark.executor.resource.gpu.amount=1 --conf "
            f"{_GPU_AMOUNT}=1 --conf spark.executor.resource.gpu.discoveryScript=<script>` to "
            "spark-submit"
        )
    if workers % int(amount):
        raise TrainingError(
            f"training.workers is {workers}, but a task has {amount} GPUs ({_GPU_AMOUNT}) and "
            "starts a training process for each; make training.workers a multiple of it"
        )
    owned = conf.get("spark.driver.resource.gpu.amount") or "0"
    if local and (not owned.isdecimal() or int(owned) < workers):
        raise TrainingError(
            f"training.workers is {workers} with training.use_gpu, but on a local master the "
            f"processes share the GPUs of the driver, and spark.driver.resource.gpu.amount is "
            f"{owned}; give `--conf spark.driver.resource.gpu.amount={workers} --conf "
            "spark.driver.resource.gpu.discoveryScript=<script>` to spark-submit"
        )


def _check_device() -> None:
    import torch

    if not torch.cuda.is_available():
        raise TrainingError(
            "training.use_gpu is true, but Torch finds no CUDA device on this machine; set it to "
            "false, or install a CUDA build of Torch"
        )


def _check_slots(master: str, workers: int) -> None:
    slots = local_cores(master)
    if slots is None and master.startswith("local-cluster"):
        executors, cores, _ = master.partition("[")[2].rstrip("]").split(",")
        slots = int(executors) * int(cores)
    # Executors of another cluster may still register. The barrier scheduler checks this itself
    # within seconds.
    if slots is not None and slots < workers:
        raise TrainingError(
            f"training.workers is {workers}, but {master} has {slots} slots; lower "
            f"training.workers, or run with a larger master"
        )


def _why_unreadable(path: str) -> str | None:
    """Why this process cannot list an S3 path, or None if it can."""
    try:
        storage.exists(path)
    except StorageError as error:
        return str(error)
    return None
