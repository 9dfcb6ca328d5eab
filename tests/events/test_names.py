"""One recording is known on both sides by whatever folders they give, or it is said that it cannot be told."""

from __future__ import annotations

import pytest

from peav.errors import EventsError
from peav.events.names import aligned, recording_name, short_names


def test_a_name_is_a_path_without_its_media_suffix() -> None:
    names = ("home/1.wav", "a.b.MP3", "take 1.5", "x\\y.flac", "plain")
    assert [recording_name(name) for name in names] == ["home/1", "a.b", "take 1.5", "x/y", "plain"]


def test_short_names_keep_the_folders_that_tell_them_apart() -> None:
    names = ["/d/home/1.wav", "/d/street/1.wav", "/d/home/2.wav", "1.wav", "x/home/1.wav"]
    assert short_names(names) == {
        "/d/home/1.wav": "d/home/1.wav",
        "/d/street/1.wav": "street/1.wav",
        "/d/home/2.wav": "2.wav",
        "1.wav": "1.wav",
        "x/home/1.wav": "x/home/1.wav",
    }


@pytest.mark.parametrize(
    ("found", "true", "same"),
    [
        (["/data/home/1", "/data/street/1"], ["home/1", "street/1"], ["home/1", "street/1"]),
        (["/copy/street/1"], ["home/1", "street/1"], ["street/1"]),
        (["/copy/1"], ["audio/1"], ["audio/1"]),  # moved to another folder, but no other has its name
        (["park/1", "home/1"], ["home/1", "street/1"], ["park/1", "home/1"]),  # a stranger stays one
        (["/a/x/home/1", "/a/y/home/1"], ["/b/x/home/1", "/b/y/home/1"], ["/b/x/home/1", "/b/y/home/1"]),
        (["3"], ["1", "2"], ["3"]),
    ],
)
def test_recordings_are_known_by_their_last_folders(found: list[str], true: list[str], same: list[str]) -> None:
    assert aligned({name: name for name in found}, true) == dict(zip(same, found, strict=True))


@pytest.mark.parametrize(
    ("found", "true", "message"),
    [
        (["1"], ["home/1", "street/1"], "1 may be home/1 or street/1"),
        (["home/1", "street/1"], ["1"], "home/1 and street/1 may both be 1"),
        (["/a/home/1"], ["x/home/1", "y/home/1"], "/a/home/1 may be x/home/1 or y/home/1"),
    ],
)
def test_what_cannot_be_told_names_both(found: list[str], true: list[str], message: str) -> None:
    with pytest.raises(EventsError, match=message):
        aligned(dict.fromkeys(found), true)
