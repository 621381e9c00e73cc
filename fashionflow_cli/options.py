"""The options of `fashionflow generate`, one type each: `config show` and later commands take the same ones.

Every option can also be set as `FASHIONFLOW_<OPTION>` or in the file of `--config`; a None means: as the model says.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from fashionflow_cli.config_file import read_config
from fashionflow_cli.console import Color, Interval, Size, one_of, parse_batch, parse_color, parse_interval, parse_size
from fashionflow_core.config import CODECS, CONDITIONING, FIT_MODES, SCHEDULERS, VIDEO_SUFFIXES
from fashionflow_core.device import DTYPES

PHOTO, VIDEO, MODEL, SAMPLING = "Photo", "Video", "Model", "Sampling"
MACHINE, REPORTING = "Machine", "Settings and reporting"
CATALOGUE = "Several photos (a folder, pattern, list or several paths, with -o FOLDER)"
WHITE, EVERYWHERE = Color(255, 255, 255), Interval(0, 1)


def option(panel: str, name: str, *short: str, text: str, of_model: bool = False, **more: Any) -> Any:
    """An option of a help panel, with its environment variable; `of_model`: its default is the model's."""
    return typer.Option(
        f"--{name}",
        *short,
        help=text + (" [dim]\\[default: the model's][/dim]" if of_model else ""),
        envvar="FASHIONFLOW_" + name.split("/")[0].upper().replace("-", "_"),
        rich_help_panel=panel,
        **more,
    )


Fit = Annotated[
    str | None,
    option(
        PHOTO,
        "fit",
        text="How the photo is brought to the model's frame: pad keeps all of it, crop keeps the figure.",
        of_model=True,
        **one_of(FIT_MODES),
    ),
]
Frame = Annotated[
    Size | None,
    option(
        PHOTO,
        "size",
        text="Frame size in pixels; only the model's own is possible, so this only states what you expect.",
        parser=parse_size,
        metavar="HxW",
    ),
]
Background = Annotated[
    Color,
    option(
        PHOTO,
        "background",
        text="What is put under transparent parts: a name or #rrggbb.",
        parser=parse_color,
        metavar="COLOUR",
        show_default="white",
    ),
]
MaxMegapixels = Annotated[
    float,
    option(PHOTO, "max-megapixels", text="Refuse larger photos, judged from their header.", min=0.01, metavar="<n>"),
]
Out = Annotated[
    Path | None,
    option(
        VIDEO,
        "out",
        "-o",
        text=f"The video: {', '.join(VIDEO_SUFFIXES)}. [dim]\\[default: the photo's name, in this folder][/dim]",
    ),
]
Codec = Annotated[
    str | None,
    option(
        VIDEO,
        "codec",
        text="How the video is coded. [dim]\\[default: h264 in .mp4, vp9 in .webm][/dim]",
        **one_of(CODECS),
    ),
]
Crf = Annotated[
    int | None,
    option(
        VIDEO,
        "crf",
        text="Quality: lower is better and larger. [dim]\\[default: looks like the original][/dim]",
        min=0,
        max=63,
        metavar="<int>",
    ),
]
Encoder = Annotated[
    str,
    option(
        VIDEO,
        "encoder",
        text="software, hardware, or an FFmpeg encoder such as h264_nvenc; falls back to software, and says so.",
        metavar="<name>",
    ),
]
Fps = Annotated[float | None, option(VIDEO, "fps", text="Frames per second of the file.", of_model=True)]
FramesDir = Annotated[
    Path | None, option(VIDEO, "frames-dir", text="Also write every frame as a PNG into this new folder.")
]
Poster = Annotated[bool, option(VIDEO, "poster", text="Also write the first frame: NAME-poster.png beside NAME.mp4.")]
Overwrite = Annotated[bool, option(VIDEO, "overwrite", text="Replace existing files.")]
Format = Annotated[
    str,
    option(
        CATALOGUE,
        "format",
        text="Suffix of the videos of several photos.",
        **one_of(tuple(suffix.removeprefix(".") for suffix in VIDEO_SUFFIXES)),
    ),
]
Devices = Annotated[
    str | None,
    option(
        CATALOGUE,
        "devices",
        text="One worker on each, such as cuda:0,cuda:1 or cpu,cpu; all: every GPU. [dim]\\[default: --device][/dim]",
        metavar="LIST",
    ),
]
Batch = Annotated[
    int,
    option(
        CATALOGUE,
        "batch",
        text="Photos in one call of the U-Net; auto: as many as fit into a GPU's memory, 1 on a CPU.",
        parser=parse_batch,
        metavar="auto|<int>",
        show_default="auto",
    ),
]
Engine = Annotated[
    str,
    option(
        CATALOGUE,
        "engine",
        text="local: processes of this machine; ray: Ray Data, here or on a cluster (extra [bold]ray[/bold]).",
        **one_of(("local", "ray")),
    ),
]
RayAddress = Annotated[
    str | None,
    option(
        CATALOGUE,
        "ray-address",
        text="A running Ray cluster: auto, HOST:6379 or ray://HOST:10001. [dim]\\[default: one for this run][/dim]",
        metavar="ADDRESS",
    ),
]
Gate = Annotated[
    bool, option(CATALOGUE, "gate", text="Flag videos whose scores are beyond the limits; see docs/catalogues.md.")
]
GateLimits = Annotated[
    str | None,
    option(
        CATALOGUE,
        "gate-limits",
        text="Other limits than the default ones, such as drift=6,still=0.5; implies --gate.",
        metavar="NAME=N,...",
    ),
]
Reroll = Annotated[
    int,
    option(
        CATALOGUE,
        "reroll",
        text="Make flagged videos again, so many times, with new seeds; the best is kept. Implies --gate.",
        min=0,
        max=100,
        metavar="<int>",
    ),
]
Scores = Annotated[bool, option(CATALOGUE, "scores/--no-scores", text="Measure every video, for manifest and page.")]
RetryFailed = Annotated[
    bool, option(CATALOGUE, "retry-failed", text="Also try again what failed before and has not changed since.")
]
Model = Annotated[
    str,
    option(MODEL, "model", "-m", text="A name from [bold]fashionflow models list[/bold], or a model folder."),
]
Lora = Annotated[
    Path | None,
    option(MODEL, "lora", text="A LoRA folder of [bold]fashionflow train[/bold], for this model.", metavar="DIR"),
]
Conditioning = Annotated[
    str | None,
    option(
        MODEL,
        "conditioning",
        text="How the photo steers: both, local (pinned frame) or global (context); as the model was trained.",
        of_model=True,
        **one_of(CONDITIONING),
    ),
]
Frames = Annotated[
    int | None,
    option(SAMPLING, "frames", text="Number of frames.", of_model=True, min=1, max=100_000, metavar="<int>"),
]
Interpolate = Annotated[
    int,
    option(
        SAMPLING,
        "interpolate",
        text="2 or 4 frames for each, filled in between; the duration stays. Needs a model trained for it.",
        metavar="1|2|4",
    ),
]
Steps = Annotated[int | None, option(SAMPLING, "steps", text="Denoising steps.", of_model=True, min=1)]
Scheduler = Annotated[
    str | None, option(SAMPLING, "scheduler", text="The sampler.", of_model=True, **one_of(SCHEDULERS))
]
Guidance = Annotated[
    float,
    option(
        SAMPLING,
        "guidance",
        text="Guidance scale; 1 is none. Needs a model trained with dropped context.",
        metavar="<n>",
    ),
]
GuidanceInterval = Annotated[
    Interval,
    option(
        SAMPLING,
        "guidance-interval",
        text="Part of the noise schedule with guidance: 0 is clean, 1 is noise.",
        parser=parse_interval,
        metavar="LOW,HIGH",
        show_default="0,1",
    ),
]
Seed = Annotated[
    int,
    option(SAMPLING, "seed", text="The same seed gives the same video.", min=0, max=2**63 - 1, metavar="<int>"),
]
Variations = Annotated[
    int,
    option(
        SAMPLING,
        "variations",
        text="Number of different videos of this photo: NAME-1.mp4, NAME-2.mp4 and so on.",
        min=1,
    ),
]
Device = Annotated[str, option(MACHINE, "device", text="auto, cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[str, option(MACHINE, "dtype", text="Number type of the networks.", **one_of(("auto", *DTYPES)))]
Backend = Annotated[
    str,
    option(
        MACHINE,
        "backend",
        text="What runs the networks: auto, torch, onnxruntime, tensorrt, or a mixture: unet=tensorrt,vae=torch.",
        metavar="<name>",
    ),
]
Compile = Annotated[
    bool, option(MACHINE, "compile", text="PyTorch: compile the U-Net and the decoder first; pays off over many runs.")
]
LowMemory = Annotated[
    bool,
    option(
        MACHINE,
        "low-memory",
        text="PyTorch: networks take turns on the device and decode one frame at a time; slower, for small GPUs.",
    ),
]
AllowUnverified = Annotated[
    bool, option(MACHINE, "allow-unverified", text="Also run engines that failed or lack their verification.")
]
DecodeChunk = Annotated[
    int,
    option(
        MACHINE,
        "decode-chunk",
        text="Frames decoded at a time; fewer need less memory. Halved by itself when memory runs out.",
        min=1,
    ),
]
Config = Annotated[
    Path | None,
    option(
        REPORTING,
        "config",
        text="A YAML file of these options, such as [bold]steps: 25[/bold]; flags and FASHIONFLOW_* go before it.",
        metavar="FILE",
        is_eager=True,
        callback=read_config,
    ),
]
DryRun = Annotated[
    bool, option(REPORTING, "dry-run", text="Only check everything, and print the plan and what it costs.")
]
Quiet = Annotated[bool, option(REPORTING, "quiet", "-q", text="Only errors on stderr.")]
Json = Annotated[bool, option(REPORTING, "json", text="One JSON object a video on stdout, instead of its path.")]
