"""Where a checkpoint comes from: a directory, the package, or the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from peav.errors import CheckpointError
from peav.utils.atomic import on_disk

SHIPPED = ("tiny", "frame-tiny")
PACKAGE_WEIGHTS = Path(__file__).parents[1] / "weights"
# The official repositories keep one layout a branch.
REVISIONS = {"transformers": "main", "perception_models": "perception_models"}
_NAME = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>\S+))?")
_WEIGHTS = "*.safetensors"
_STATUS = {
    401: "the hub does not know your token (401): log in again with `hf auth login`",
    403: "the hub forbids it (403): log in with `hf auth login` and a token that may read it",
    429: "the hub has had too many requests (429): wait some minutes, or log in with `hf auth login`",
}
# What a broken connection raises: the base of httpx, or of whatever huggingface_hub sends its requests with.
_HTTPError: type[Exception] = HfHubHTTPError.__bases__[0]


def resolve(
    name: str | os.PathLike[str],
    revision: str | None = None,
    *,
    weights: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """The directory of a checkpoint, downloaded if it must be.

    Args:
        name: a directory, `tiny` or `frame-tiny` (they ship with the package; `./tiny` is a directory), or a hub name
            such as `facebook/pe-av-large`, also with its revision: `facebook/pe-av-large@perception_models`.
        revision: branch, tag or commit on the hub; a layout's name stands for its branch. None: `main`, which is the
            transformers layout in the official repositories. Directories have no revisions.
        weights: False leaves them on the hub; the rest is small.
        cache_dir: where downloads are kept; None: the hub's own cache (`HF_HOME`, `HF_HUB_CACHE`).

    Raises:
        CheckpointError: nothing is there, or the hub cannot be reached; the message says what to do.
    """
    if (there := local(name)) is not None:
        if revision is not None:
            raise CheckpointError(f"{name} is a directory, which has no revision {revision!r}: leave it out")
        return there
    match = _NAME.fullmatch(str(name))
    if match is None:
        raise CheckpointError(
            f"no directory {str(name)!r}: give one, {SHIPPED[0]!r}, or a hub name like facebook/pe-av-small"
        )
    repository, pinned = match["repository"], match["revision"]
    if pinned and revision not in (None, pinned):
        raise CheckpointError(f"two revisions of {repository}, {pinned!r} and {revision!r}: give one")
    asked = revision or pinned
    branch = REVISIONS.get(asked or "transformers", asked or "main")
    folder = _download(repository, branch, ["*.json", _WEIGHTS] if weights else ["*.json"], cache_dir)
    if weights and not any(folder.glob(_WEIGHTS)):
        raise CheckpointError(
            f"{repository} at revision {branch!r} has no .safetensors file: .bin and .pt weights are not read, since "
            "they can run code; save them as .safetensors, or, if a download broke off, connect and try again"
        )
    return folder


def local(name: str | os.PathLike[str]) -> Path | None:
    """The directory of a checkpoint that needs no hub. Raises CheckpointError where shipped weights are absent."""
    path = Path(name).expanduser()
    return _shipped(str(name)) if name in SHIPPED else path if str(name) and path.is_dir() else None


def full_name(name: str | os.PathLike[str], revision: str | None) -> str:
    """A name that says its revision too, so that it loads the same again: `facebook/pe-av-large@perception_models`."""
    text = os.fspath(name)
    return text if revision is None or text.endswith(f"@{revision}") else f"{text}@{revision}"


def _shipped(name: str) -> Path:
    path = PACKAGE_WEIGHTS / name
    if not path.is_dir():
        public = "facebook/pe-a-frame-small" if name.startswith("frame") else "facebook/pe-av-small"
        raise CheckpointError(
            f"this installation has no {name!r} weights: reinstall peav from a release, train them with "
            f"`peav train recipes/{name.replace('-', '_')}.yaml`, or use {public}"
        )
    return path


def _download(name: str, revision: str, patterns: list[str], cache_dir: str | os.PathLike[str] | None) -> Path:
    cache = None if cache_dir is None else os.fspath(on_disk(cache_dir, "the hub's cache"))
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, cache_dir=cache))
    except HFValidationError as error:
        raise CheckpointError(f"{name!r} is no hub name: {error}") from error
    except (_HTTPError, OSError, ValueError) as error:  # ValueError: a page that is no JSON, as hotels answer
        raise CheckpointError(_reason(error, name, revision)) from error


def _reason(error: BaseException, name: str, revision: str) -> str:
    """What went wrong between us and the hub, and what to do about it."""
    where = f"{name} at revision {revision!r}"
    absent = f"{where} is not in the local cache, or not whole, and the hub is out of reach"
    match error:
        case GatedRepoError():
            page = f"{constants.ENDPOINT}/{name}"
            return f"{name} is gated: accept its conditions at {page}, then log in with `hf auth login`"
        case RevisionNotFoundError():
            return f"{name} has no revision {revision!r}: use one of {', '.join(REVISIONS.values())}, a tag or a commit"
        case RepositoryNotFoundError():
            return f"the hub has no {name}, or it is private: check the name, or log in with `hf auth login`"
        case LocalEntryNotFoundError() if isinstance(error.__cause__, HfHubHTTPError):
            return _reason(error.__cause__, name, revision)
        case LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            return f"{absent}: unset HF_HUB_OFFLINE once to download it"
        case LocalEntryNotFoundError():
            return f"{absent}: connect once to download it, or give a local directory"
        case HfHubHTTPError():
            code = error.response.status_code
            other = f"the hub answered {code}: try again later, or give a local directory"
            return f"{where} did not download: {_STATUS.get(code, other)}"
        case _:
            said = " ".join(str(error).split()) or type(error).__name__
            return f"{where} did not download ({said}): try again, or give a local directory"
