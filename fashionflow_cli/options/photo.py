"""Options of photos."""

from pathlib import Path
from typing import Annotated, Any

from fashionflow_cli.console import Color, parse_color, parse_frame
from fashionflow_cli.options.base import ADVANCED, OTHER_MODELS, VIDEO, between, one_of, option
from fashionflow_core.config import FIT_MODES, LOCK_LEVELS

WHITE, BLACK = Color(255, 255, 255), Color(0, 0, 0)

Fit = Annotated[
    str | None,
    option(VIDEO, "fit", text="pad, crop or stretch.", default="the model's", **one_of(FIT_MODES, "NAME")),
]
Frame = Annotated[
    Any,
    option(
        VIDEO,
        "size",
        text="Size of the video; photo: all its pixels.",
        parser=parse_frame,
        metavar="HxW|photo",
    ),
]
Lock = Annotated[
    str | None,
    option(
        OTHER_MODELS,
        "lock",
        text="Restore the photo: off, colour or full.",
        default="the model's",
        **one_of(LOCK_LEVELS, "NAME"),
    ),
]
MatteFile = Annotated[
    Path | None, option(ADVANCED, "matte", text="Figure mask, white, of the photo's size.", metavar="FILE")
]
Background = Annotated[
    Color,
    option(
        ADVANCED,
        "background",
        text="Background colour for transparent areas.",
        parser=parse_color,
        metavar="COLOUR",
    ),
]
MaxMegapixels = Annotated[
    float, option(ADVANCED, "max-megapixels", text="Refuse larger photos.", default="50", **between(0.01))
]
