"""Families of supported image-to-video pipelines (Wan, LTX, ...): class, frame rate, sizes, licence, default prompts.

A row contains what a pipeline does not state: the class that takes a photo, frame rate, frame rule, size divisor,
packages, licence. Defaults of a pipeline's signature are repeated, since a run is planned without importing diffusers;
a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROMPT = (
    "A person wearing the garment turns slowly in front of a plain studio background. The garment, its colours and "
    "its pattern stay the same. Static camera."
)
CAPTION = "{caption}"  # in a prompt: stands for the photo's caption
NEGATIVE = "different garment, changed colours, changed pattern, text, logo, blur, flicker, camera motion, extra limbs"


@dataclass(frozen=True)
class Family:
    """One family of pipelines.

    Attributes:
        title: what users know it as.
        classes: class named in `model_index.json` -> class that takes a photo.
        fps: frame rate that its authors save videos at.
        frames, longest: default and largest number of frames.
        frame_step: frames are a multiple of it, plus one.
        divisor: both sides of a frame are multiples of it.
        pixels: height times width of a frame by default.
        steps: denoising steps by default.
        guidance: guidance scale by default; None: the pipeline has no argument for it, only a guider component.
        licence: remark on the licence of the weights, one line.
        is_restricted: whether that licence restricts use, so that `models pull` asks.
        when: (key, value) of `model_index.json` that tells this row from the next with the same classes.
        guidance_argument: the pipeline's name for the guidance scale.
        rate_argument: the pipeline's argument for the frame rate, "" if it has none.
        takes_prompt: whether it takes text.
        full_precision: components that must be opened in float32.
        packages: modules that the pipeline imports but diffusers does not require.
        schedulers: name of `SCHEDULERS` -> class of diffusers that may replace the folder's own.
        arguments: further arguments of every call.
        takes_lists: whether one call takes several photos, each with a generator of its own, and returns for each what
            it returns for it alone.
        one_if: (component, key of its config) that must not be true for `takes_lists`.
        is_tested: whether the tests run it.
    """

    title: str
    classes: Mapping[str, str]
    fps: float
    frames: int
    longest: int
    frame_step: int
    divisor: int
    pixels: int
    steps: int
    guidance: float | None
    licence: str
    is_restricted: bool = True
    when: tuple[str, Any] | None = None
    guidance_argument: str = "guidance_scale"
    rate_argument: str = ""
    takes_prompt: bool = True
    full_precision: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    schedulers: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    takes_lists: bool = False
    one_if: tuple[str, str] | None = None
    is_tested: bool = True


_APACHE = "Apache-2.0"
_FLOW = {
    "unipc": "UniPCMultistepScheduler",
    "euler": "FlowMatchEulerDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}
_WAN = {"WanPipeline": "WanImageToVideoPipeline", "WanImageToVideoPipeline": "WanImageToVideoPipeline"}
_WAN_PARTS = ("vae", "image_encoder")  # the pipelines' own examples open them in float32

# `takes_lists`, by the pipelines of diffusers 0.42.1 (line numbers of their files). One photo a call:
# - Wan (pipeline_wan_i2v.py:357) and SkyReels V2 (pipeline_skyreels_v2_i2v.py:343): `check_inputs` refuses a list, and
#   `prepare_latents` repeats the photo for each generator (:453, :429).
# - HunyuanVideo 1.5 (pipeline_hunyuan_video1_5_image2video.py:518): `check_inputs` refuses a list.
# - LTX-2 (pipeline_ltx2_image2video.py:574): `check_inputs` refuses a list unless the photo's compression is off.
# - Kandinsky 5 (pipeline_kandinsky_i2v.py:424): the first frames are normalized by the mean of the whole batch, and
#   prompts are padded to the longest one without a mask (:343).
# - HunyuanVideo (pipeline_hunyuan_video_image2video.py:359): the end of a long prompt is found for one prompt alone.

FAMILIES = (
    Family(
        title="Wan 2.2 TI2V-5B",
        classes=_WAN,
        when=("expand_timesteps", True),
        fps=24,
        frames=121,
        longest=121,
        frame_step=4,
        divisor=32,
        pixels=704 * 1280,
        steps=50,
        guidance=5.0,
        licence=_APACHE,
        is_restricted=False,
        full_precision=_WAN_PARTS,
        packages=("ftfy",),
        schedulers=_FLOW,
    ),
    Family(
        title="Wan 2.1 and 2.2 A14B",
        classes=_WAN,
        fps=16,
        frames=81,
        longest=81,
        frame_step=4,
        divisor=16,
        pixels=480 * 832,
        steps=50,
        guidance=5.0,
        licence=_APACHE,
        is_restricted=False,
        full_precision=_WAN_PARTS,
        packages=("ftfy",),
        schedulers=_FLOW,
    ),
    Family(
        title="LTX-Video",
        classes={
            "LTXPipeline": "LTXImageToVideoPipeline",
            "LTXImageToVideoPipeline": "LTXImageToVideoPipeline",
            "LTXConditionPipeline": "LTXImageToVideoPipeline",
        },
        fps=25,
        frames=161,
        longest=257,
        frame_step=8,
        divisor=32,
        pixels=512 * 704,
        steps=50,
        guidance=3.0,
        licence="the publisher's own licence: read the file in its repository before commercial use",
        rate_argument="frame_rate",
        takes_lists=True,  # pipeline_ltx_image2video.py:534
        one_if=("vae", "timestep_conditioning"),  # :931, `torch.randn` takes one generator
    ),
    Family(
        title="Stable Video Diffusion",
        classes={"StableVideoDiffusionPipeline": "StableVideoDiffusionPipeline"},
        fps=7,
        frames=25,
        longest=25,
        frame_step=1,
        divisor=64,
        pixels=576 * 1024,
        steps=25,
        guidance=3.0,
        licence="Stability AI community licence: check whether your use is covered",
        guidance_argument="max_guidance_scale",
        rate_argument="fps",
        takes_prompt=False,
        arguments={"decode_chunk_size": 4},  # by default all frames at once: the largest use of memory
        takes_lists=True,  # pipeline_stable_video_diffusion.py:325 and :494
    ),
    Family(
        title="CogVideoX",
        classes={"CogVideoXImageToVideoPipeline": "CogVideoXImageToVideoPipeline"},
        fps=8,
        frames=49,
        longest=81,
        frame_step=4,
        divisor=16,
        pixels=480 * 720,
        steps=50,
        guidance=6.0,
        licence="CogVideoX licence: commercial use needs a registration with the publisher",
        schedulers={"ddim": "CogVideoXDDIMScheduler", "dpm++": "CogVideoXDPMScheduler"},
        takes_lists=True,  # pipeline_cogvideox_image2video.py:378 and :470
    ),
    Family(
        title="SkyReels V2",
        classes={
            "SkyReelsV2Pipeline": "SkyReelsV2ImageToVideoPipeline",
            "SkyReelsV2ImageToVideoPipeline": "SkyReelsV2ImageToVideoPipeline",
        },
        fps=24,
        frames=97,
        longest=121,
        frame_step=4,
        divisor=16,
        pixels=544 * 960,
        steps=50,
        guidance=5.0,
        licence="the publisher's own licence: read the file in its repository before commercial use",
        full_precision=_WAN_PARTS,
        packages=("ftfy",),
        schedulers=_FLOW,
    ),
    Family(
        title="HunyuanVideo 1.5",
        classes={
            "HunyuanVideo15Pipeline": "HunyuanVideo15ImageToVideoPipeline",
            "HunyuanVideo15ImageToVideoPipeline": "HunyuanVideo15ImageToVideoPipeline",
        },
        fps=24,
        frames=121,
        longest=121,
        frame_step=4,
        divisor=16,
        pixels=640 * 640,
        steps=50,
        guidance=None,
        licence="HunyuanVideo's licence does not apply in the EU, the UK and South Korea; read 1.5's own file",
    ),
    Family(
        title="LTX-2",
        classes={"LTX2Pipeline": "LTX2ImageToVideoPipeline", "LTX2ImageToVideoPipeline": "LTX2ImageToVideoPipeline"},
        fps=24,
        frames=121,
        longest=241,
        frame_step=8,
        divisor=32,
        pixels=512 * 768,
        steps=30,
        guidance=3.0,
        licence="LTX-2 community licence: paid from 10 million USD of yearly revenue, with a duty of provenance",
        rate_argument="frame_rate",
    ),
    Family(
        title="Kandinsky 5",
        classes={"Kandinsky5I2VPipeline": "Kandinsky5I2VPipeline"},
        fps=24,
        frames=121,
        longest=121,
        frame_step=4,
        divisor=16,
        pixels=512 * 768,
        steps=50,
        guidance=5.0,
        licence="MIT, as its text-to-video model states",
        is_restricted=False,
        packages=("ftfy",),
    ),
    Family(
        title="HunyuanVideo",
        classes={"HunyuanVideoImageToVideoPipeline": "HunyuanVideoImageToVideoPipeline"},
        fps=24,
        frames=129,
        longest=129,
        frame_step=4,
        divisor=16,
        pixels=720 * 1280,
        steps=50,
        guidance=1.0,
        licence="HunyuanVideo's licence does not apply in the EU, the UK and South Korea",
    ),
)
# Called by its signature, with a warning.
OTHER = Family(
    title="unknown family",
    classes={},
    fps=16,
    frames=49,
    longest=257,
    frame_step=8,  # 8k+1 is also 4k+1
    divisor=32,
    pixels=480 * 832,
    steps=50,
    guidance=5.0,
    licence="unknown: read the publisher's page before any use",
    is_tested=False,
)


def family_of(index: Mapping[str, Any]) -> Family:
    """The row for a `model_index.json`; `OTHER` if none knows its class."""
    name = index.get("_class_name")
    for family in FAMILIES:
        if name in family.classes and (family.when is None or index.get(family.when[0]) == family.when[1]):
            return family
    return OTHER
