"""Options of models and sampling."""

from pathlib import Path
from typing import Annotated

from fashionflow_cli.console import Interval, parse_interval
from fashionflow_cli.options.base import (
    ADVANCED,
    MACHINE,
    MOTION,
    OTHER_MODELS,
    RARE,
    SAMPLING,
    between,
    one_of,
    option,
)
from fashionflow_core.config import CONDITIONING, DEFAULT_TURN, LARGEST_TURN, MOST_FRAMES, MOTIONS, SCHEDULERS

EVERYWHERE = Interval(0, 1)

Model = Annotated[
    str,
    option(
        MACHINE,
        "model",
        "-m",
        text="A folder, name of [bold]models list[/bold], hub id or address.",
        metavar="NAME",
        show_default=True,
    ),
]
Lora = Annotated[
    Path | None,
    option(MACHINE, "lora", text="A LoRA for this model: folder, file or hub id.", metavar="SRC"),
]
Motion = Annotated[
    str | None,
    option(MOTION, "motion", text="turn, sway or simple.", default="the model's", **one_of(MOTIONS, "NAME")),
]
MotionAmount = Annotated[
    float | None,
    option(
        MOTION,
        "motion-amount",
        text=f"Degrees to a side, 0 to {LARGEST_TURN:g}.",
        default=f"{DEFAULT_TURN:g}",
        metavar="N",
    ),
]
Loop = Annotated[bool, option(MOTION, "loop", text="End where it began, to repeat without a jump.", flag=True)]
Duration = Annotated[
    float | None, option(MOTION, "duration", text="Length in seconds.", default="the model's", metavar="N")
]
Seed = Annotated[
    int,
    option(SAMPLING, "seed", text="The same seed gives the same video.", default="0", **between(0, 2**63 - 1)),
]
Variations = Annotated[
    int, option(SAMPLING, "variations", text="Videos per photo: NAME-1.mp4, NAME-2.mp4, ...", **between(1))
]
Frames = Annotated[
    int | None,
    option(SAMPLING, "frames", text="Number of frames.", default="the model's", **between(1, MOST_FRAMES)),
]
Steps = Annotated[int | None, option(SAMPLING, "steps", text="Denoising steps.", default="the model's", **between(1))]
Interpolate = Annotated[
    int, option(ADVANCED, "interpolate", text="2x or 4x the frames, same duration.", metavar="1|2|4")
]
Scheduler = Annotated[
    str | None,
    option(ADVANCED, "scheduler", text=f"{', '.join(SCHEDULERS)}.", **one_of(SCHEDULERS, "NAME")),
]
Guidance = Annotated[
    float | None, option(ADVANCED, "guidance", text="Guidance scale; 1 is none.", default="the model's", metavar="N")
]
Prompt = Annotated[
    str | None,
    option(
        OTHER_MODELS,
        "prompt",
        text="Text; {caption}: column of the list.",
        default="of garments",
        metavar="TEXT",
    ),
]
NegativePrompt = Annotated[
    str | None,
    option(OTHER_MODELS, "negative-prompt", text="Text to avoid.", default="of garments", metavar="TEXT"),
]
Megapixels = Annotated[
    float | None,
    option(OTHER_MODELS, "megapixels", text="Pixels of a frame, in millions.", default="the model's", metavar="N"),
]
GuidanceInterval = Annotated[
    Interval,
    option(
        RARE,
        "guidance-interval",
        text="Guided noise levels.",
        default="0,1",
        parser=parse_interval,
        metavar="LO,HI",
    ),
]
Conditioning = Annotated[
    str | None,
    option(RARE, "conditioning", text=f"{', '.join(CONDITIONING)}.", **one_of(CONDITIONING, "NAME")),
]
