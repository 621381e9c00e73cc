"""Suite `video`: photo file to video file, by stage."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fashionflow_benchmarks import timing
from fashionflow_benchmarks.model_under_test import SEED, BenchRequest, Subject, open_subject
from fashionflow_benchmarks.roofline import CallCost, measure_limits, rows
from fashionflow_benchmarks.timing import Timing
from fashionflow_core.runtimes import flops

WARMUP = 1
STAGES = ("photo", "encode", "denoise", "decode", "write", "other")
# Motion models; matte: detecting the figure and preparing the photo.
MOTION_STAGES = ("photo", "matte", "denoise", "render", "write", "other")
# Pipelines of diffusers; generate: all their networks.
GENERATOR_STAGES = ("photo", "generate", "write", "other")
_STAGE_OF = {
    "encode_image": "encode",
    "context": "encode",
    "denoise": "denoise",
    "decode": "decode",
    "generate": "generate",
}


class Watched:
    """Networks that record the seconds of each call, synchronised before and after."""

    def __init__(self, networks: Any, seconds: dict[str, float]) -> None:
        self._networks, self._seconds = networks, seconds

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._networks, name)
        stage = _STAGE_OF.get(name)
        return found if stage is None else self._watch(stage, found)

    def _watch(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            timing.synchronize(self._networks.device)
            start = time.perf_counter()
            result = call(*arguments)
            timing.synchronize(self._networks.device)
            self._seconds[stage] += time.perf_counter() - start
            return result

        return timed


def video(request: BenchRequest) -> dict[str, Any]:
    """Time a video from a photo with a warm model: in total without instrumentation and by stage, interleaved."""
    from PIL import Image

    subject = open_subject(request, motion=True)
    networks, pipeline = subject.networks, subject.pipeline
    moves, generates = pipeline.motion is not None, pipeline.generator is not None
    names = MOTION_STAGES if moves else GENERATOR_STAGES if generates else STAGES
    measured = motion_by_stage if moves else by_stage
    stages: dict[str, list[float]] = {stage: [] for stage in names}

    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        Image.fromarray(subject.photo(2)).save(photo)  # typical photos are larger than the model's frame
        target = Path(folder) / "video.mp4"

        def whole() -> None:
            pipeline.generate(photo, steps=subject.steps, seed=SEED, lock="off").save(target)

        def watched() -> None:
            for stage, seconds in measured(subject, photo, target).items():
                stages[stage].append(seconds)

        timings = timing.measure({"photo to mp4": whole, "by stage": watched}, networks.device, request.repeats, WARMUP)
    kept = slice(WARMUP, WARMUP + request.repeats)  # neither the warm-up nor the call that measured memory
    parts = {stage: Timing(tuple(seconds[kept]), None, None) for stage, seconds in stages.items()}
    timings = {"photo to mp4": timings["photo to mp4"], **parts}
    limits = measure_limits(networks.device, networks.dtype)
    return subject.result(
        "video",
        f"photo to mp4, model warm, {subject.steps} steps",
        rows(timings, _motion_work(subject) if moves else {} if generates else _work(subject), limits),
        request.repeats,
        WARMUP,
        limits,
        input={
            "frames": subject.frames,
            "frame" if generates else "latents": list(subject.size),
            "steps": subject.steps,
        },
        notes=["stages are synchronised and timed separately from the total; other: scheduler, noise"],
    )


def by_stage(subject: Subject, photo: Path, target: Path) -> dict[str, float]:
    """Generate the video once, and return the seconds of each of `STAGES`, or of `GENERATOR_STAGES`."""
    from fashionflow_core.images.loading import load_photo
    from fashionflow_core.pipeline import FashionFlowPipeline

    seconds: dict[str, float] = defaultdict(float)
    whole = subject.pipeline
    pipeline = FashionFlowPipeline(
        Watched(subject.networks, seconds),  # pyright: ignore[reportArgumentType]  # it has what networks have
        whole.conditioner.processor,
        whole.config,
        whole.make_scheduler,
    )
    names = STAGES if whole.generator is None else GENERATOR_STAGES
    start = time.perf_counter()
    pixels = load_photo(photo)
    seconds["photo"] = time.perf_counter() - start
    made = pipeline.generate(pixels, steps=subject.steps, seed=SEED, lock="off")
    denoised = time.perf_counter()
    made.save(target)
    end = time.perf_counter()
    seconds["write"] = end - denoised - seconds["decode"]
    seconds["other"] = denoised - start - sum(seconds[stage] for stage in ("photo", "encode", "denoise", "generate"))
    return {stage: seconds[stage] for stage in names}


def motion_by_stage(subject: Subject, photo: Path, target: Path) -> dict[str, float]:
    """Generate the video of a motion model once, and return the seconds of each of `MOTION_STAGES`."""
    from fashionflow_core import video as video_files
    from fashionflow_core.images.loading import load_photo
    from fashionflow_core.motion.prepared import PreparedPhoto
    from fashionflow_core.pipeline import FashionFlowPipeline

    seconds: dict[str, float] = defaultdict(float)
    whole = subject.pipeline
    networks: Any = Watched(subject.networks, seconds)
    pipeline = FashionFlowPipeline(networks, whole.conditioner.processor, whole.config, whole.make_scheduler)
    start = time.perf_counter()
    pixels = load_photo(photo)
    seconds["photo"] = time.perf_counter() - start
    assert whole.motion is not None
    before = time.perf_counter()
    prepared = PreparedPhoto.of(pixels, whole.motion.parse)
    _ = prepared.content if prepared.moves_figure else None
    seconds["matte"] = time.perf_counter() - before
    made = pipeline.generate(pixels, steps=subject.steps, seed=SEED, lock="off")
    sampled = time.perf_counter()
    frames = list(made.frames)
    drawn = time.perf_counter()
    video_files.write(iter(frames), target, fps=made.fps, count=made.count, metadata=made.metadata)
    end = time.perf_counter()
    seconds["render"], seconds["write"] = drawn - sampled, end - drawn
    # Generation detects the figure again.
    seconds["other"] = sampled - before - 2 * seconds["matte"] - seconds["denoise"]
    return {stage: max(seconds[stage], 0.0) for stage in MOTION_STAGES}


def _motion_work(subject: Subject) -> dict[str, CallCost]:
    """Work of the stages of a motion model that run networks."""
    flop = subject.networks.count_flop(subject.pipeline.config.keyframes)
    return {"denoise": CallCost(subject.steps * flop["denoise"], None), "matte": CallCost(flop["parse"], None)}


def _work(subject: Subject) -> dict[str, CallCost]:
    """Work of the total, and of the stages that run networks."""
    flop = subject.networks.count_flop(subject.frames)
    inputs = subject.inputs()

    def traffic(call: Callable[..., Any], *names: str) -> int:
        return flops.count_traffic(call, *(tuple(inputs[name].shape) for name in names))

    networks = subject.networks
    work = {
        "encode": CallCost(
            flop["encode_image"] + flop["context"],
            traffic(networks.encode_image, "pixels") + traffic(networks.context, "clip_pixels", "latents"),
        ),
        "denoise": CallCost(
            subject.steps * flop["denoise"],
            subject.steps * traffic(networks.denoise, "sample", "timestep", "context"),
        ),
        "decode": CallCost(subject.frames * flop["decode"], subject.frames * traffic(networks.decode, "latents")),
    }
    total = [(part.flop or 0, part.traffic_bytes or 0) for part in work.values()]
    return {**work, "photo to mp4": CallCost(*(sum(column) for column in zip(*total)))}
