"""Object storage through fsspec: each call is tried again through an outage, then is a `StorageError` of one line."""

from __future__ import annotations

import errno
import io
import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from peav.errors import StorageError, StorageWarning
from peav.utils.environment import from_environment

T = TypeVar("T")
ROUND_TRIPS = 32  # requests at a time
BLOCK = 4 << 20  # bytes of a file that are fetched at a time where it is read through
LONGEST_WAIT = 5.0  # seconds between two tries
QUIET = 1.0  # seconds of trouble of which nobody is told

# Answers that stay the same however often they are asked for.
_FINAL = (errno.EINVAL, errno.ENOSYS, errno.ENAMETOOLONG, errno.EPERM, getattr(errno, "EREMCHG", errno.EINVAL))
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "requests", "urllib3")
_WRONG = ("ParamValidationError", "NoRegionError")
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError")

_given_up: set[str] = set()  # places, such as buckets, of which the last call was tried in vain


@dataclass(frozen=True)
class StoragePatience:
    """How long a call to object storage is tried again. Each field can be set by an environment variable.

    Attributes:
        seconds: while it cannot be reached, is too busy or fails (PEAV_STORAGE_SECONDS).
        denied_seconds: while it denies access, as some do for a moment (PEAV_STORAGE_DENIED_SECONDS).
    """

    seconds: float = 120.0
    denied_seconds: float = 10.0


def call(path: str, action: Callable[[Any, str], T]) -> T:
    """What `action` gives of the path's file system and the path in it, tried again while the storage fails.

    Once a place was tried in vain, each later call to it is tried once, until one succeeds.

    Raises:
        StorageError: it cannot be reached, denies access, or goes on failing. Also FileNotFoundError, of files, and
            FileExistsError.
    """
    place = _place(path)
    began, wait, told = time.monotonic(), 0.1, False
    while True:
        try:
            result = action(*_system(path))
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise StorageError(f"{path}: no such bucket; check the address, or make the bucket first") from error
            raise FileNotFoundError(errno.ENOENT, "no such file", path) from error
        except FileExistsError:
            raise
        except Exception as error:
            patience = _patience(error)
            if patience is None:
                raise
            lasted = time.monotonic() - began
            if lasted >= patience or place in _given_up:
                _given_up.add(place)
                raise StorageError(_said(path, error, patience and lasted)) from error
            if lasted >= QUIET and not told:
                told = True
                again = f"it is tried again for up to {patience:g} s"
                warnings.warn(f"{place}: the storage fails ({_shown(error)}); {again}", StorageWarning, stacklevel=3)
            # Not all at the same moment, where many wait for the same storage.
            time.sleep(min(wait * random.uniform(0.5, 1.0), patience - lasted))
            wait = min(2 * wait, LONGEST_WAIT)
        else:
            _given_up.discard(place)
            return result


def fetch(path: str, offset: int, size: int, etag: str = "") -> bytes:
    """`size` bytes from `offset` on, fewer where the file ends before.

    Args:
        etag: of the version that is meant, where one is.

    Raises:
        StorageError: as `call`; another file has taken its place; or the server has no reads of parts.
    """

    def read(system: Any, inner: str) -> bytes:
        if _is_s3(system):
            return _fetch_s3(system, inner, path, offset, size, etag)
        data = cast(bytes, system.cat_file(inner, start=offset, end=offset + size))
        if len(data) > size:
            raise _no_parts(path)
        return data

    return call(path, read) if size > 0 else b""


def write_new(path: str, data: bytes) -> bool:
    """Write a file at an address where there is none, whoever else does just now; whether it was written.

    Raises StorageError as `call`.
    """
    try:
        call(path, lambda system, inner: system.pipe_file(inner, data, mode="create"))
    except FileExistsError:
        return False
    return True


def open_file(path: str) -> BinaryIO:
    """A seekable file to read, fetched in blocks. Raises StorageError as `call`, FileNotFoundError."""
    return cast(BinaryIO, io.BufferedReader(_Remote(path), BLOCK))


def info_of(path: str) -> dict[str, Any]:
    """What is known of a file: `size`, `ETag` and the like. Raises StorageError as `call`, FileNotFoundError."""

    def ask(system: Any, inner: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = system.info(inner)
        except FileNotFoundError:
            if _is_s3(system):
                # An answer to HEAD has no body, and so does not say whether it is the bucket that is missing.
                system.cat_file(inner, start=0, end=1)
            raise
        if found["type"] == "directory":
            raise FileNotFoundError(errno.ENOENT, "a folder, not a file", path)
        return found

    return call(path, ask)


def etag_of(info: dict[str, Any]) -> str:
    """What names a file's content, where the storage has such a name."""
    return str(info.get("ETag") or info.get("etag") or "")


class _Remote(io.RawIOBase):
    """A file in object storage, of which each read is one request that is tried again."""

    def __init__(self, path: str) -> None:
        info = info_of(path)
        self.path, self.etag, self.size, self.position = path, etag_of(info), int(info["size"]), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:  # Python's own asks for 8 kB at a time
        return self._next(self.size)

    def _next(self, size: int) -> bytes:
        data = fetch(self.path, self.position, min(size, max(0, self.size - self.position)), self.etag)
        self.position += len(data)
        return data


def _system(path: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it; fsspec keeps file systems for the next call."""
    from fsspec.core import url_to_fs

    # Another process may have written since: what a folder holds is asked for each time.
    options: dict[str, Any] = {"use_listings_cache": False}
    if path.startswith(("s3://", "s3a://")):
        options["config_kwargs"] = _s3_settings()
    try:
        return cast(tuple[Any, str], url_to_fs(path, **options))
    except (ImportError, ValueError) as error:
        fix = "addresses need s3fs or gcsfs: pip install 'peav[s3]' or 'peav[gcs]'"
        raise StorageError(f"{path}: {error}; {fix}") from error


def _s3_settings() -> dict[str, Any]:
    """Of botocore, beside the user's own in fsspec's configuration."""
    from fsspec.config import conf

    # Its pool has ten connections. Its own tries come on top of ours, and would make each of them last minutes.
    ours = {"max_pool_connections": ROUND_TRIPS, "retries": {"max_attempts": 0}}
    return ours | dict(conf.get("s3", {}).get("config_kwargs", {}))


def _is_s3(system: Any) -> bool:
    protocol = system.protocol
    return "s3" in ([protocol] if isinstance(protocol, str) else protocol)


def _fetch_s3(system: Any, inner: str, path: str, offset: int, size: int, etag: str) -> bytes:
    """By its own call: the answer says whether the server has read a part, and of which version."""
    from fsspec.asyn import sync

    bucket, key, _ = system.split_path(inner)
    same = {"IfMatch": etag} if etag else {}
    try:
        answer = system.call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={offset}-{offset + size - 1}", **same
        )
        part = answer["ResponseMetadata"]["HTTPStatusCode"] == 206 or (not offset and answer["ContentLength"] <= size)
        data = sync(system.loop, _read, answer["Body"], part)
    except OSError as error:
        code = _code(error)
        if code in ("InvalidRange", "416"):  # past the end
            return b""
        if code in ("PreconditionFailed", "412"):
            raise StorageError(
                f"{path}: another file has taken its place since it was first looked at; run the same command again, "
                "for the new one"
            ) from error
        raise
    if not part:
        raise _no_parts(path)
    return cast(bytes, data)


async def _read(body: Any, wanted: bool) -> bytes:
    try:
        return cast(bytes, await body.read()) if wanted else b""
    finally:
        body.close()


def _no_parts(path: str) -> StorageError:
    return StorageError(
        f"{path}: the server gives the whole file where a part is asked for (it ignores Range); take one that reads "
        "parts, or copy the file to disk"
    )


def _code(error: BaseException) -> str:
    """S3's own word for an error, `NoSuchBucket`; empty where there is none."""
    response = getattr(error.__cause__ or error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _patience(error: Exception) -> float | None:
    """Seconds for which a failed call is tried again; None: it is no error of storage."""
    if isinstance(error, StorageError):
        return None
    if not isinstance(error, OSError | ValueError) and type(error).__module__.split(".")[0] not in _CLIENTS:
        return None
    if isinstance(error, ValueError) or type(error).__name__ in (*_WRONG, *_NO_CREDENTIALS):
        return 0.0
    if isinstance(error, OSError) and error.errno in _FINAL:
        return 0.0
    limits = from_environment(StoragePatience, "PEAV_STORAGE")
    return limits.denied_seconds if isinstance(error, PermissionError) else limits.seconds


def _said(path: str, error: Exception, lasted: float) -> str:
    """What has gone wrong, and what to do."""
    shown = _shown(error)
    if type(error).__name__ in _NO_CREDENTIALS:
        return f"{path}: no credentials ({shown}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if isinstance(error, PermissionError):
        return f"{path}: access is denied ({shown}); check the credentials, and what they may do there"
    if not lasted:
        return f"{path}: cannot be used ({shown}); check the address, and the endpoint in AWS_ENDPOINT_URL"
    return (
        f"{path}: the storage has failed for {lasted:.0f} s ({shown}); check that it runs, and the endpoint in "
        "AWS_ENDPOINT_URL; then run the same command again, it goes on"
    )


def _shown(error: Exception) -> str:
    """What an error says, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} ..."


def _place(path: str) -> str:
    """`s3://bucket` of an address."""
    scheme, _, rest = path.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
