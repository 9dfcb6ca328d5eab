"""What the command line says on stderr beside its results."""

from __future__ import annotations

import logging
import warnings

import pytest

from peav.cli.console import one_line_warnings
from peav.cli.train import ProgressReporter, training_bar


def test_a_warning_and_what_a_logger_says_are_one_line_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("peav.features.store")
    with one_line_warnings():
        for _ in range(8):
            with warnings.catch_warnings():  # forgets what was said, as libraries make Python do
                warnings.warn("a.wav: truncated", UserWarning, stacklevel=1)
            logger.warning("%s: damaged", "b.safetensors")
        warnings.warn("c.wav: [bold]truncated", UserWarning, stacklevel=1)
        logger.info("loaded tiny")
    assert capsys.readouterr().err.splitlines() == [
        "warning: a.wav: truncated",
        "warning: b.safetensors: damaged",
        "warning: c.wav: [bold]truncated",
    ]


def test_without_the_command_line_a_program_decides_who_hears_the_loggers(capfd: pytest.CaptureFixture[str]) -> None:
    with one_line_warnings():
        pass
    assert [type(handler) for handler in logging.getLogger("peav").handlers] == [logging.NullHandler]
    assert capfd.readouterr().err == ""


def test_of_the_processes_that_train_together_one_says_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    for leads in (False, True):
        with training_bar(leads) as progress:
            reporter = ProgressReporter(progress)
            reporter.stage("train", 10)
            reporter.step({"step": 4, "loss": 0.5, "losses": {"a_ac": 0.5}, "eval": {"t2a": 0.25}})
        assert capsys.readouterr() == ("", "step 4: t2a 0.250\n" if leads else "")
