"""Model under test: a model folder, or the published architecture with random weights."""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import UsageError
from fashionflow_core.utils.device import dtype_name, resolve_device, resolve_dtype, short_name

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fashionflow_benchmarks.roofline import Roofline
    from fashionflow_benchmarks.shapes import Shape
    from fashionflow_core.pipeline import FashionFlowPipeline

PUBLISHED = "published"  # an architecture with random weights: speed does not depend on weights
SEED = 0
FULL = (70, 80, 64)  # frames, height and width of the published latents
REDUCED = (8, 16, 16)  # default on devices where FULL takes minutes
STEPS = 25  # steps of the performance goals; the published inference uses 1000
REDUCED_STEPS = 4
CHUNK = 7  # frames per decoder call in generation


@dataclass(frozen=True)
class BenchRequest:
    """Request of a benchmark.

    Attributes:
        model: name, folder, or `PUBLISHED`.
        frames, height, width: size of the latents; None: the model's, or reduced ones.
        steps: steps of a generated video; None: the model's, 25 for `PUBLISHED`, or reduced ones.
        device, dtype: as in generate.
        repeats: timed calls per row.
        backends: runtimes of the suite of that name.
        full: whether to use the published sizes on any device, and to make every call.
        narrow: whether the suite dreampose uses networks of an eighth of the published widths, as a check that it runs.
    """

    model: str = PUBLISHED
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    steps: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    repeats: int = 5
    backends: tuple[str, ...] = ()
    full: bool = False
    narrow: bool = False

    def __post_init__(self) -> None:
        if self.full and self.narrow:
            raise UsageError("--full, --narrow: only one of them")
        if self.repeats < 1:
            raise UsageError(f"--repeats: must be at least 1, not {self.repeats}")

    @property
    def place(self) -> "tuple[torch.device, torch.dtype]":
        """Device and dtype.

        Raises:
            UsageError: not available on this machine.
        """
        device = resolve_device(self.device)
        return device, resolve_dtype(self.dtype, device)

    def sizes(
        self, device: "torch.device", reduced: tuple[int, int, int] = REDUCED
    ) -> tuple[tuple[int, int, int], str | None]:
        """(frames, height, width) of the latents of the published architecture, and a description of reductions."""
        native = FULL if self.full or device.type == "cuda" else reduced
        given = (self.frames, self.height, self.width)
        size = tuple(own if one is None else one for one, own in zip(given, native))
        frames, height, width = size
        return (frames, height, width), reduction((frames, height, width))

    def count_steps(self, device: "torch.device") -> int:
        """Denoising steps of a video of the published architecture."""
        return self.steps or (STEPS if self.full or device.type == "cuda" else REDUCED_STEPS)


def reduction(size: tuple[int, int, int]) -> str | None:
    """Description of how a size is reduced from the published one."""
    if size == FULL:
        return None
    frames, height, width = size
    return f"reduced: latents {frames}x{height}x{width}, not {FULL[0]}x{FULL[1]}x{FULL[2]}"


@dataclass(frozen=True)
class Subject:
    """A loaded model to measure.

    Attributes:
        pipeline: pipeline of PyTorch networks.
        name, weights: name of the model, and origin of its weights.
        reduced: how its size is reduced from the published one; None: not reduced, or the model's own.
        steps: steps of a video.
    """

    pipeline: "FashionFlowPipeline"
    name: str
    weights: str
    reduced: str | None
    steps: int

    @property
    def networks(self) -> Any:
        """Networks of the pipeline, `runtimes.torch.TorchNetworks`."""
        return self.pipeline.networks

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return self.pipeline.config.frames

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the latents; of a pipeline of diffusers those of a frame."""
        if self.pipeline.generator is not None:
            return self.pipeline.config.height, self.pipeline.config.width
        return self.networks.latent_height, self.networks.latent_width

    def describe(self) -> dict[str, Any]:
        """Value of `model` in a result."""
        count = {
            name: sum(weight.numel() for weight in getattr(self.networks, name).parameters())
            for name in ("unet", "adapter", "vae", "parser", "image_encoder")
            if hasattr(self.networks, name)
        }
        if self.pipeline.generator is not None:
            count = self.networks.count_parameters()
        return {"name": self.name, "weights": self.weights, "parameters": count}

    def result(
        self,
        suite: str,
        title: str,
        results: dict[str, Any],
        repeats: int,
        warmup: int,
        limits: "Roofline | None" = None,
        **more: Any,
    ) -> dict[str, Any]:
        """A result of `report`'s schema; `more` adds or overrides fields."""
        from fashionflow_benchmarks import timing

        networks = self.networks
        return {
            "suite": suite,
            "title": title,
            "model": self.describe(),
            "reduced": self.reduced,
            "input": {"frames": self.frames, "latents": list(self.size)},
            "repeats": repeats,
            "warmup": warmup,
            "results": results,
            "ratios": {},
            **({"limits": limits.as_dict()} if limits else {}),
            "hardware": timing.hardware(networks.device, dtype_name(networks.dtype)),
            **more,
        }

    def inputs(self, batch: int = 1) -> "dict[str, torch.Tensor]":
        """Seeded noise: sample, timestep and context of clips; latents, pixels and clip_pixels of one frame each."""
        import torch

        networks = self.networks
        generator = torch.Generator().manual_seed(SEED)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator).to(networks.device)

        adapter, side = networks.adapter.config, networks.image_encoder.config.image_size
        return {
            "sample": noise(batch, networks.input_channels, self.frames, *self.size),
            "timestep": torch.tensor([500], device=networks.device),
            "context": noise(batch, adapter["clip_tokens"], adapter["clip_dim"]),
            "latents": noise(batch, networks.latent_channels, *self.size),
            "pixels": noise(batch, *networks.pixel_shape),
            "clip_pixels": noise(batch, 3, side, side),
        }

    def photo(self, scale: int = 1) -> "np.ndarray":
        """A rendered figure, uint8 (h, w, 3), of the model's frame size times `scale`."""
        from fashionflow_core.synthetic.clips import render_clip

        config = self.pipeline.config
        return render_clip(SEED, 1, scale * config.height, scale * config.width, config.fps).frames[0]


def open_subject(request: BenchRequest, motion: bool = False) -> Subject:
    """Load the model to measure.

    Args:
        request: request of the benchmark.
        motion: whether the suite can measure motion models; pipelines of diffusers are refused before (`suites`).

    Raises:
        UsageError: a size for a model with a fixed size; unknown device or dtype.
        FashionFlowError: missing or damaged model.
    """
    from fashionflow_core import pipeline

    device, dtype = request.place
    if request.model == PUBLISHED:
        (frames, height, width), reduced = request.sizes(device)
        from fashionflow_benchmarks import shapes

        shape = dataclasses.replace(shapes.FULL, frames=frames, height=height, width=width)
        return Subject(
            published_pipeline(shape, device, dtype),
            "published architecture",
            f"random, seed {SEED}",
            reduced,
            request.count_steps(device),
        )
    if request.height is not None or request.width is not None:
        raise UsageError(
            f"--latent-size: model {request.model} has a fixed size",
            hint=f"omit it, or measure the architecture: --model {PUBLISHED}",
        )
    opened = pipeline.load(request.model, device=str(device), dtype=short_name(dtype), backend="torch")
    if opened.motion is not None and not motion:
        raise UsageError(
            f"--model: {opened.config.name} is a motion model (only the suite video measures it)",
            hint=f"run fashionflow bench video --model {request.model}",
        )
    own = opened.config.frames
    if request.frames is not None:
        if opened.generator is not None:
            GenerateSettings(frames=request.frames).resolve(opened.config)  # refused if it cannot be generated
        opened.config = dataclasses.replace(opened.config, frames=request.frames)
        opened.conditioner.config = opened.config
    reduced = f"{request.frames} frames, not {own}" if request.frames not in (None, own) else None
    steps = request.steps or opened.config.steps
    return Subject(opened, opened.config.name, "from the model folder", reduced, steps)


def published_pipeline(shape: "Shape", device: "torch.device", dtype: "torch.dtype") -> "FashionFlowPipeline":
    """A pipeline with networks of a shape and seeded random weights.

    Raises:
        FashionFlowError: a size that the U-Net cannot halve.
    """
    import torch
    from transformers import CLIPImageProcessorPil

    from fashionflow_benchmarks.shapes import make_clip, make_vae
    from fashionflow_core.diffusion.schedulers import make_scheduler
    from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
    from fashionflow_core.pipeline import FashionFlowPipeline
    from fashionflow_core.runtimes.torch import TorchNetworks
    from fashionflow_core.store.published import published_config, published_scheduler
    from fashionflow_core.utils.libraries import quiet_libraries

    with torch.random.fork_rng(devices=[]), quiet_libraries():
        torch.manual_seed(SEED)
        unet = FashionFlowUNet(**shape.unet3d)
        unet.check_shape(shape.frames, shape.height, shape.width)
        adapter = ImageContextAdapter(
            latent_height=shape.height,
            latent_width=shape.width,
            clip_tokens=shape.tokens,
            clip_dim=shape.clip["hidden_size"],
        )
        networks: Any = TorchNetworks(unet, adapter, make_vae(shape), make_clip(shape)).to(device, dtype).settle(device)
    height, width = shape.pixels
    config = dataclasses.replace(
        published_config(), height=height, width=width, frames=shape.frames, scheduler="ddim", steps=STEPS
    )
    side = shape.clip["image_size"]
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    def scheduler(name: str) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            published_scheduler().save_pretrained(Path(folder) / "scheduler")
            return make_scheduler(Path(folder), name)

    return FashionFlowPipeline(networks, processor, config, scheduler)
