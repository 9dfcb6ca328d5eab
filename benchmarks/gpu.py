"""What peav does on one GPU, part by part; run it by `benchmarks/gpu.sh`.

python benchmarks/gpu.py [--cpu] --out FOLDER [--seconds 450]   --cpu: a small form of every part, on the CPU
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import no_decoder  # noqa: F401  before peav, where PyAV is not installed
import torch
from gpu_training import run as train_small_recipe
from torch import Tensor

from peav.checkpoint import load_model
from peav.checkpoint.bundle import Checkpoint, parameter_shapes
from peav.checkpoint.convert import write_checkpoint
from peav.data.collate import Batch, Texts
from peav.model import PEAV, PEAVConfig, preset
from peav.train import plan
from peav.train.contrastive_module import ContrastiveModule
from peav.train.meter import matmul_peak, most_memory
from peav.train.optimizer import make_optimizer, take_step
from peav.train.recipe import Recipe, recipe_of
from peav.train.skeleton import TOKENS, Clip, clip_of

KEPT = Path(".gpu")  # what `benchmarks/gpu.sh prepare` made


class Bench:
    """The device, what it reaches, and the sizes of all parts."""

    def __init__(self, small: bool, out: Path) -> None:
        self.small, self.out = small, out
        self.device = torch.device("cpu" if small else "cuda")
        self.presets = ("nano",) if small else ("small-16-frame", "large-16-frame")
        self.peaks: dict[torch.dtype, float] = {}

    def about(self) -> dict[str, Any]:
        """The machine, and the operations a second of a large matrix product."""
        dtypes = (torch.float32,) if self.small else (torch.float32, torch.bfloat16)
        self.peaks = {dtype: matmul_peak(self.device, dtype) for dtype in dtypes}
        name = "CPU" if self.small else torch.cuda.get_device_name()
        peaks = {f"{dtype} TFLOP/s".removeprefix("torch."): peak / 1e12 for dtype, peak in self.peaks.items()}
        return {"device": name, "torch": torch.__version__, "python": sys.version.split()[0], **peaks}

    def tests(self) -> dict[str, Any]:
        """The tests of networks and training steps on generated tensors."""
        paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PEAV_TEST_DEVICE": self.device.type, "PYTHONPATH": paths}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no_decoder"]
        done = subprocess.run(
            [*command, "tests/test_on_gpu.py"], env=environment, capture_output=True, text=True, check=False
        )
        (self.out / "tests.log").write_text(done.stdout + done.stderr)
        return {"exit": done.returncode, "said": done.stdout.strip().splitlines()[-1:]}

    @torch.inference_mode()
    def codec(self) -> dict[str, Any]:
        """Seconds of sound that the codec encodes a second."""
        rows, seconds = (1, 2) if self.small else (16, 30)
        found: dict[str, Any] = {}
        for dtype in self.peaks:
            model = self._model(self.presets[0], dtype)
            sound = torch.rand(rows, 48000 * seconds, device=self.device, dtype=dtype) - 0.5
            took = self._median(lambda model=model, sound=sound: model.encode_codec(sound))
            found[str(dtype)] = {"seconds_of_sound_a_second": rows * seconds / took, "GiB": self._memory()}
        return found

    @torch.inference_mode()
    def embedding(self) -> dict[str, Any]:
        """Clips a second, ours and transformers' with the same weights, in turn; and how far apart they are."""
        import transformers

        try:
            theirs_kind = transformers.PeAudioVideoModel
        except ImportError as error:  # timm and torchvision are not everywhere
            return {"skipped": f"transformers has no PE-AV here: {error}"}
        config = preset(self.presets[0])
        assert isinstance(config, PEAVConfig)
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Checkpoint(config, _cheap_weights(config)), Path(folder), "transformers")
            ours = load_model(folder).eval()
            theirs = theirs_kind.from_pretrained(folder, dtype=torch.float32).eval()
        assert isinstance(ours, PEAV)
        rows, seconds = (1, 1) if self.small else (8, 10)
        frames, size = 4 if self.small else 16, config.video.frame_encoder.image_size
        found: dict[str, Any] = {"transformers": transformers.__version__}
        for dtype in self.peaks:
            sound = (torch.rand(rows, 48000 * seconds, device=self.device) - 0.5).to(dtype)
            pixels = (torch.rand(rows, frames, 3, size, size, device=self.device) * 2 - 1).to(dtype)
            mine, other = ours.to(self.device, dtype), theirs.to(self.device, dtype)

            def embed(model: PEAV = mine, sound: Tensor = sound, pixels: Tensor = pixels) -> dict[str, Tensor]:
                audio = model.audio_hidden(model.encode_codec(sound))
                features = model.frame_features(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
                video = model.video_hidden(features)
                both = model.audio_video_hidden(audio.sequence, None, video.sequence, None, cls_only=True)
                pooled = {"audio": audio.pooled, "video": video.pooled, "audio_video": both.pooled}
                return {name: model.project(state, name) for name, state in pooled.items()}

            def embed_theirs(model: Any = other, sound: Tensor = sound, pixels: Tensor = pixels) -> Any:
                return model.get_audio_video_embeds(
                    sound[:, None], pixels, return_audio_embeds=True, return_video_embeds=True
                )

            a, b = embed(), embed_theirs()
            pairs = [(a[name], getattr(b, f"{name}_embeds")) for name in a]
            apart = max(float((x - y).float().abs().max() / y.float().abs().max()) for x, y in pairs)
            mine_took, theirs_took = self._in_turn(embed, embed_theirs)
            found[str(dtype)] = {
                "clips_a_second": rows / mine_took,
                "transformers_clips_a_second": rows / theirs_took,
                "times": theirs_took / mine_took,
                "difference": apart,
            }
        return found

    def step(self, name: str) -> dict[str, Any]:
        """A training step of a preset on generated clips, codec and frame encoder in it, and its share of the peak."""
        batch, seconds = (2, 1.0) if self.small else (16, 10.0)
        recipe = _recipe(name, batch, seconds, bf16=not self.small)
        cost, config = plan(recipe), preset(name)
        assert isinstance(config, PEAVConfig)
        model = self._model(name, torch.float32)
        model.train().recompute_layers()
        model.audio.codec.requires_grad_(False)
        module = ContrastiveModule(model, recipe.objective)
        optimizer = make_optimizer(module, recipe.optim)
        clip = clip_of(config, recipe)
        given, sound = _clips(config, clip, batch, self.device), torch.rand(batch, clip.samples, device=self.device)
        losses: list[float] = []

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.optim.bf16):
                with torch.no_grad():
                    latents = module.model.encode_codec(sound - 0.5)
                own = Batch(**vars(given) | {"audio": latents.float()})
                total = torch.stack(list(module(own).values())).sum()
            total.backward()
            take_step(optimizer, 1e-5, 1.0)
            losses.append(total.item())

        took = self._median(step, times=3)
        # The codec runs in this step, and in the plan's where clips are decoded while training.
        flops = cost.step_flops + (0 if recipe.codec.trainable else batch * cost.flops["codec"])
        peak = self.peaks[torch.bfloat16 if recipe.optim.bf16 else torch.float32]
        return {
            "batch": batch,
            "seconds": took,
            "clips_a_second": batch / took,
            "TFLOP": flops / 1e12,
            "share_of_peak": flops / took / peak,
            "GiB": self._memory(),
            "GiB_planned": sum(cost.memory.values()) / 2**30,
            "losses": losses,
        }

    def training(self) -> dict[str, Any]:
        """The small recipe, beside the CPU's losses."""
        if not (KEPT / "losses.json").exists():
            return {"skipped": f"{KEPT} is not there: benchmarks/gpu.sh prepare makes it"}
        return train_small_recipe(KEPT, self.out / "run", 5 if self.small else 300)

    def _model(self, name: str, dtype: torch.dtype) -> PEAV:
        config = preset(name)
        assert isinstance(config, PEAVConfig)
        with torch.device("meta"):
            model = PEAV(config)
        model.load_state_dict(_cheap_weights(config, torch.float32), assign=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        return model.to(self.device, dtype).eval()

    def _memory(self) -> float:
        return most_memory(self.device) / 2**30

    def _time(self, work: Callable[[], Any]) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    def _median(self, work: Callable[[], Any], times: int = 5) -> float:
        work()
        return sorted(self._time(work) for _ in range(1 if self.small else times))[0 if self.small else times // 2]

    def _in_turn(self, one: Callable[[], Any], other: Callable[[], Any]) -> tuple[float, float]:
        count = 1 if self.small else 5
        pairs = [(self._time(one), self._time(other)) for _ in range(count)]
        first, second = (sorted(times)[count // 2] for times in zip(*pairs, strict=True))
        return first, second


def _cheap_weights(config: PEAVConfig, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """Weights of any size in seconds: one random stretch over and over, scaled by the inputs of each."""
    stretch = torch.randn(2**20 + 7, generator=torch.Generator().manual_seed(0)).to(dtype)

    def fill(name: str, shape: torch.Size) -> Tensor:
        if len(shape) < 2 and name.endswith(("weight", "alpha")):
            return torch.ones(shape, dtype=dtype)
        count, inputs = shape.numel(), shape[1:].numel()
        values = stretch.repeat(-(-count // len(stretch)))[:count].view(shape)
        return values.mul_((inputs if len(shape) > 1 else 2500) ** -0.5)

    return {name: fill(name, shape) for name, shape in parameter_shapes(config).items()}


def _recipe(name: str, batch: int, seconds: float, bf16: bool) -> Recipe:
    return recipe_of(
        {
            "name": "step",
            "output": "out/step",
            "model": name,
            "data": {"cache": "out/cache", "sources": [{"place": "none.jsonl"}], "max_seconds": seconds},
            "optim": {"steps": 1, "batch_size": batch, "bf16": bf16, "recompute": True},
        }
    )


def _clips(config: PEAVConfig, clip: Clip, count: int, device: torch.device) -> Batch:
    """Generated clips with three captions each; their sound comes in the step."""
    size, own = clip.image_size, torch.arange(count)
    ids = torch.randint(3, config.text.pad_token_id or config.text.vocab_size, (count, TOKENS))
    said = Texts(ids, torch.ones(count, TOKENS, dtype=torch.bool), torch.ones(count, dtype=torch.bool), own)
    return Batch(
        ids=[str(number) for number in range(count)],
        audio=torch.zeros(count, 0),
        audio_lengths=torch.full((count,), clip.steps),
        frames=torch.randint(0, 256, (count, clip.frames, size, size, 3), dtype=torch.uint8),
        frame_lengths=torch.full((count,), clip.frames),
        texts=dict.fromkeys(("audio", "video", "audio_video"), said),
        groups={"audio": own, "video": own},
    ).to(device)


def main() -> None:
    """Carry all parts out, each written as soon as it is done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=450.0, help="begin no part after so many")
    given = parser.parse_args()
    if not given.cpu and not torch.cuda.is_available():
        print("no GPU here (torch.cuda.is_available() is false): nothing was measured; --cpu runs a small form of it")
        return
    began, bench = time.perf_counter(), Bench(given.cpu, given.out)
    parts: dict[str, Callable[[], dict[str, Any]]] = {"machine": bench.about, "tests": bench.tests}
    parts |= {"codec": bench.codec, "training": bench.training, "embedding": bench.embedding}
    parts |= {f"step {name}": lambda name=name: bench.step(name) for name in bench.presets}
    found: dict[str, Any] = {}
    for name, part in parts.items():
        start = time.perf_counter()
        if start - began > given.seconds:
            found[name] = {"skipped": "no time was left"}
            continue
        try:
            found[name] = part()
        except Exception as error:  # one part that fails costs no other
            traceback.print_exc()
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
        found[name]["took"] = time.perf_counter() - start
        print(name, json.dumps({key: value for key, value in found[name].items() if key != "losses"}))
        (given.out / "gpu.json").write_text(json.dumps(found, indent=1))
    if failed := [name for name, part in found.items() if "failed" in part or part.get("exit")]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
