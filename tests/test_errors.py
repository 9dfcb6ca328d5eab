"""All errors are children of one; a file that is not there is also Python's own error of that name."""

from __future__ import annotations

import ast
import importlib
import pickle
import re
from pathlib import Path

import pytest

import peav
import peav.errors
from peav.errors import MediaError, MissingFileError, TrainingError
from peav.media import load_audio

# What never leaves the function or the module that raises it.
INTERNAL = {"MissingFrameError", "WorkerFailure", "_Closed", "_Elsewhere"}


@pytest.mark.slow
def test_every_error_class_of_the_package_is_a_peav_error():
    bases: dict[str, list[str]] = {}
    for path in Path(peav.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [ast.unparse(base) for base in node.bases]

    def ancestors(name: str) -> set[str]:
        return {name}.union(*(ancestors(base) for base in bases.get(name, ())))

    raised = {name for name in bases if any(a.endswith(("Error", "Exception")) for a in ancestors(name))}
    assert {name for name in raised if "PeavError" not in ancestors(name)} == INTERNAL


def test_a_missing_file_can_be_caught_as_python_has_it_and_says_what_is_missing():
    for kind in (FileNotFoundError, MediaError, ValueError):
        with pytest.raises(kind, match=r"^nowhere\.wav: no such file"):
            load_audio("nowhere.wav")
    with pytest.raises(MissingFileError) as caught:
        load_audio("nowhere.wav")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (MissingFileError, str(caught.value))


@pytest.mark.slow
def test_messages_of_the_library_speak_the_words_of_the_command_line_and_of_python():
    """Those of `cli/` are the command line's alone; a flag that others name comes with what Python calls it."""
    root, flags = Path(peav.__file__).parent, r"(?<![\w-])--[a-z-]+|\bencode_\w+|\b\w+=(?:True|False|None)"
    trees = {path: ast.parse(path.read_text()) for path in root.rglob("*.py") if path.parent.name != "cli"}
    raised = [(path, node) for path, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    for path, node in raised:
        texts = [
            part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        said = re.sub(r"`[^`]*`|pip install.*", "", " ".join(texts))  # a whole command
        named = re.sub(r"--[a-z-]+ \(in Python: \w+=\w+\)", "", said)
        assert not re.search(flags, named), f"{path}:{node.lineno}: {said}"


def test_a_training_error_is_still_a_runtime_error():
    assert issubclass(TrainingError, RuntimeError)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("media.errors", "MediaError"),
        ("media", "StreamWarning"),
        ("checkpoint.errors", "CheckpointError"),
        ("checkpoint", "CheckpointError"),
        ("train.errors", "TrainingError"),
        ("train", "RecipeError"),
        ("events.errors", "EventsError"),
        ("detector", "LabelError"),
        ("search.library", "LibraryError"),
        ("data.manifest", "ManifestError"),
        ("data.records", "ManifestError"),
        ("features.prepared", "PreparedError"),
        ("synth.world.errors", "WorldError"),
        ("synth.mix.mixer", "MixingError"),
        ("utils.storage", "StorageError"),
        ("utils.text", "TextError"),
    ],
)
def test_an_error_can_be_imported_from_where_it_was(module: str, name: str):
    assert getattr(importlib.import_module(f"peav.{module}"), name) is getattr(peav.errors, name)
