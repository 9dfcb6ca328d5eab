"""What a model card says of the training, and the snippet that it shows."""

from __future__ import annotations

import pytest
from random_model import random_encoder

from peav.checkpoint import resolve
from peav.checkpoint.card import model_card, read_card


@pytest.mark.parametrize(
    ("pairs", "first", "second"),
    [
        ((), 'encode_audio_video(["clip.mp4"])', 'encode_text(["a dog barking"], space="audio_video")'),
        (("a_v", "a_ac", "av_avc"), 'encode_audio_video(["clip.mp4"])', 'space="audio_video")'),
        (("a_v", "a_ac"), 'encode_audio(["clip.wav"])', 'encode_text(["a dog barking"], space="audio")'),
        (("v_vc",), 'encode_video(["clip.mp4"])', 'space="video")'),
        (("a_v",), 'encode_audio(["clip.wav"])', 'encode_video(["clip.mp4"])'),
        (("v_ac__a",), 'encode_video(["clip.mp4"], text=["a dog in a garden"])', 'encode_audio(["clip.wav"])'),
    ],
)
def test_the_snippet_compares_what_was_trained_to_go_together(pairs: tuple[str, ...], first: str, second: str) -> None:
    card = model_card(random_encoder().model, "barker", "me/barker", pairs=pairs)
    code = card.partition("```python\n")[2].partition("```")[0]
    compile(code, "card", "exec")
    assert 'peav.load("me/barker")' in code
    clips, compared = code.splitlines()[3:5]
    assert clips.endswith(first)
    assert f"{second}, clips)" in compared


def test_a_card_names_its_start_and_quotes_what_that_says_of_its_data_down_the_line() -> None:
    model, tiny = random_encoder().model, read_card(resolve("tiny"))
    card = model_card(
        model, "barker", "me/barker", licenses={"CC0-1.0": 1}, pairs=["a_ac"], base="tiny", base_card=tiny
    )
    assert "It began with `tiny` (license: apache-2.0)." in card
    assert "> - **Data**: 20000 clips of the procedural world" in card
    assert "**Figures**" not in card
    assert "Trained on this pair:\n\n- `a_ac`: audio, audio caption\n" in card
    assert "- CC0-1.0: 1 clip\n" in card
    again = model_card(model, "more", "me/more", pairs=["a_v", "a_vc__v"], base="me/barker", base_card=card)
    assert "> > - **Data**: 20000 clips of the procedural world" in again
    assert "> - CC0-1.0: 1 clip\n" in again
    assert "- `a_vc__v`: audio with video caption, video\n" in again
    hub = model_card(model, "more", "me/more", base="facebook/pe-av-small")
    assert "It began with `facebook/pe-av-small`. What that was trained on" in hub
    assert "## Training" not in model_card(model, "new", "me/new")
