"""Finds, in the long errors of Spark, of Python workers and of the system, what a user can mend."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from sparkrec.errors import cut

# Spark 3.5 writes no error class.
_UNREADABLE = re.compile(
    r"(?:\[FAILED_READ_FILE(?:\.(\w+))?\] )?Encountered error while reading file:? (\S+?)\.? "
)
# Of a folder that was gone when Spark planned the read, and of a file, as Spark 3.5 says it.
_GONE = re.compile(
    r"\[PATH_NOT_FOUND\] Path does not exist: (.+?)\.(?: SQLSTATE| ?$)"
    r"|FileNotFoundException: File (.+?) does not exist It is possible the underlying files"
)
# Of a footer that the driver read itself.
_FOOTER = re.compile(
    r"(?:Could not read footer for file: (?:FileStatus\{path=)?|Checksum error: )"
    r"([^\s;]+?)\.?(?=[\s;])"
    r"|(\S+) is not a Parquet file"
)
# Of S3A: the file may be sound, but S3 refused the request or did not answer.
_S3A = re.compile(
    r"(?:\bhadoop\.fs\.s3a\.(?:\w+\.)?\w+Exception|\bConnectTimeoutException"
    r"|\bSocketTimeoutException): (?:[\w ]+ on )?(s3a://\S+?): (.+?)"
    r"(?= at (?:org|com|java)\.| Caused by| Driver stacktrace|$)"
)
# Of pyarrow, in whose file system training and evaluation read what Spark has written.
_ARROW_S3 = re.compile(
    r"When [\w ]+?(?: key '([^']*)' in)? bucket '([^']*)': AWS Error (.+?)(?= Traceback |$)"
)
_AGAIN = (
    "get new credentials, and run the job again (a training goes on with training.resume: true)"
)
TOKEN_EXPIRED = f"the session token has expired; {_AGAIN}"
# The answer to a HEAD request has no body, so it is all that a client learns of an expired token.
BAD_REQUEST = (
    "S3 answered 400 without a reason; if the credentials have a session token, it has probably "
    f"expired: {_AGAIN}; if not, AWS_REGION may not be that of the bucket"
)
_BAD_REQUEST = re.compile(r"(?:HTTP status|Status Code:) 400\b")
_FULL = re.compile(r"No space left on device(?:: '([^']+)')?|Disk quota exceeded")
# Of a task that failed on an executor; on a local master the executor is `driver`.
_EXECUTOR = re.compile(r"\(TID \d+\) \((\S+) executor (?!driver)(\w+)\)")
_DENIED = re.compile(
    r"Errno (?:13|30)\] [\w -]+: '([^']+)'"
    r"|FileNotFoundException: (\S+) \((?:Permission denied|Read-only file system)\)"
    r"|AccessDeniedException: ([^\s:]+)"
    r"|mkdir of (\S+) failed|Mkdirs failed to create (\S+)"
)


@dataclass(frozen=True)
class UnreadableFile:
    """A file, or a folder of them, that Spark could not read.

    Attributes
    ----------
    path
        As `storage` takes it: `/folder/file`, or an `s3://` path.
    removed
        Whether the file was there when the job began, and then not.
    """

    path: str
    removed: bool

    def __str__(self) -> str:
        if self.removed:
            return f"{self.path} was removed or replaced while it was read; run the job again"
        return (
            f"cannot read {self.path}: it is damaged, or not in the format that the conf names; "
            "write it again"
        )


def unreadable_file(error: BaseException) -> UnreadableFile | None:
    """The file that Spark could not read, if that is what the error says.

    A file that S3 did not give is none of them.
    """
    text = " ".join(str(error).split()) + " "
    if _S3A.search(text) is not None:
        return None
    found = _GONE.search(text)
    if found is not None:
        return UnreadableFile(plain_path(found[1] or found[2]), removed=True)
    found = _UNREADABLE.search(text)
    if found is not None:
        return UnreadableFile(plain_path(found[2]), found[1] == "FILE_NOT_EXIST")
    found = _FOOTER.search(text)
    if found is not None:
        return UnreadableFile(plain_path(found[1] or found[2]), removed=False)
    return None


def explain(error: BaseException) -> str | None:
    """One line about a file, S3, a full disk or a missing permission; or None."""
    text = " ".join(str(error).split())
    failed = _S3A.search(text)
    if failed is not None:
        # S3A writes the message of the AWS SDK twice.
        reason = failed[2].split(": Unable to execute HTTP request: ")[-1]
        return _s3_failed(plain_path(failed[1]), reason)
    failed = _ARROW_S3.search(text)
    if failed is not None:
        return _s3_failed(f"s3://{failed[2]}/{failed[1] or ''}", failed[3])
    file = unreadable_file(error)
    if file is not None:
        return str(file)
    full = _FULL.search(text)
    if full is not None:
        executor = _EXECUTOR.search(text)
        where = f" of executor {executor[2]} on {executor[1]}" if executor else ""
        where += f": {full[1]}" if full[1] else ""
        return (
            f"no space left on the device{where}; free some on the disks of output_path, of "
            "spark.local.dir (by default /tmp) and of the temporary folder"
        )
    denied = _DENIED.search(text)
    if denied is not None:
        path = next(group for group in denied.groups() if group)
        return f"no permission to read or write {plain_path(path)}; change its owner or mode"
    return None


def _s3_failed(path: str, reason: str) -> str:
    if "ExpiredToken" in reason or "token has expired" in reason:
        return f"{path}: {TOKEN_EXPIRED}"
    if _BAD_REQUEST.search(reason) is not None:
        return f"{path}: {BAD_REQUEST}"
    return (
        f"S3 failed at {path}: {cut(reason)}; check the endpoint (AWS_ENDPOINT_URL) and the "
        "credentials, and run the job again"
    )


def plain_path(uri: str) -> str:
    """A path as `storage` takes it, from the URI that Spark or Hadoop writes."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in ("file", "s3a"):
        return uri
    rest = unquote(rest)
    return "s3:" + rest if scheme == "s3a" else "/" + rest.lstrip("/")
