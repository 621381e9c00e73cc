"""Speed of the trainer relative to a plain hand-written loop with the same networks, in one process, in turns.

    fashionflow data synth -o drawn --clips 4
    fashionflow data prepare drawn -o cache --model mini-latent
    python scripts/measure_training.py --data cache

Other programs slow both loops down alike; a ratio of 0.95 or more means that the trainer itself costs at most 5 %.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fashionflow_benchmarks.timing import hardware
from fashionflow_core.config import ModelConfig
from fashionflow_core.dataset.cache import LatentCache
from fashionflow_core.runtimes.preprocessing import normalize_latents
from fashionflow_core.runtimes.torch import load
from fashionflow_core.store.registry import find
from fashionflow_core.training import run
from fashionflow_core.training.loop import Report
from fashionflow_core.training.settings import load_config
from fashionflow_core.training.status import TrainingStatus

STEPS, WARM_UP, FRAMES, BATCH = 16, 2, 8, 2


def by_hand(model: Path, clips: torch.Tensor, hidden: torch.Tensor) -> Iterator[None]:
    """One step each time it is asked: sample prediction with the first frame given, AdamW, clipping, averaged weights;
    everything in memory, nothing logged or saved."""
    networks = load(model, torch.device("cpu"), torch.float32)
    unet, adapter = networks.unet.train(), networks.adapter.train()
    parameters = [*unet.parameters(), *adapter.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    averaged = [p.detach().clone() for p in parameters]
    abar = torch.linspace(0.999, 0.001, 1000)
    mask = torch.zeros(BATCH, 1, FRAMES, *clips.shape[-2:])
    mask[:, :, 0] = 1
    while True:
        index = torch.randint(len(clips), (BATCH,))
        latents = clips[index]  # (b, c, f, h, w)
        first = latents[:, :, :1]
        noise, timestep = torch.randn_like(latents), torch.randint(1000, (BATCH,))
        a = abar[timestep].view(-1, 1, 1, 1, 1)
        noisy = torch.where(mask > 0, latents, a.sqrt() * latents + (1 - a).sqrt() * noise)
        sample = torch.cat((noisy, first.expand_as(latents), mask), dim=1)
        context = adapter(hidden[index], first[:, :, 0])
        loss = ((unet(sample, timestep, context).sample - latents) * (1 - mask)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(averaged, [p.detach() for p in parameters], 0.002)
        yield


def speeds(folder: Path, model: Path, cache: Path, clips: torch.Tensor, hidden: torch.Tensor) -> dict[str, float]:
    """Clips a second of both loops, whose steps take turns in one process: other work slows both down alike."""
    plain = by_hand(model, clips, hidden)
    spent: dict[str, list[float]] = {"train": [], "plain": []}
    clock = [time.process_time()]

    def turn(_status: TrainingStatus) -> None:
        for name, work in (("train", lambda: None), ("plain", lambda: next(plain))):
            work()
            now = time.process_time()
            spent[name].append(now - clock[0])
            clock[0] = now

    values = {"data": cache, "base": model, "init_from": model, "max_steps": STEPS, "batch_size": BATCH}
    values |= {"frames": FRAMES, "ema_decay": 0.998, "tensorboard": "false", "prediction": "sample"}
    settings = load_config(None, [f"{key}={value}" for key, value in values.items()])
    run.train(settings, folder, model, device="cpu", report=Report(progress=turn))
    # What breaks into a step only ever adds to it, so the quicker steps are those that tell of the loop itself.
    return {name: BATCH / float(np.quantile(times[WARM_UP:], 0.25)) for name, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini-latent")
    parser.add_argument("--data", type=Path, required=True, help="cache of `fashionflow data prepare`")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = find(arguments.model)
    stored, config = list(LatentCache(arguments.data)), ModelConfig.load(model)
    clips = torch.stack(
        [normalize_latents(clip.latents_mean[:FRAMES].transpose(0, 1)[None], config)[0] for clip in stored]
    )
    hidden = torch.stack([clip.clip_hidden_states for clip in stored])
    ratios = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            speed = speeds(Path(folder) / "run", model, arguments.data, clips, hidden)
        ratios.append(speed["train"] / speed["plain"])
        print(f"train: {speed['train']:.3f} clips/s, plain loop: {speed['plain']:.3f} clips/s, ratio {ratios[-1]:.3f}")
    print(json.dumps({"ratios": ratios, "hardware": hardware(torch.device("cpu"), "float32")}, indent=1))


if __name__ == "__main__":
    main()
