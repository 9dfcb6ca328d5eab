"""Where a checkpoint comes from: a directory, the package, or the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .errors import CheckpointError

SHIPPED = ("tiny", "frame-tiny")
PACKAGE_WEIGHTS = Path(__file__).parents[1] / "weights"
# The official repositories keep one layout a branch.
REVISIONS = {"transformers": "main", "perception_models": "perception_models"}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WEIGHTS = "*.safetensors"


def resolve(name: str | os.PathLike[str], revision: str | None = None, *, weights: bool = True) -> Path:
    """The directory of a checkpoint, downloaded if it must be.

    Args:
        name: a directory, `tiny` or `frame-tiny` (they ship with the package; `./tiny` is a directory), or a hub name
            such as `facebook/pe-av-large`.
        revision: branch, tag or commit on the hub; a layout's name stands for its branch. None: `main`, which is the
            transformers layout in the official repositories. Directories have no revisions.
        weights: False leaves them on the hub; the rest is small.

    Raises:
        CheckpointError: nothing is there, or the hub cannot be reached; the message says what to do.
    """
    if name in SHIPPED:
        return _shipped(str(name))
    path = Path(name).expanduser()
    if str(name) and path.is_dir():
        return path
    if not _REPOSITORY.fullmatch(str(name)):
        raise CheckpointError(
            f"no directory {str(name)!r}: give one, {SHIPPED[0]!r}, or a hub name like facebook/pe-av-small"
        )
    revision = REVISIONS.get(revision or "transformers", revision or "main")
    return _download(str(name), revision, ["*.json", _WEIGHTS] if weights else ["*.json"])


def _shipped(name: str) -> Path:
    path = PACKAGE_WEIGHTS / name
    if not path.is_dir():
        public = "facebook/pe-a-frame-small" if name.startswith("frame") else "facebook/pe-av-small"
        raise CheckpointError(
            f"this installation has no {name!r} weights: reinstall peav from a release, train them with "
            f"`peav train recipes/{name.replace('-', '_')}.yaml`, or use {public}"
        )
    return path


def _download(name: str, revision: str, patterns: list[str]) -> Path:
    where = f"{name} at revision {revision!r}"
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise CheckpointError(f"{name!r} is no hub name: {error}") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"{name} has no revision {revision!r}: use one of {', '.join(REVISIONS.values())}"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"the hub has no {name}: check the name, or log in with `hf auth login`") from error
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            todo = "unset HF_HUB_OFFLINE once to download it"
        else:
            todo = "connect once to download it, or give a local directory"
        raise CheckpointError(f"{where} is not in the local cache and the hub is out of reach: {todo}") from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"{where} did not download ({error}): try again, or give a local directory") from error
