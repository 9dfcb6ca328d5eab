"""The pages that peav writes, in a real Chromium: wide and on a phone, light and dark.

`PEAV_SCREENSHOTS=DIR` keeps a picture of each.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media.make import pictures, tone, write_audio, write_video
from random_detector import random_detector
from typer.testing import CliRunner

from peav.checkpoint import save_pretrained
from peav.cli.main import app
from peav.train import write_curves

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is absent: pip install -e '.[dev]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is absent: pip install -e '.[dev]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH: apt-get install chromium"),
]
WIDTHS = {"desktop": (1280, 900), "phone": (375, 812)}
LONG = "a-recorder-that-gives-long-names_2026-11-28_channel-left_" + "take" * 15
FIELDS = {"checkbox", "combobox", "searchbox", "slider", "spinbutton", "textbox"}
NAMED = {"Audio", "Video", "Canvas", "button", "image", "link"} | FIELDS

# Table cells and list items without content, and grids with a ground of their own that their cells leave bare.
BLANK = """() => {
  const painted = (element) => getComputedStyle(element).backgroundColor !== "rgba(0, 0, 0, 0)";
  const area = (element) => element.offsetWidth * element.offsetHeight;
  const bare = (grid) => 0.97 * area(grid) > [...grid.children].reduce((sum, cell) => sum + area(cell), 0);
  const grids = [...document.querySelectorAll("body *")].filter((element) =>
    /grid|flex/.test(getComputedStyle(element).display) && painted(element)
    && element.children.length > 1 && [...element.children].every(painted));
  const empty = [...document.querySelectorAll("td, th, li")].filter(
    (cell) => cell.checkVisibility() && !cell.innerText.trim()
      && !cell.querySelector("audio, video, canvas, svg, img, input"));
  return [...grids.filter(bare), ...empty].map((element) => element.outerHTML.slice(0, 200));
}"""

# Plays what is pressed; where it began, once it has gone on from there.
BEGINS = """(element) => new Promise((done, failed) => {
  element.play ? element.play() : element.click();
  const player = element.play ? element : element.querySelector("audio, video") ?? document.querySelector("audio");
  let began = null;
  player.onerror = () => failed(player.error.message);
  player.ontimeupdate = () => {
    began ??= player.currentTime;
    if (player.currentTime > began + 0.1 || player.ended) done(began);
  };
  setTimeout(failed, 60000, "it does not play");
})"""
# The same, and then presses it again: where it began, whether it was heard, before and after, and the players left.
BEGINS_AND_STOPS = f"""async (button) => {{
  const began = await ({BEGINS})(button);
  const heard = !button.querySelector("audio, video").muted, before = button.ariaPressed;
  button.click();
  return [began, heard, before, button.ariaPressed, document.querySelectorAll("audio, video").length];
}}"""


def media(folder: Path) -> Path:
    """Sound, silence, pictures, both, and names as long as they come."""
    folder.mkdir()
    write_audio(folder / f"{LONG}.wav", tone(8.0, seed=1))
    write_audio(folder / "silence.wav", np.zeros((1, 4 * 48000), np.float32))
    write_video(folder / "silent pictures.mp4", pictures(100, seed=2))
    write_video(folder / "both.mp4", pictures(100, seed=3), sound=tone(4.0, seed=3))
    write_video(folder / "tall.mp4", pictures(100, 320, 96, seed=4), sound=tone(4.0, seed=4))
    return folder


def run(*args: object) -> None:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output


def demo(folder: Path, model: str) -> Path:
    """With speech in the clips, and the user's own files."""
    own = media(folder / "media")
    run("demo", "--out", folder, "--clips", 10, "--media", own, "--model", model, "--no-open")
    return folder / "index.html"


def told(folder: Path, files: Iterable[Path]) -> Path:
    """Captions of all files, in windows of two seconds, as `peav describe -o` writes them."""
    texts = ["a dog barks while rain falls on a roof", "a-word-that-does-not-end-" * 6, "the same again"]
    windows = [{"start": 2.0 * place, "end": 2.0 * place + 2, "text": text} for place, text in enumerate(texts)]
    lines = (json.dumps({"path": str(file), "windows": windows}) + "\n" for file in files)
    (folder / "told").mkdir()
    (folder / "told" / "captions.jsonl").write_text("".join(lines))
    return folder / "told"


def hits(folder: Path, model: str) -> Path:
    """One of the files has gone since."""
    files, library = media(folder / "media"), folder / "library.parquet"
    gone = write_audio(files / f"gone-{LONG}.wav", tone(4.0))
    run("embed", files, "-o", library, "--model", model, "--window", 4)
    gone.unlink()
    captions = ("--captions", told(folder, files.iterdir()))
    run("search", library, "rain on a roof", "--html", folder / "hits.html", *captions)
    return folder / "hits.html"


def timeline(folder: Path, model: str) -> Path:
    """Three labels and dozens of events."""
    detector, page = random_detector(), folder / "timeline.html"
    save_pretrained(detector.model, folder / "detector", detector.tokenizer)
    sound = write_audio(folder / f"{LONG}.wav", tone(8.0, seed=1))
    labels = ("--labels", "dog,siren,rain on a roof", "--threshold", "0.5")
    captions = ("--captions", told(folder, [sound]))
    run("detect", sound, *labels, "--model", folder / "detector", "--html", page, *captions)
    return page


def curves(folder: Path, model: str) -> Path:
    """Of a run with two evaluations."""
    losses = {"a_ac": 1.0, "v_vc": 2.0, "best_rq": 0.5}
    with (folder / "log.jsonl").open("w") as log:
        for step in range(1, 101):
            line: dict[str, Any] = {"step": step, "loss": 3 / step, "lr": 0.1 / step, "norm": 1.0, "clips": 8}
            line |= {"wait": 0.1, "seconds": 0.5, "losses": {name: value / step for name, value in losses.items()}}
            if step % 50 == 0:
                line["eval"] = {"t2a": step / 200, "chance": 0.01}
            log.write(json.dumps(line) + "\n")
    return write_curves(folder)


def report(folder: Path, model: str) -> Path:
    """Of a run with a filtered clip, a failed one, one whose rewrite was refused, and one whose file has gone since."""
    files, stub = media(folder / "media"), Path(__file__).parents[1] / "engine" / "stub.py"
    gone = write_audio(files / f"gone-{LONG}.wav", tone(4.0))
    write_audio(files / "failed.wav", tone(4.0))
    recipe = f"""
name: stubs
filters: [{{class: "{stub}:Drops", name: quiet, ids: [silence.wav]}}]
captioners:
- {{class: "{stub}:Stub", name: first}}
- {{class: "{stub}:Stub", name: "{LONG}", raise_on: [failed.wav]}}
score: {{class: "{stub}:Scores"}}
rewrite: {{class: "{stub}:Invents", name: writer, invents: [both.mp4], input_price: 2}}
"""
    (folder / "recipe.yaml").write_text(recipe)
    run("caption", files, "-o", folder / "out", "--recipe", folder / "recipe.yaml", "--workers", 1)
    gone.unlink()
    run("caption", "report", folder / "out", "-o", folder / "report.html")
    return folder / "report.html"


PAGES: dict[str, Callable[[Path, str], Path]] = {
    "demo": demo,
    "hits": hits,
    "timeline": timeline,
    "curves": curves,
    "report": report,
    # A new page: a function (folder, a random model's directory) -> its file, and a line here.
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        # Chromium as root, as CI runs, has no sandbox.
        flags = ["--no-sandbox", "--mute-audio", "--autoplay-policy=no-user-gesture-required"]
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def made(model: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of a page by its name, each made once."""
    return cache(lambda name: PAGES[name](tmp_path_factory.mktemp(name), model))


@dataclass
class Opened:
    """A page in a browser, what it complained of and what it asked for."""

    file: Path
    page: Any
    errors: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)


@pytest.fixture(scope="module", params=product(PAGES, WIDTHS, ("light", "dark")), ids="-".join)
def opened(
    request: pytest.FixtureRequest, browser: Any, made: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    """Each page at each width in each theme, with its picture taken."""
    name, size, colors = request.param
    width, height = WIDTHS[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=colors)
    opened = Opened(made(name), context.new_page())
    opened.page.on("console", lambda message: opened.errors.append(message.text))
    opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.page.on("request", lambda asked: opened.addresses.append(asked.url))
    opened.page.goto(opened.file.as_uri())
    opened.page.wait_for_load_state("networkidle")
    pictures = Path(os.environ.get("PEAV_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    opened.page.screenshot(path=pictures / f"{name}-{size}-{colors}.png", full_page=True)
    yield opened
    context.close()


def test_nothing_is_said_on_the_console_and_nothing_is_fetched(opened: Opened) -> None:
    assert opened.errors == []
    assert {url for url in opened.addresses if not url.startswith(("data:", "blob:"))} == {opened.file.as_uri()}


def test_nothing_reaches_past_the_side(opened: Opened) -> None:
    wide, seen = opened.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= seen


def test_no_cell_is_blank_at_this_width_and_at_some_between(opened: Opened) -> None:
    size = opened.page.viewport_size
    for width in (size["width"], 600, 800):
        opened.page.set_viewport_size(size | {"width": width})
        assert opened.page.evaluate(BLANK) == []
    opened.page.set_viewport_size(size)


def test_whatever_plays_or_is_pressed_has_a_name_that_a_screen_reader_says(opened: Opened) -> None:
    nodes = opened.page.context.new_cdp_session(opened.page).send("Accessibility.getFullAXTree")["nodes"]
    found = [(node["role"]["value"], node["name"]["value"]) for node in nodes if not node["ignored"] and "name" in node]
    named = {role for role, name in found if name}
    assert named & {"Audio", "button", "checkbox"}
    assert [role for role, name in found if role in NAMED and not name.strip()] == []


def test_axe_finds_text_readable_and_nothing_against_wcag_aa(opened: Opened) -> None:
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
    violations = axe.Axe().run(opened.page, options=rules).response["violations"]
    assert [(found["id"], node["html"][:200]) for found in violations for node in found["nodes"]] == []


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def test_the_demo_plays_what_is_clicked_and_a_second_click_stops_it(page: Any, made: Callable[[str], Path]) -> None:
    page.goto(made("demo").as_uri())
    for name in ("play the pictures", "play the sound", "play the clip"):
        began, heard, *others = page.get_by_role("button", name=name).first.evaluate(BEGINS_AND_STOPS)
        assert began < 1
        assert heard == (name != "play the pictures")
        assert others == ["true", "false", 0]


def test_a_hit_plays_its_window_and_no_more(page: Any, made: Callable[[str], Path]) -> None:
    page.goto(made("hits").as_uri())
    players = page.locator("audio, video").all()
    assert len(players) == page.locator("li").count() - page.get_by_text("no such file").count() > 0
    for player in players:
        assert player.evaluate(BEGINS) < 1
        assert player.evaluate("player => player.duration") == pytest.approx(4, abs=0.1)


def test_an_event_of_the_timeline_plays_from_its_onset(page: Any, made: Callable[[str], Path]) -> None:
    page.goto(made("timeline").as_uri())
    rows = page.locator("tbody tr")
    row = rows.nth(rows.count() // 2)
    minutes, seconds = row.locator("td").nth(1).inner_text().split(":")
    onset = 60 * float(minutes) + float(seconds)
    assert 2 < onset < 6
    assert onset - 0.1 < row.get_by_role("button").evaluate(BEGINS) < onset + 1
    assert 3.9 < page.get_by_role("button", name="0:04").evaluate(BEGINS) < 5


def test_the_report_plays_its_clips_finds_words_and_leads_to_the_worst(page: Any, made: Callable[[str], Path]) -> None:
    page.goto(made("report").as_uri())
    assert page.locator("article").count() == 5
    assert page.get_by_text("no such file").count() == 1
    for player in page.locator("article audio, article video").all():
        assert player.evaluate(BEGINS) < 1
    page.get_by_label("find").fill("both.mp4 template")
    assert page.locator("article:visible").count() == 1
    page.get_by_label("find").fill("")
    page.get_by_label("fallbacks alone").check()
    assert page.locator("article:visible h3").all_inner_texts() == ["both.mp4 fallback"]
    page.get_by_text("most requests").click()
    page.locator("details[open] a").get_by_text("both.mp4").first.click()
    assert page.locator("article:target h3").inner_text() == "both.mp4 fallback"
