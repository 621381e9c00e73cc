"""Published times of DreamPose's fine-tuning per person (section 4.5).

Published by DreamPose's authors, not measured here; hardware is not specified.
"""

from dataclasses import dataclass

PAPER = "Karras et al. 2023, DreamPose, arXiv 2304.06025v4, limitations"
# Quoted from notes on the paper, not from the paper itself.
QUOTED = f"{PAPER}; as quoted in public reading notes of that version"
CODE = "github.com/johannakarras/DreamPose"


@dataclass(frozen=True)
class PublishedNumber:
    """A published number.

    Attributes:
        what: quantity.
        value, unit: as published.
        source: publication.
    """

    what: str
    value: float
    unit: str
    source: str


REPORTED = (
    PublishedNumber("fine-tuning the U-Net for one person, about", 10, "minutes", QUOTED),
    PublishedNumber("fine-tuning the VAE decoder for one person, about", 20, "minutes", QUOTED),
    PublishedNumber("rendering one frame", 18, "seconds", QUOTED),
    PublishedNumber(
        "fine-tuning the U-Net for one person, on one photo", 500, "epochs", f"{CODE}, README.md, finetune-unet.py"
    ),
    PublishedNumber(
        "fine-tuning the VAE decoder for one person", 1500, "epochs", f"{CODE}, README.md, finetune-vae.py"
    ),
)
# Files that DreamPose's test.py loads per person. Their size is not published, so it is counted.
STORED = ("unet", "adapter", "vae")


def line() -> str:
    """The published numbers as one line, marked as not measured here."""
    unet, decoder, frame = REPORTED[:3]
    return (
        f"Published by DreamPose's authors, not measured here: before a person's first video about {unet.value:g} "
        f"{unet.unit} for the U-Net and {decoder.value:g} {decoder.unit} for the VAE decoder; then {frame.value:g} "
        f"{frame.unit} a frame."
    )


def stored_bytes(parameters: dict[str, int]) -> int:
    """Bytes stored per person: the fine-tuned networks in float32, as saved by the original code.

    Args:
        parameters: `Baseline.parameters` of a DreamPose baseline.
    """
    return 4 * sum(parameters[name] for name in STORED)
