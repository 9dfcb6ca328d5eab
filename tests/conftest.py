"""Shared fixtures: where the reference data lives, and one thread so that figures do not depend on the machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from s3_server import ENVIRONMENT, S3Server

SHARED = Path(__file__).resolve().parents[2] / "shared"

torch.set_num_threads(1)
# A background job of a shell ignores Ctrl-C, and so would what the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No deadline: the first call imports and warms up. The same examples each time: a red run says something of its commit.
settings.register_profile("peav", deadline=None, derandomize=True)
settings.load_profile("peav")


def _make_torchvision_importable() -> None:
    """Define the two operators that torchvision asks for when it is imported, where its own are out of reach.

    timm needs torchvision, and transformers builds PE-AV's frame encoder from timm. The index has torchvision for CUDA
    alone, whose library does not load beside torch's CPU build; nothing that PE-AV runs calls it.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    try:
        # _C.so, or _C_stable.so from 0.29 on.
        torch.ops.load_library(next(Path(spec.origin).parent.glob("_C*.so")))
    except (OSError, StopIteration):
        operators = torch.library.Library("torchvision", "FRAGMENT")
        operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(operators)  # the definitions go with the object


_KEPT: list[torch.library.Library] = []
_make_torchvision_importable()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden checkpoints and recordings beside the checkout; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: golden checkpoints and recordings are needed here")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """The golden checkpoints in both public layouts, with inputs and the original code's outputs."""
    return shared / "golden"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty clips of the procedural world, made once for all training tests."""
    from peav.synth.world import generate

    folder = tmp_path_factory.mktemp("world")
    generate(folder, 20, seed=5)
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server of the S3 protocol, for all tests."""
    for name in ("moto", "s3fs", "flask"):
        pytest.importorskip(name, reason="an S3 server needs moto[server] and s3fs: pip install 'peav[dev]'")
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The same with the environment that leads to it, and nothing wrong with it."""
    import fsspec

    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": s3_server.url}).items():
        monkeypatch.setenv(name, value)
    s3_server.reset()
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # one keeps the endpoint that it was made with
    yield s3_server
    s3_server.reset()
