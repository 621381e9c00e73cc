"""Train the bundled model from nothing: render, PCA, encode, train U-Net and decoder, pack.

    python scripts/train_mini.py all --work runs/mini --clips 1500 --decoder-minutes 8 --unet-minutes 70

Every stage resumes where it was cut off. The recipe is `mini_recipe.py`; scores are in docs/bundled-model.md.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from mini_recipe import RECIPE, Paths

from fashionflow_core.data.synthetic import render_clip
from fashionflow_core.files import atomic_path

STAGES = ("render", "vae", "latents", "unet", "decoder", "pack")


def _render(job: tuple[Path, int]) -> int:
    folder, seed = job
    target = folder / f"{seed:07d}.npy"
    if not target.exists():
        clip = render_clip(seed, RECIPE.frames, RECIPE.height, RECIPE.width, RECIPE.fps)
        with atomic_path(target) as temporary:
            np.save(temporary, clip.frames)
    return seed


def render(paths: Paths, clips: int, jobs: int) -> None:
    """Render the clips of seeds 0, 1, ... that are not there yet, several at a time."""
    paths.clips.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with ProcessPoolExecutor(jobs) as pool:
        for done, _ in enumerate(pool.map(_render, [(paths.clips, seed) for seed in range(clips)]), start=1):
            if done % 100 == 0 or done == clips:
                print(f"render: {done} of {clips} clips, {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("--work", type=Path, default=Path("runs/mini"), help="folder for everything in between")
    parser.add_argument("--out", type=Path, default=Path("fashionflow_core/assets/mini"), help="the model folder")
    parser.add_argument("--clips", type=int, default=1500)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that render")
    parser.add_argument("--threads", type=int, help="CPU threads that train")
    parser.add_argument("--device", help="of VAE and encoding; the U-Net's is accelerate's choice")
    parser.add_argument("--decoder-minutes", type=float, default=8)
    parser.add_argument("--unet-minutes", type=float, default=64)
    parser.add_argument("--batch", type=int, default=1, help="whole clips a step")
    parser.add_argument("--decoder-batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--short-frames", type=int, default=16, help="length of the short windows, even")
    parser.add_argument("--short-part", type=float, default=0.5, help="part of the time spent on short windows alone")
    args = parser.parse_args()
    paths = Paths(args.work)
    stages = STAGES if args.stage == "all" else (args.stage,)

    if "render" in stages:  # before torch is imported: forked renderers stay light
        render(paths, args.clips, args.jobs)
    if stages == ("render",):
        return
    import torch
    from mini_unet import encode_clips, pack, train_unet
    from mini_vae import start_vae, train_decoder

    if args.threads:
        torch.set_num_threads(args.threads)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if "vae" in stages and not (paths.vae / "config.json").exists():
        start_vae(paths)
    if "latents" in stages:
        encode_clips(paths, device)
    if "unet" in stages:
        train_unet(
            paths,
            args.unet_minutes * 60,
            batch=args.batch,
            lr=args.lr,
            short_frames=args.short_frames,
            short_part=args.short_part,
            ema_decay=args.ema,
        )
    if "decoder" in stages:
        train_decoder(paths, args.decoder_minutes * 60, device, batch=args.decoder_batch)
    if "pack" in stages:
        pack(paths, args.out)


if __name__ == "__main__":
    main()
