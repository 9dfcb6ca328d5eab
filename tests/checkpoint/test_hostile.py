"""Whatever a checkpoint's files hold, loading ends in a model that works or in an error that names file and field.

The cases of the first half were tried by hand; the second half puts every wrong value into every field. All of it runs
in one process whose memory is bounded: an allocation of a config's size would end it.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_peaframe, tiny_peav
from media.hostile import Watch
from safetensors.torch import load_file, save_file

from peav.checkpoint import CheckpointError, load_config, load_model, load_tokenizer, save_pretrained
from peav.checkpoint.bundle import Checkpoint
from peav.checkpoint.convert import write_checkpoint
from peav.inference.tokenizer import train_tokenizer

LAYERS, WIDTH = "num_hidden_layers", "hidden_size"
SECONDS = 5
WRONG = (0, -1, 10**18, float("nan"), 1e30, 0.5, True, None, "x", [], [1], {"a": 1})


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """At most 8 GB of addresses more than there are: torch itself maps several."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 8 * 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture(autouse=True)
def bounded_time() -> Iterator[None]:
    """An answer within five seconds of processor time."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"no answer within {SECONDS} seconds")

    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of each kind and layout, by the name `kind-layout`; they share their weights' bytes."""
    root = tmp_path_factory.mktemp("sound")
    tokenizer = train_tokenizer(["a dog barks", "rain on a roof"], 300)
    for kind, model in (("peav", tiny_peav()), ("peaframe", tiny_peaframe())):
        save_pretrained(model.bfloat16(), root / f"{kind}-peav", tokenizer)
        for layout in ("perception_models", "transformers"):
            (root / f"{kind}-{layout}").mkdir()
            checkpoint = Checkpoint(model.config, dict(model.state_dict()))
            write_checkpoint(checkpoint, root / f"{kind}-{layout}", layout)
    return root


@pytest.fixture
def broken(sound: Path, tmp_path: Path) -> Path:
    """A copy of a sound checkpoint of ours, to be changed."""
    return shutil.copytree(sound / "peav-peav", tmp_path / "broken")


def put(data: Any, place: tuple[Any, ...], value: Any) -> None:
    """Set one value deep in nested dicts and lists."""
    for step in place[:-1]:
        data = data[step]
    data[place[-1]] = value


def assert_names(directory: Path, *words: str) -> None:
    """Loading fails, typed, with a message that holds every word."""
    with pytest.raises(CheckpointError) as caught:
        load_model(directory)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message) < 1000


CONFIGS = [
    *((("audio", "transformer", LAYERS), value) for value in (10**7, 10**9, -1)),
    *((("audio", "transformer", WIDTH), value) for value in (10**9, 10**18, 1e30, "x", None, 256.5)),
    *((("audio", "transformer", "max_positions"), value) for value in (10**12, 0)),
    (("audio", "transformer", "head_dim"), 2 * 10**9),
    (("audio", "transformer", "num_attention_heads"), 0),
    (("audio", "transformer", "rope_theta"), float("nan")),
    (("text", "vocab_size"), 10**12),
    (("text", LAYERS), 10**8),
    *((("text", "max_length"), value) for value in (10**12, 0)),
    (("text", "global_attn_every_n_layers"), 0),
    (("text", "num_attention_heads"), 0),
    *((("audio", "codec", "strides"), value) for value in ([2] * 64, [2, 0, 10, 12], [])),
    *((("audio", "codec", "sampling_rate"), value) for value in (0, 10**9)),
    (("video", "frame_encoder", "image_size"), 8 * 10**6),
    (("video", "frame_encoder", "patch_size"), 0),
    *((("video", "num_frames"), value) for value in (10**9, 0, -3)),
    (("output_dim",), 10**12),
    (("audio",), "tower"),
]


@pytest.mark.parametrize(("place", "value"), CONFIGS, ids=str)
def test_hostile_configs_name_file_and_field(broken: Path, place: tuple[str, ...], value: Any) -> None:
    data = json.loads((broken / "config.json").read_text())
    put(data, ("config", *place), value)
    (broken / "config.json").write_text(json.dumps(data))
    assert_names(broken, "config.json", "config." + ".".join(place))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000 + "]" * 200_000, ("config.json", "is not JSON")),
        ('{"format": ' + "[" * 200_000 + "]" * 200_000 + "}", ("config.json", "is not JSON")),
        ("[]", ("config.json", "no JSON object")),
        ('{"format": "peav", "version": 1, "model": "peav", "config": null}', ("config.json", "config.audio")),
        ('{"format": "peav", "version": 1, "model": "peav", "config": []}', ("config.json", "config is []")),
        ('{"format": "peav", "version": 1, "model": "peav", "config": "x"}', ("config.json", "config is 'x'")),
        ('{"format": "peav", "version": 1, "model": ["peav"]}', ("config.json", "model ['peav']")),
        ('{"format": "peav", "version": ' + "1" * 5000 + "}", ("config.json", "is not JSON")),
        ('{"audio_model": 3}', ("config.json", "audio_model is 3")),
        ('{"model_type": ["pe_audio"]}', ("config.json", "none of the layouts")),
        ('{"model_type": "pe_audio", "text_config": "x"}', ("config.json", "text_config is 'x'")),
    ],
    ids=range(11),
)
def test_hostile_json_is_an_error(broken: Path, text: str, words: tuple[str, ...]) -> None:
    (broken / "config.json").write_text(text)
    assert_names(broken, *words)


def rewrite_header(path: Path, change: Any) -> None:
    """Change a safetensors file's header, which is JSON after its length in eight bytes."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def _first(header: dict[str, Any]) -> dict[str, Any]:
    tensor: dict[str, Any] = next(value for name, value in header.items() if name != "__metadata__")
    return tensor


HEADERS = {
    "a shape of 1e15": lambda header: _first(header).update(shape=[10**15]),
    "a shape that overflows": lambda header: _first(header).update(shape=[2**40, 2**40]),
    "a negative shape": lambda header: _first(header).update(shape=[-1]),
    "offsets of 2^62": lambda header: _first(header).update(data_offsets=[2**62, 2**62 + 8]),
    "another dtype": lambda header: _first(header).update(dtype="I16"),
    "no dtype": lambda header: _first(header).update(dtype="X9"),
    "tensors that overlap": lambda header: [
        value.update(data_offsets=[0, 2 * 64]) for name, value in header.items() if name.endswith("norm.weight")
    ],
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers_are_errors(broken: Path, name: str) -> None:
    rewrite_header(broken / "model.safetensors", HEADERS[name])
    assert_names(broken, "model.safetensors")


@pytest.mark.parametrize("length", [2**60, 2**64 - 1, 10**8, 0])
def test_hostile_header_lengths_are_errors(broken: Path, length: int) -> None:
    path = broken / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    assert_names(broken, "model.safetensors", "damaged")


@pytest.mark.parametrize("size", [0, 7, 8, 1000, 0.5])
def test_weights_that_are_cut_short_are_errors(broken: Path, size: float) -> None:
    path = broken / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[: int(size if size != 0.5 else len(raw) // 2)])
    assert_names(broken, "model.safetensors", "damaged")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e5m2])
def test_weights_that_are_not_finite_are_named(broken: Path, value: float, dtype: torch.dtype) -> None:
    tensors = load_file(broken / "model.safetensors")
    name = "audio.tower.layers.1.mlp.down.weight"
    changed = tensors[name].float()
    changed[-1, 3] = value
    tensors[name] = changed.to(dtype)
    save_file(tensors, broken / "model.safetensors")
    assert_names(broken, "model.safetensors", name, "not finite")


def shard(directory: Path, weight_map: Any) -> None:
    """Leave the weights to an index."""
    (directory / "model.safetensors").rename(directory / "model-1.safetensors")
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


OUTSIDE = ("/etc/passwd", "../elsewhere.safetensors", "sub/inside.safetensors", "../../../../../../../../etc/passwd")


@pytest.mark.parametrize(
    "name",
    [
        *(*OUTSIDE, "..", ".", "", "..\\x.safetensors", "../broken/model-1.safetensors", "model-1.safetensors\n"),
        *("\0.safetensors", "x" * 300 + ".safetensors"),
    ],
)
def test_a_shard_is_a_file_beside_its_index(broken: Path, name: str) -> None:
    """Nothing else is opened: the kernel says so, whoever opens."""
    shard(broken, {"text.tokens.weight": name})
    (broken / "sub").mkdir()
    for target in ("../elsewhere.safetensors", "sub/inside.safetensors"):
        shutil.copy(broken / "model-1.safetensors", broken / target)
    watch = Watch([*(broken / target for target in OUTSIDE), broken / "model-1.safetensors"])
    assert_names(broken, "model.safetensors.index.json", "weight_map.text.tokens.weight")
    assert watch.opened() == []
    load_file(broken / "model-1.safetensors")
    assert watch.opened() == ["model-1.safetensors"]


@pytest.mark.parametrize("weight_map", [[], ["model-1.safetensors"], None, {"text.tokens.weight": 3}, "x", 3, {}])
def test_hostile_indexes_are_errors(broken: Path, weight_map: Any) -> None:
    shard(broken, weight_map)
    assert_names(broken, "broken")


def test_an_index_without_a_weight_map_is_an_error(broken: Path) -> None:
    (broken / "model.safetensors.index.json").write_text("{}")
    assert_names(broken, "model.safetensors.index.json", "weight_map")


def test_shards_hold_what_the_index_says(broken: Path) -> None:
    names = list(load_file(broken / "model.safetensors"))
    shard(broken, dict.fromkeys(names[1:], "model-1.safetensors"))
    assert_names(broken, "model-1.safetensors", f"holds unknown {names[0]}")


def test_the_hubs_links_into_its_blobs_are_followed(broken: Path, tmp_path: Path) -> None:
    """As huggingface_hub lays a repository out: snapshots hold links, blobs the files."""
    tensors = load_file(broken / "model.safetensors")
    repository = tmp_path / "models--someone--peav"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, snapshot / file)
        weight_map |= dict.fromkeys(part, file)
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    shutil.copy(broken / "config.json", snapshot)
    for number, file in enumerate(sorted(snapshot.iterdir())):
        blob = repository / "blobs" / f"{number:064x}"
        file.rename(blob)
        file.symlink_to(Path("..") / ".." / "blobs" / blob.name)
    state = load_model(snapshot).state_dict()
    assert all(tensor.float().equal(state[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize("text", ["{}", "{x", "[]", "null", '{"model": 3}', "[" * 200_000, "\xff"])
def test_broken_tokenizers_are_errors(broken: Path, text: str) -> None:
    (broken / "tokenizer.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_tokenizer(broken)


@pytest.mark.parametrize("place", ["vocabulary", "framing"])
def test_a_tokenizer_whose_ids_have_no_entry_is_an_error_at_load(broken: Path, place: str) -> None:
    import peav

    data = json.loads((broken / "tokenizer.json").read_text())
    if place == "vocabulary":
        data["model"]["vocab"]["dog"] = 2048
    else:
        data["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [2048]
    (broken / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has an id 2048, but text\.vocab_size .* 2048"):
        peav.load(str(broken))


def test_a_tokenizers_own_padding_allocates_nothing(broken: Path) -> None:
    import peav

    data = json.loads((broken / "tokenizer.json").read_text())
    data["padding"] = {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None}
    data["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    data["truncation"] = {"direction": "Right", "max_length": 10**12, "strategy": "LongestFirst", "stride": 10**11}
    (broken / "tokenizer.json").write_text(json.dumps(data))
    assert peav.load(str(broken)).encode_text("a dog").shape == (256,)


def leaves(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value and every section of nested dicts stands; of lists the first alone."""
    for key, value in data.items() if isinstance(data, dict) else list(enumerate(data))[:1]:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from leaves(value, (*place, key))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["peav", "perception_models", "transformers"])
@pytest.mark.parametrize("kind", ["peav", "peaframe"])
def test_no_value_of_any_field_does_harm(sound: Path, tmp_path: Path, kind: str, layout: str) -> None:
    """A config that is read all the same is one that a model can be built of, at once."""
    from peav.checkpoint.bundle import parameter_shapes

    text = (sound / f"{kind}-{layout}" / "config.json").read_text()
    read, refusals = 0, []
    for place in list(leaves(json.loads(text))):
        for value in WRONG:
            data = json.loads(text)
            put(data, place, value)
            (tmp_path / "config.json").write_text(json.dumps(data))
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # for each value
            try:
                config = load_config(tmp_path)
            except CheckpointError as error:
                refusals.append(str(error))
            else:
                read += 1
                if read % 40 == 0:
                    parameter_shapes(config)
    assert len(refusals) > read
    assert all("config.json" in message and len(message) < 1000 for message in refusals)


@pytest.mark.parametrize(
    "name", ["video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json"]
)
@pytest.mark.parametrize("key", ["num_frames", "sampling_rate"])
@pytest.mark.parametrize("value", [0, -3, 10**9, float("nan"), "x", [1], {"a": 1}, 1.5])
def test_processor_files_are_read_as_carefully(sound: Path, tmp_path: Path, name: str, key: str, value: Any) -> None:
    shutil.copy(sound / "peav-transformers" / "config.json", tmp_path)
    (tmp_path / name).write_text(json.dumps({key: value}))
    if (name.startswith("video"), key) == (True, "sampling_rate"):
        load_config(tmp_path)  # it stands elsewhere
        return
    with pytest.raises(CheckpointError, match=rf"{name}: .*{key}"):
        load_config(tmp_path)
