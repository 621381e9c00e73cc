"""Options of videos."""

from pathlib import Path
from typing import Annotated

from fashionflow_cli.options.base import ADVANCED, SHOPS, VIDEO, between, one_of, option
from fashionflow_core.config import CODECS, PLACES, RATIOS, TARGETS, VIDEO_SUFFIXES

Out = Annotated[
    Path | None,
    option(VIDEO, "out", "-o", text=f"The video: {', '.join(VIDEO_SUFFIXES)}.", metavar="PATH"),
]
Fps = Annotated[float | None, option(VIDEO, "fps", text="Frames per second.", default="the model's", metavar="N")]
Poster = Annotated[bool, option(VIDEO, "poster", text="Also write a PNG of one frame.", flag=True)]
Overwrite = Annotated[bool, option(VIDEO, "overwrite", text="Replace existing files.", flag=True)]
Ratio = Annotated[
    str | None,
    option(SHOPS, "ratio", text=f"{', '.join(RATIOS)}; extends the background.", **one_of(RATIOS, "W:H")),
]
Targets = Annotated[
    str | None,
    option(SHOPS, "for", text=f"Files within the limits of: {', '.join(TARGETS)}.", metavar="LIST"),
]
VisibleMark = Annotated[
    str | None, option(SHOPS, "visible-mark", text='Small disclosure, e.g. "AI-generated".', metavar="TEXT")
]
Caption = Annotated[
    str | None, option(SHOPS, "caption", text="Text at the foot; {name} or {COLUMN} of a list.", metavar="TEXT")
]
Font = Annotated[str | None, option(SHOPS, "font", text="Installed font, or a font file.", metavar="NAME")]
Logo = Annotated[Path | None, option(SHOPS, "logo", text="Picture in a corner.", metavar="FILE")]
LogoPlace = Annotated[
    str, option(SHOPS, "logo-place", text=f"{', '.join(PLACES)}.", default="top-right", **one_of(PLACES, "NAME"))
]
LogoOpacity = Annotated[float, option(SHOPS, "logo-opacity", text="Opacity, 0 to 1.", default="1", metavar="N")]
EndCardFile = Annotated[Path | None, option(SHOPS, "end-card", text="Picture after the last frame.", metavar="FILE")]
EndCardSeconds = Annotated[float, option(SHOPS, "end-card-seconds", text="Its duration.", default="2", metavar="N")]
C2paCert = Annotated[
    Path | None, option(SHOPS, "c2pa-cert", text="Sign with this certificate chain (extra c2pa).", metavar="PEM")
]
C2paKey = Annotated[Path | None, option(SHOPS, "c2pa-key", text="Its private key.", metavar="PEM")]
FramesDir = Annotated[
    Path | None, option(ADVANCED, "frames-dir", text="Also write each frame as a PNG.", metavar="DIR")
]
Codec = Annotated[
    str | None, option(ADVANCED, "codec", text=f"{', '.join(CODECS[:-1])} or {CODECS[-1]}.", **one_of(CODECS, "NAME"))
]
Crf = Annotated[int | None, option(ADVANCED, "crf", text="Quality: lower is better and larger.", **between(0, 63))]
NoMark = Annotated[bool, option(ADVANCED, "no-mark", text="Do not mark files as generated.", flag=True)]
Encoder = Annotated[str, option(ADVANCED, "encoder", text="software, hardware or e.g. h264_nvenc.", metavar="NAME")]
