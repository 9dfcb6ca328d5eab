"""An address where a path is meant is refused at once, by every verb, and no folder `s3:` comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from typer.testing import Result

from peav.cli.main import VERBS, function, load
from peav.errors import StorageError
from peav.jobs import Ledger
from peav.lab.ablate import Ablations
from peav.train import read_recipe
from peav.utils.atomic import atomic_write, on_disk
from peav.utils.lock import FolderLock
from peav.utils.storage import write_all

ADDRESS = "s3://bucket/x"


def kinds(verb: str) -> dict[str, Any]:
    return {name: kind for name, kind in get_type_hints(function(verb)).items() if name != "return"}


PATHS = [(verb, name) for verb in VERBS for name, kind in kinds(verb).items() if "Path" in str(kind)]


def arguments(verb: str, tested: str) -> Iterator[str]:
    """What the verb needs, whether it exists or not, and an address for what is tested."""
    for parameter in load(verb).params:
        if parameter.required or parameter.name == tested:
            if parameter.opts[0].startswith("-"):
                yield parameter.opts[0]
            choices = [one for one in get_args(kinds(verb)[parameter.name]) if isinstance(one, str)]
            yield ADDRESS if parameter.name == tested else choices[0] if choices else "here"


@pytest.mark.parametrize(("verb", "tested"), PATHS)
def test_an_address_is_refused_where_a_verb_takes_a_path(
    verb: str, tested: str, peav: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = peav(*verb.split(), *arguments(verb, tested))
    assert result.exit_code == 2
    assert f"{ADDRESS} is an address, and this must be a path on a disk" in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "smoke", "--set", f"output={ADDRESS}"),
        ("train", "smoke", "--set", f"data.cache={ADDRESS}", "--dry-run"),
        ("eval", "tiny", "--bench", f"manifest={ADDRESS}"),
        ("detect", "here.wav", "--labels", "dog", "--threshold", ADDRESS),
    ],
)
def test_an_address_is_refused_within_an_option_too(
    arguments: tuple[str, ...], peav: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.wav").touch()
    result = peav(*arguments)
    assert result.exit_code == 2, result.output
    assert f"{ADDRESS} is an address" in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["here.wav"]


@pytest.mark.parametrize(
    "use",
    [
        lambda path: on_disk(path),
        lambda path: atomic_write(path).__enter__(),
        lambda path: write_all(Path(path), "text"),
        lambda path: FolderLock(Path(path)),
        lambda path: Ledger(Path(path), {}),
        lambda path: read_recipe("smoke", {"output": path}),
        lambda path: read_recipe("smoke", {"data.cache": path}),
        lambda path: Ablations("name", "base", path, {"group": {"variant": {}}}),
    ],
)
@pytest.mark.parametrize("address", [ADDRESS, "gs://bucket", "abfs://x@y/z", str(Path(ADDRESS))])
def test_python_refuses_it_too(use: Callable[[str], Any], address: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"\w+://\w+\S* is an address"):
        use(address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["a:b/c", "clips/s3:/x", "C:/clips", "10:30/x", "./s3:/x"])
def test_a_path_with_a_colon_is_a_path(path: str) -> None:
    assert on_disk(path) == Path(path)
