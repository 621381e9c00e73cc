"""A headless Chromium that plays files from a folder and tells what it saw."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No sandbox: it cannot be had as root, nor in most containers. SwiftShader draws as a graphics card does;
# Chromium's way without any card takes about 2.0 for BT.709's 2.112 of blue (pure blue comes out as 243, whatever the
# codec). The rest keeps Chromium from calling home.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--enable-gpu-rasterization",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--autoplay-policy=no-user-gesture-required",
)
# Each job is {"kind": "video" | "image", "file", "times" and "fps" | "frames" by number}; its answer holds what the
# element says of itself and, for each of those, the pixels of a canvas it was drawn on (RGBA in base64).
PAGE = """<!doctype html><meta charset="utf-8"><script>
const event = (target, name) => new Promise((resolve, reject) => {
  target.addEventListener(name, resolve, {once: true});
  target.addEventListener("error", () => reject(new Error("" + (target.error && target.error.message))), {once: true});
});
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const base64 = bytes => {
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
};
function pixels(source, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(source, 0, 0);
  return base64(context.getImageData(0, 0, width, height).data);
}
async function video({file, times, fps}) {
  const element = Object.assign(document.createElement("video"), {muted: true, preload: "auto", src: file});
  document.body.append(element);
  await event(element, "canplaythrough");
  const {videoWidth: width, videoHeight: height, duration} = element;
  const frames = [];
  let presented = -1;  // "seeked" may come before the frame does
  const watch = (_, {mediaTime}) => { presented = mediaTime; element.requestVideoFrameCallback(watch); };
  element.requestVideoFrameCallback(watch);
  for (const time of times) {
    const arrived = event(element, "seeked");
    element.currentTime = time;
    await arrived;
    const latest = performance.now() + 3000;
    while (Math.abs(presented + 0.5 / fps - time) > 0.4 / fps && performance.now() < latest) await pause(10);
    frames.push(pixels(element, width, height));
  }
  const back = event(element, "seeked");
  element.currentTime = 0;
  await back;
  const ended = event(element, "ended");
  await element.play();
  await ended;
  const {totalVideoFrames: shown} = element.getVideoPlaybackQuality();
  return {width, height, duration, frames, ended: element.currentTime, shown};
}
async function image({file, type, frames}) {
  const element = Object.assign(new Image(), {src: file});
  document.body.append(element);
  await element.decode();
  const decoder = new ImageDecoder({data: (await fetch(file)).body, type});
  await decoder.completed;
  const track = decoder.tracks.selectedTrack, found = [], durations = [];
  for (const frameIndex of frames) {
    const {image} = await decoder.decode({frameIndex});
    found.push(pixels(image, image.displayWidth, image.displayHeight));
    durations.push(image.duration);
    image.close();
  }
  return {width: element.naturalWidth, height: element.naturalHeight, frames: found, durations,
    count: track.frameCount, animated: track.animated, forever: track.repetitionCount === Infinity};
}
(async () => {
  for (const [number, job] of (await (await fetch("/jobs")).json()).entries()) {
    let answer;
    try { answer = await {video, image}[job.kind](job); } catch (error) { answer = {error: "" + error}; }
    await fetch("/answers/" + number, {method: "POST", body: JSON.stringify(answer)});
  }
})();
</script><body></body>"""


def find() -> str | None:
    """The path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/":
            self._send(PAGE.encode(), "text/html; charset=utf-8")
        elif self.path == "/jobs":
            self._send(json.dumps(self._site.jobs).encode(), "application/json")
        elif self.headers["Range"]:
            self._send_range(Path(self.translate_path(self.path)), self.headers["Range"])
        else:
            super().do_GET()

    def _send_range(self, file: Path, asked: str) -> None:
        """As every web server for videos does: without ranges (RFC 9110, 14) Chromium does not seek."""
        data = file.read_bytes()
        first, last = asked.removeprefix("bytes=").split("-")
        end = min(int(last) + 1 if last else len(data), len(data))
        self.send_response(206)
        self.send_header("Content-Type", self.guess_type(str(file)))
        self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - int(first)))
        self.end_headers()
        self.wfile.write(data[int(first) : end])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(b"", "text/plain")
        self._site.answer(json.loads(body))

    @property
    def _site(self) -> "_Site":
        assert isinstance(self.server, _Site)
        return self.server

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class _Site(ThreadingHTTPServer):
    def __init__(self, folder: Path, jobs: list[dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.jobs, self.answers, self.done = jobs, [], threading.Event()

    def answer(self, answer: dict[str, Any]) -> None:
        self.answers.append(answer)
        if len(self.answers) == len(self.jobs):
            self.done.set()


@contextlib.contextmanager
def _chromium(program: str, url: str, profile: Path) -> Iterator[Path]:
    log = profile.with_suffix(".log")
    with log.open("wb") as streams:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", url],
            stdout=streams,
            stderr=streams,
            start_new_session=True,  # it starts processes of its own, which end with it
        )
    try:
        yield log
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def play(program: str, folder: Path, profile: Path, jobs: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """Give Chromium the jobs on files of `folder`; returns one answer each, in order."""
    with _Site(folder, jobs) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        try:
            with _chromium(program, f"http://127.0.0.1:{site.server_address[1]}/", profile) as log:
                if not site.done.wait(seconds):
                    said = log.read_text(errors="replace")[-2000:]
                    raise AssertionError(f"{len(site.answers)} of {len(jobs)} answers after {seconds} s; {said}")
        finally:
            site.shutdown()
    return site.answers
