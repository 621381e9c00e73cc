"""Score mattes and parts of unseen synthetic figures on plain and busy backgrounds.

    python scripts/score_parser.py fashionflow_core/assets/mini/parser -o benchmarks/results/parser-scores.json

Intersection over union (IoU) per figure, averaged: of the network's matte, of the result of `find_matte`, and of the
parts (averaged over the parts with at least 30 pixels in an image). Images are those of `parser_sample`, with seeds far
from those of training.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from fashionflow_core.images.parts import PARTS
from fashionflow_core.models.parser import FigureParser, ParsedPhoto, parse_photo
from fashionflow_core.motion.matte import find_matte
from fashionflow_core.motion.matte_trust import overlap
from fashionflow_core.training.parser_data import ParserSample, parser_sample

FIRST_SEED = 60_000_000


def part_overlaps(found: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """IoU of each visible part."""
    return {
        name: overlap(found == index, true == index)
        for index, name in enumerate(PARTS)
        if index and (true == index).sum() >= 30
    }


def score(model: FigureParser, samples: list[ParserSample]) -> dict[str, float | int | dict[str, float]]:
    """Mean scores of some images."""
    network, combined, plain, mean_parts, errors, trusted = [], [], [], [], [], 0
    each: dict[str, list[float]] = {name: [] for name in PARTS[1:]}

    def parse(photo: np.ndarray) -> ParsedPhoto:
        return parse_photo(model, photo)

    for sample in samples:
        true = sample.alpha > 127
        network.append(overlap(parse_photo(model, sample.photo).matte > 0.5, true))
        matte = find_matte(sample.photo, parse)
        combined.append(overlap(matte.alpha > 0.5, true))
        errors.append(float(np.abs(matte.alpha - sample.alpha / 255).mean()))
        plain.append(overlap(find_matte(sample.photo).alpha > 0.5, true))
        trusted += matte.trusted
        if matte.parts is None:
            continue
        found = part_overlaps(np.where(matte.alpha > 0.5, matte.parts, 0), sample.parts)
        mean_parts.append(float(np.mean(list(found.values()))))
        for name, value in found.items():
            each[name].append(value)
    return {
        "pictures": len(samples),
        "matte_iou": round(float(np.mean(combined)), 4),
        "matte_iou_median": round(float(np.median(combined)), 4),
        "matte_iou_worst_tenth": round(float(np.quantile(combined, 0.1)), 4),
        "matte_error": round(float(np.mean(errors)), 5),
        "matte_iou_network_alone": round(float(np.mean(network)), 4),
        "matte_iou_without_network": round(float(np.mean(plain)), 4),
        "parts_iou": round(float(np.mean(mean_parts)), 4),
        "parts": {name: round(float(np.mean(values)), 4) for name, values in each.items() if values},
        "trusted": trusted,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="folder of the trained network")
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--pictures", type=int, default=64, help="images per kind")
    choice = parser.parse_args()
    torch.set_num_threads(1)
    model = FigureParser.from_pretrained(choice.network).float().eval()
    result: dict[str, object] = {
        "first_seed": FIRST_SEED,
        "parameters": sum(value.numel() for value in model.parameters()),
    }
    for name, busy, hard in (
        ("shop photos, plain", False, False),
        ("shop photos, busy", True, False),
        ("hard, plain", False, True),
        ("hard, busy", True, True),
    ):
        seeds = range(FIRST_SEED, FIRST_SEED + choice.pictures)
        samples = [parser_sample(seed, busy, hard) for seed in seeds]
        result[name] = score(model, [sample for sample in samples if sample.alpha.mean() > 2])
        print(name, json.dumps(result[name]))
    if choice.output:
        choice.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
