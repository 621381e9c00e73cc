"""Published figures of DreamPose's preparation per person (section 4.5).

Nothing here was measured by us. Times and steps are theirs; that they hold for other hardware is not said.
"""

from dataclasses import dataclass

PAPER = "Karras et al. 2023, DreamPose, arXiv 2304.06025v4, limitations"
# The paper itself could not be opened where this was written.
QUOTED = f"{PAPER}; as quoted in public reading notes of that version"
CODE = "github.com/johannakarras/DreamPose"


@dataclass(frozen=True)
class PublishedNumber:
    """A published number.

    Attributes:
        what: it is of.
        value, unit: as published.
        source: where it stands.
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
# What their test.py loads for one person. No published size of these files could be found: it is counted instead.
STORED = ("unet", "adapter", "vae")


def line() -> str:
    """The figures as one line for people, marked as theirs."""
    unet, decoder, frame = REPORTED[:3]
    return (
        f"Published by DreamPose's authors, not measured here: before a person's first video about {unet.value:g} "
        f"{unet.unit} for the U-Net and {decoder.value:g} {decoder.unit} for the VAE decoder; then {frame.value:g} "
        f"{frame.unit} a frame."
    )


def stored_bytes(parameters: dict[str, int]) -> int:
    """Bytes kept for each person: the whole state of the networks that are fine-tuned, in float32, as theirs saves it.

    Args:
        parameters: `Baseline.parameters` of a DreamPose baseline.
    """
    return 4 * sum(parameters[name] for name in STORED)
