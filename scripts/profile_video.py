"""Profile of a video by operator: torch.profiler over a warm generation, sorted by time.

python scripts/profile_video.py --model published --steps 4 --out benchmarks/results/profile-gpu.txt
"""

import argparse
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from fashionflow_benchmarks.model_under_test import PUBLISHED, SEED, BenchRequest, open_subject
from fashionflow_core.utils.files import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=PUBLISHED)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rows", type=int, default=25)
    parser.add_argument("--out", type=Path, help="text file")
    args = parser.parse_args()
    subject = open_subject(BenchRequest(args.model, steps=args.steps, device=args.device, dtype=args.dtype))
    photo, on_gpu = subject.photo(), subject.networks.device.type == "cuda"

    def generate() -> None:
        for _ in subject.pipeline.generate(photo, steps=subject.steps, seed=SEED).frames:
            pass

    generate()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as found:
        generate()
        if on_gpu:
            torch.cuda.synchronize()
    key = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    text = found.key_averages().table(sort_by=key, row_limit=args.rows, max_name_column_width=60)
    print(text)
    if args.out:
        write_text(args.out, text + "\n")


if __name__ == "__main__":
    main()
