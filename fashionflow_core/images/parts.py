"""Labels of body and garment parts.

A part map is `uint8 (h, w)`, one label a pixel. Left and right are meant as seen in the picture. `head` is face, ears
and neck, without the hair; `arm_left` and `arm_right` include sleeves and hands; `upper` is the garment above the waist
(of a dress: down to the waist line) and `lower` the garment below it, trouser legs included; `legs` are bare legs and
hosiery.
"""

PARTS = ("background", "head", "hair", "arm_left", "arm_right", "upper", "lower", "legs", "shoes")
"""Names of the parts; a part's label is its index."""

BACKGROUND, HEAD, HAIR, ARM_LEFT, ARM_RIGHT, UPPER, LOWER, LEGS, SHOES = range(len(PARTS))
