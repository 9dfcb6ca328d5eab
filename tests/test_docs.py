"""The documentation holds: snippets run page by page as a reader would run them; commands and links are real."""

from __future__ import annotations

import glob
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from noise_clip import write_clip
from typer.testing import CliRunner

from peav.cli.main import app
from peav.engine.recipe import final_stages, weak_stages
from peav.engine.recipe import read_recipe as read_engine_recipe
from peav.lab.ablate import read_ablations
from peav.train import read_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
# Pages whose snippets take more than five seconds.
PAGES = (
    "data-engine",
    "detection",
    "evaluation",
    "features",
    "finetuning",
    "quickstart",
    "search",
    "soundscapes",
    "training",
)
SLOW = frozenset({"README.md", *(f"docs/{name}.md" for name in PAGES)})


@dataclass(frozen=True)
class Snippet:
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """Its first line without comment and spare blanks, by which docs_not_run.txt knows it."""
        return " ".join(self.text.splitlines()[0].partition("  #")[0].split())

    @property
    def commands(self) -> list[list[str]]:
        """The words of each line of a shell snippet, without comments and variables set in front."""
        lines = self.text.replace("\\\n", " ").splitlines()
        split = [shlex.split(line, comments=True) for line in lines]
        return [words[next(i for i, word in enumerate(words) if "=" not in word) :] for words in split if words]


def snippets(page: str) -> list[Snippet]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Snippet(page, language, body) for language, body in found if language not in ("text", "console")]


def not_run() -> dict[tuple[str, str], str]:
    """`(page, first line) -> reason` of the snippets that no test runs."""
    lines = (ROOT / "tests" / "docs_not_run.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return {(page, first): reason for page, first, reason in rows}


ALL = [snippet for page in NAMES for snippet in snippets(page)]
RUN = {page: [one for one in snippets(page) if (page, one.name) not in not_run()] for page in NAMES}
PARSED = [one for one in ALL if (one.page, one.name) in not_run()]


def parse(words: list[str]) -> None:
    """Give a `peav` command to Typer's own parser, with the real options. Raises click's UsageError."""
    command, rest = typer.main.get_command(app), words[1:]
    context = command.make_context("peav", [], resilient_parsing=True)
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, rest)
        context = context if hasattr(command, "resolve_command") else command.make_context(name, rest, parent=context)


def check(words: list[str]) -> None:
    """That a command names what there is: options, files, extras."""
    name, rest = words[0], words[1:]
    if name == "torchrun":
        module = rest.index("-m") + 1
        assert rest[module] == "peav", words
        parse(rest[module:])
    elif name == "peav":
        parse(words)
    elif name in ("python", "pytest", "cat"):
        paths = [word.partition("::")[0] for word in rest if word.startswith(("benchmarks/", "tests/", "docs/"))]
        assert paths, words
        assert all((ROOT / path).exists() for path in paths), words
    elif name == "./run":
        jobs = re.findall(r"^([\w |]+)\)$", (ROOT / "run").read_text(), re.MULTILINE)
        assert rest[0] in {name for names in jobs for name in names.split(" | ")}, words
        assert all((ROOT / word).exists() for word in rest if word.startswith("tests/")), words
        known = {path.stem for path in (ROOT / "tests" / "campaigns").glob("*.py")} | {"NAME"}
        assert rest[0] != "long" or rest[1] in known, words
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = [extra for word in rest for extra in re.findall(r"\[(.*)\]", word)]
        assert {extra for part in asked for extra in part.split(",")} <= extras.keys(), words
    else:
        raise AssertionError(f"nobody checks {words}: run it, or teach this test what it is")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of, small."""
    folder = tmp_path_factory.mktemp("docs")
    for name, seconds, seed in (("dog.mp4", 1.0, 1), ("train.mp4", 1.5, 2), ("lecture.mp4", 4.0, 3)):
        write_clip(folder / name, seconds, seed)
    for name, seconds, seed in (("street.wav", 3.0, 4), ("long.wav", 35.0, 5), ("bell.wav", 1.0, 6)):
        write_clip(folder / name, seconds, seed, pictures=False)
    (folder / "recordings" / "bells").mkdir(parents=True)
    shutil.copy(folder / "dog.mp4", folder / "recordings" / "dog.mp4")
    shutil.copy(folder / "bell.wav", folder / "recordings" / "bells" / "1.wav")
    rows = [{"path": "dog.mp4", "text": "a dog"}, {"path": "train.mp4", "text": "a train"}, {"path": "bell.wav"}]
    (folder / "my.jsonl").write_text("".join(json.dumps(row | {"license": "CC0-1.0"}) + "\n" for row in rows))
    sounds = [{"path": "bell.wav", "label": "bell"}, {"path": "street.wav", "label": "car horn"}]
    (folder / "sounds.jsonl").write_text("".join(json.dumps(row | {"kind": "sound"}) + "\n" for row in sounds))
    truth = [{"path": "dog.mp4", "events": [{"onset": 0.2, "offset": 0.8, "label": "dog"}]}]
    truth += [{"path": "bells/1.wav", "events": [{"onset": 0.1, "offset": 0.9, "label": "bell"}]}]
    (folder / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in truth))
    (folder / "labels.txt").write_text("dog\ta dog barking\nsiren\n")
    return folder


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page, run in RUN.items() if run]
)
def test_the_snippets_of_a_page_run_in_its_order(page: str, media: Path, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copytree(media, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for snippet in RUN[page]:
        if snippet.language == "python":
            run_python(snippet, names)
        elif snippet.language == "sh":
            for words in snippet.commands:
                run_command(words)
        elif snippet.language == "yaml":
            read_yaml(snippet.text)
        else:
            assert snippet.language == "json", f"what is a snippet of {snippet.language}?"
            read_json(snippet.text)


def run_python(snippet: Snippet, names: dict[str, Any]) -> None:
    """Lines of `print(...)  # text` must have printed the text. What begins with `# own.py` is of that file."""
    if file := re.match(r"# (\w+\.py)\n", snippet.text):
        with Path(file[1]).open("a") as own:
            own.write(snippet.text)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(snippet.text, f"{snippet.page}: {snippet.name}", "exec"), names)
    lines = printed.getvalue().splitlines()
    for promised in re.findall(r"print\(.*\)  # (.*)", snippet.text):
        assert promised in lines, f"{snippet.page} promises {promised!r}, not {lines}"


def run_command(words: list[str]) -> None:
    assert words[0] == "peav", f"{words}: only peav runs here; the others stand in docs_not_run.txt"
    paths = [sorted(glob.glob(word)) if "*" in word else [word] for word in words[1:]]
    result = CliRunner().invoke(app, [word for some in paths for word in some])
    assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}\n{result.exception!r}"


def read_yaml(text: str) -> None:
    """A recipe of training, of ablations or of the data engine, or a part of one, whose keys must be real."""
    recipe = yaml.safe_load(text)
    if "name" not in recipe:
        read_recipe("smoke", {key: json.dumps(value) for key, value in recipe.items()})
        return
    path = Path(f"{recipe['name']}.yaml")
    path.write_text(text)
    if "captioners" in recipe:
        steps = read_engine_recipe(path)
        assert weak_stages(steps) + final_stages(steps)
    else:
        (read_ablations if "groups" in recipe else read_recipe)(path)


def read_json(text: str) -> None:
    """One value, or one a line."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        for line in text.splitlines():
            json.loads(line)


@pytest.mark.parametrize("snippet", PARSED, ids=lambda one: f"{one.page}: {one.name}")
def test_a_snippet_that_does_not_run_has_real_options_and_names(snippet: Snippet) -> None:
    if snippet.language == "python":
        compile(snippet.text, snippet.page, "exec")
        return
    assert snippet.language == "sh"
    for words in snippet.commands:
        check(words)


@pytest.mark.slow
def test_python_that_does_not_run_is_type_checked(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    files = []
    for number, snippet in enumerate(one for one in PARSED if one.language == "python"):
        files.append(tmp_path / f"snippet_{number}.py")
        files[-1].write_text(snippet.text)
    if files:
        command = [sys.executable, "-m", "mypy", "--allow-redefinition", *map(str, files)]
        environment = {**os.environ, "MYPYPATH": str(ROOT / "src")}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout


def test_what_does_not_run_is_listed_once_with_its_reason() -> None:
    listed = not_run()
    assert len(listed) <= 15
    assert all(reason.strip() for reason in listed.values())
    for entry in listed:
        assert [(one.page, one.name) for one in ALL].count(entry) == 1, f"{entry} is not one snippet"


@pytest.mark.parametrize("page", NAMES)
def test_commands_within_the_text_are_real(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`((?:[A-Z_]+=\w+ )*(?:peav|python|pytest|torchrun|\./run|pip install) [^`]+)`", text):
        words = ["1" if word == "N" else word for word in shlex.split(code)]
        try:
            check(words[next(i for i, word in enumerate(words) if "=" not in word) :])
        except Exception as error:  # click's, vendored by newer Typers
            spoken_of = type(error).__name__ == "MissingParameter" or "requires an argument" in str(error)
            if not spoken_of:  # as `peav embed` and `peav search --audio` are
                raise AssertionError(f"{page}: `{code}`: {error}") from error


@pytest.mark.parametrize("page", [*NAMES, "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in links(ROOT / page):
        path, _, anchor = target.partition("#")
        other = (ROOT / page).parent / path if path else ROOT / page
        assert other.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(other), f"{page}: no such heading: {target}"


@pytest.mark.parametrize("page", NAMES)
def test_files_that_the_text_names_exist(page: str) -> None:
    places = [ROOT, ROOT / "src" / "peav", ROOT / "docs"]
    for name in re.findall(
        r"`([\w/.-]+\.(?:py|yaml|md|txt|toml))(?:::\w+)?`", (ROOT / page).read_text(encoding="utf-8")
    ):
        if "/" in name and not name.startswith(("runs/", "my/", "path/", "home/")):
            assert any((place / name).exists() for place in places), f"{page}: {name}"


def links(page: Path) -> Iterator[str]:
    """Links of a page to other files of the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            yield target


def anchors(page: Path) -> set[str]:
    """Of its headings, as mkdocs and GitHub both make them of plain words."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
