"""The `peav` command. Verbs are imported only when they run, so that `peav --help` answers at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import peav
from peav.cli.console import echo, err, escape, fail, one_line_warnings
from peav.utils.atomic import on_disk
from peav.utils.terminal import visible

# OpenMP's threads burn a processor while they wait, which others may need; read once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# verb -> its line in the help. The code is the function of that name (`_` for spaces) in the module of that name, or
# where the first of two words is no verb of its own, in the module of that word.
VERBS = {
    "demo": "Make clips, embed them, search every way and write a page to look at.",
    "embed": "Embed files and folders into a library.",
    "search": "Search a library by text, sound or video.",
    "library info": "Say what a library holds.",
    "library list": "List the files of a library, those that have gone, or those that failed.",
    "library remove": "Take files out of a library.",
    "library sync": "Let a library follow its files: what moved is known again, what has gone leaves.",
    "classify": "Say which of some labels fits each file.",
    "describe": "Tell in words what is heard and seen in files.",
    "detect": "Find when sounds are heard.",
    "detect calibrate": "Fit a threshold for each label from marked events.",
    "detect eval": "Measure detections against marked events.",
    "caption": "Caption clips by a recipe's captioners and rewriter, for training.",
    "caption retry": "Run the clips again that failed in a captioning run.",
    "caption report": "Write a page to look at of what a captioning run made and took.",
    "prepare": "Store the features of a manifest's clips in shards, for training.",
    "train": "Train a model from a recipe.",
    "ablate": "Train variants of a recipe and compare them.",
    "eval": "Measure a model: retrieval and classification.",
    "world": "Write clips of the procedural audio-video world.",
    "mix": "Mix labeled sounds into soundscapes with timed events.",
    "average": "Average the weights of several checkpoints.",
    "convert": "Convert a checkpoint between the three layouts.",
    "bench": "Measure how fast a model is on this machine, beside transformers.",
    "doctor": "Check that everything works on this machine.",
}


class Verbs(TyperGroup):
    """A group that knows its verbs' names and help without importing them."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {verb: TyperCommand(name=verb, help=line) for verb, line in VERBS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the real command in the place of its stub."""
        if (two := " ".join(args[:2])) in VERBS:  # a verb of two words; `detect ./eval` listens to a file
            args = [two, *args[2:]]
        name, stub, rest = super().resolve_command(ctx, args)
        return name, stub if name is None else load(name), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; what is wrong with its input is one line and exit code 2, not a traceback."""
        try:
            with one_line_warnings():
                return super().invoke(ctx)
        except (ValueError, OSError) as error:  # a `PeavError`, an option that the library refuses, a full disk
            if isinstance(error, BrokenPipeError):
                raise
            fail(error)
        except KeyboardInterrupt as stop:
            err.print(escape(str(stop) or "stopped"), soft_wrap=True, highlight=False)
            raise typer.Exit(getattr(stop, "exit_code", 130)) from None
        except Exception as error:
            if hasattr(error, "format_message"):  # one of click's, which may quote a file's name
                error.message = visible(error.message)  # type: ignore[attr-defined]
            raise


def function(verb: str) -> Callable[..., None]:
    """Import what a verb does."""
    name, first = verb.replace(" ", "_"), verb.split()[0]
    found: Callable[..., None] = getattr(import_module(f"peav.cli.{name if first in VERBS else first}"), name)
    return found


def load(verb: str) -> Any:
    """Import a verb and make its command."""
    carry_out = function(verb)

    @wraps(carry_out)  # its options are read off it
    def run(**given: Any) -> None:
        # An address that a verb takes is a plain text to it; of a path it would make a folder `s3:` here.
        for value in given.values():
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, Path):
                    on_disk(path)
        carry_out(**given)

    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(verb)(run)
    return typer.main.get_command(single)


def _version(show: bool) -> None:
    if show:
        echo(f"peav {peav.__version__}")
        raise typer.Exit


app = typer.Typer(cls=Verbs, no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Audio, video and text in one embedding space (PE-AV)."""
