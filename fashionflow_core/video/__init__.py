"""Video files: MP4, WebM, GIF, WebP and PNG frames."""

from fashionflow_core.config import CODECS
from fashionflow_core.config import VIDEO_SUFFIXES as SUFFIXES
from fashionflow_core.video.encoders import EncoderCheck, working_encoders
from fashionflow_core.video.formats import ENCODERS, MAX_FPS, VideoInfo, check_options
from fashionflow_core.video.frames import FrameFolder
from fashionflow_core.video.reading import iter_frames, probe, read, read_metadata
from fashionflow_core.video.writing import write

__all__ = [
    "CODECS",
    "ENCODERS",
    "MAX_FPS",
    "SUFFIXES",
    "EncoderCheck",
    "FrameFolder",
    "VideoInfo",
    "check_options",
    "iter_frames",
    "probe",
    "read",
    "read_metadata",
    "working_encoders",
    "write",
]
