"""Options of the commands.

A value is found in this order: flag, environment variable (of `base.IN_ENVIRONMENT`), file of `--config`, model,
default; None stands for the model's.
"""
# ruff: noqa: F401

from fashionflow_cli.options.base import (
    ADVANCED,
    CATALOGUE,
    IN_ENVIRONMENT,
    MACHINE,
    MOTION,
    OTHER_MODELS,
    RARE,
    REPORTING,
    SAMPLING,
    SHOPS,
    VIDEO,
    HelpAll,
    LongCommand,
    between,
    one_of,
    option,
)
from fashionflow_cli.options.catalogue import (
    Batch,
    Devices,
    Executor,
    Format,
    Gate,
    GateLimits,
    RayAddress,
    Reroll,
    RetryFailed,
    Scores,
)
from fashionflow_cli.options.machine import (
    AllowUnverified,
    Backend,
    Compile,
    Config,
    DecodeChunk,
    Device,
    DryRun,
    Dtype,
    Json,
    LowMemory,
    Quiet,
)
from fashionflow_cli.options.model import (
    EVERYWHERE,
    Conditioning,
    Duration,
    Frames,
    Guidance,
    GuidanceInterval,
    Interpolate,
    Loop,
    Lora,
    Megapixels,
    Model,
    Motion,
    MotionAmount,
    NegativePrompt,
    Prompt,
    Scheduler,
    Seed,
    Steps,
    Variations,
)
from fashionflow_cli.options.photo import BLACK, WHITE, Background, Fit, Frame, MatteFile, MaxMegapixels
from fashionflow_cli.options.video import Codec, Crf, Encoder, Fps, FramesDir, NoMark, Out, Overwrite, Poster
