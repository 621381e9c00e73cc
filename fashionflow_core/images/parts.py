"""Labels of body and garment parts.

A part map is `uint8 (h, w)`, one label per pixel. Left and right are those of the image. `head` is face, ears
and neck, without the hair; `arm_left` and `arm_right` include sleeves and hands; `upper` is the garment above the waist
(of a dress: down to the waist line) and `lower` the garment below it, trouser legs included; `legs` are bare legs and
hosiery.
"""

PARTS = ("background", "head", "hair", "arm_left", "arm_right", "upper", "lower", "legs", "shoes")
"""Names of the parts; the label of a part is its index."""

BACKGROUND, HEAD, HAIR, ARM_LEFT, ARM_RIGHT, UPPER, LOWER, LEGS, SHOES = range(len(PARTS))
