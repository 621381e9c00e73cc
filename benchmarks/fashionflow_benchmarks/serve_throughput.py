"""Throughput of `fashionflow serve` beside `fashionflow generate FOLDER`, with the bundled model

python -m fashionflow_benchmarks.serve_throughput --out benchmarks/results/serve-throughput.json
"""

import argparse
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fashionflow_benchmarks.serve_load import photo_form, publish
from fashionflow_core.store.registry import ASSETS

_PROGRAM = [sys.executable, "-m", "fashionflow_cli"]
_MODEL = ["--model", "mini", "--device", "cpu"]


def seconds_each(folder: Path, count: int) -> float:
    """Seconds per video, from the first finished one to the last one: opening the model is not in it."""
    times = sorted(path.stat().st_mtime for path in folder.glob("*.mp4"))
    if len(times) != count:
        sys.exit(f"{folder}: {len(times)} videos instead of {count}")
    return (times[-1] - times[0]) / (count - 1)


def generated(photos: Path, out: Path, size: tuple[int, int], seconds: float) -> float:
    """Seconds per video of `generate FOLDER`; size as (height, width)."""
    height, width = size
    options = ["-o", str(out), "--size", f"{height}x{width}", "--duration", str(seconds), "--seed", "1", "--quiet"]
    subprocess.run([*_PROGRAM, "generate", str(photos), *options, *_MODEL], check=True, stdout=subprocess.DEVNULL)
    return seconds_each(out, len(list(photos.iterdir())))


def served(photos: Path, out: Path, size: tuple[int, int], seconds: float) -> float:
    """Seconds per video of `serve`, whose queue holds all photos from the start."""
    command = [*_PROGRAM, "serve", "--port", "0", "--folder", str(out), "--rate", "0", "--quiet", *_MODEL]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(process.stdout.readline().rsplit(":", 1)[1]))

        def ask(method: str, path: str, body: bytes | None = None, kind: str = "text/plain") -> Any:
            connection.request(method, path, body, {"Content-Type": kind})
            return json.loads(connection.getresponse().read())

        fields = {"size": f"{size[1]}x{size[0]}", "seconds": str(seconds), "seed": "1"}
        videos = [ask("POST", "/v1/videos", *photo_form(path.read_bytes(), fields))["id"] for path in photos.iterdir()]
        while videos:
            time.sleep(1)
            state = ask("GET", f"/v1/videos/{videos[0]}")
            if state["status"] == "failed":
                sys.exit(str(state["error"]))
            videos = videos[state["status"] == "completed" :]
    finally:
        process.terminate()
        process.wait()
    return seconds_each(out, len(list(photos.iterdir())))


def main() -> None:
    """Run both in turns and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    size, seconds = (320, 256), 1.0
    rounds = []
    try:
        (folder / "photos").mkdir()
        for number in range(arguments.photos):
            shutil.copy(ASSETS.parents[1] / "examples" / "dress.jpg", folder / "photos" / f"{number}.jpg")
        for number in range(arguments.rounds):
            # The order changes: a machine that gets busier or freer favours neither.
            both = [("generate", generated), ("serve", served)][:: 1 - 2 * (number % 2)]
            found = {name: run(folder / "photos", folder / f"{name}-{number}", size, seconds) for name, run in both}
            rounds.append({name: round(found[name], 3) for name in ("generate", "serve")})
    finally:
        shutil.rmtree(folder)
    ratios = sorted(one["generate"] / one["serve"] for one in rounds)
    figures = {
        "photos": arguments.photos,
        "size": list(size),
        "seconds": seconds,
        "seconds_per_video": rounds,
        "throughput_of_serve": [round(ratio, 3) for ratio in ratios],
    }
    publish(figures, arguments.out)


if __name__ == "__main__":
    main()
