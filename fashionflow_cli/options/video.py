"""Options of videos."""

from pathlib import Path
from typing import Annotated

from fashionflow_cli.options.base import ADVANCED, SHOPS, VIDEO, between, one_of, option
from fashionflow_core.config import CODECS, RATIOS, TARGETS, VIDEO_SUFFIXES

Out = Annotated[
    Path | None,
    option(VIDEO, "out", "-o", text=f"The video: {', '.join(VIDEO_SUFFIXES)}.", metavar="PATH"),
]
Fps = Annotated[float | None, option(VIDEO, "fps", text="Frames per second.", default="the model's", metavar="N")]
Poster = Annotated[bool, option(VIDEO, "poster", text="Also write a PNG of a telling frame.", flag=True)]
Overwrite = Annotated[bool, option(VIDEO, "overwrite", text="Replace existing files.", flag=True)]
Ratio = Annotated[
    str | None,
    option(SHOPS, "ratio", text=f"{', '.join(RATIOS)}; extends the background.", **one_of(RATIOS, "W:H")),
]
Targets = Annotated[
    str | None,
    option(SHOPS, "for", text=f"Keep the limits of: {', '.join(TARGETS)}.", metavar="LIST"),
]
FramesDir = Annotated[
    Path | None, option(ADVANCED, "frames-dir", text="Also write each frame as a PNG.", metavar="DIR")
]
Codec = Annotated[
    str | None, option(ADVANCED, "codec", text=f"{', '.join(CODECS[:-1])} or {CODECS[-1]}.", **one_of(CODECS, "NAME"))
]
Crf = Annotated[int | None, option(ADVANCED, "crf", text="Quality: lower is better and larger.", **between(0, 63))]
NoMark = Annotated[bool, option(ADVANCED, "no-mark", text="Do not mark files as generated.", flag=True)]
Encoder = Annotated[str, option(ADVANCED, "encoder", text="software, hardware or e.g. h264_nvenc.", metavar="NAME")]
