"""Encoders are tried, not assumed: what works is said, and hardware that does not gives way to software."""

import dataclasses
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from clips import moving

from fashionflow_core import video
from fashionflow_core.errors import FashionFlowWarning
from fashionflow_core.video import encoders, formats

SOFTWARE = {
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "gif": "gif",
    "webp": "libwebp",
}


def test_every_software_encoder_works_and_every_hardware_one_says_why_not() -> None:
    checks = video.working_encoders()
    assert {check.codec: check.encoder for check in checks if not check.hardware} == SOFTWARE
    assert all(check.works for check in checks if not check.hardware)
    assert all(check.works == (not check.reason) for check in checks)
    assert all("\n" not in check.reason for check in checks)
    hardware = [check.encoder for check in checks if check.hardware]
    assert {"h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_videotoolbox"} <= set(hardware)
    assert set(hardware) == set(video.ENCODERS) - {"software", "hardware"}


def test_trying_encoders_prints_nothing() -> None:
    script = "from fashionflow_core import video; assert len(video.working_encoders()) > 6"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_an_encoder_that_this_build_lacks_says_so() -> None:
    assert encoders.why_not("libx264", 64, 64, 18) == ""
    assert encoders.why_not("h264_of_the_future", 64, 64, 18) == "not in this build of FFmpeg"
    assert encoders.why_not("libx265", 2, 2, 18) != ""  # too small for it: FFmpeg's own words


def hardware_is_missing(codec: str) -> None:
    if any(check.works and check.hardware and check.codec == codec for check in video.working_encoders()):
        pytest.skip("this machine has hardware that encodes, so nothing falls back")


@pytest.mark.parametrize(
    "name, codec, encoder, used",
    [
        ("clip.mp4", None, "hardware", "libx264"),
        ("clip.mp4", "hevc", "hardware", "libx265"),
        ("clip.mp4", None, "av1_nvenc", "libsvtav1"),  # the encoder's codec, since none is named
        ("clip.webm", None, "av1_nvenc", "libsvtav1"),
    ],
)
def test_hardware_that_does_not_work_gives_way_to_software_and_says_so(
    tmp_path: Path, name: str, codec: str | None, encoder: str, used: str
) -> None:
    software = {tool: kind for kind, tool in SOFTWARE.items()}[used]
    hardware_is_missing(software)
    path = tmp_path / name
    with pytest.warns(FashionFlowWarning) as caught:
        info = video.write(moving(5), path, 25, 5, codec=codec, encoder=encoder)
    (line,) = [str(warning.message) for warning in caught]
    assert caught[0].filename == __file__  # whoever called is named, not this library
    asked = encoder if encoder != "hardware" else formats.CODEC_TABLE[software].hardware[0].split("_")[0]
    assert line.startswith(f"{path}: encoder={encoder} does not work here (")
    assert asked in line and line.endswith(f"encoded with {used} instead") and "\n" not in line
    assert (info.codec, info.encoder) == (software, used)
    # What was asked for in vain leaves no trace in the file.
    video.write(moving(5), tmp_path / f"plain{path.suffix}", 25, 5, codec=info.codec)
    assert path.read_bytes() == (tmp_path / f"plain{path.suffix}").read_bytes()


def test_the_first_hardware_encoder_that_works_is_taken_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No machine of these tests has such hardware: another software encoder of H.264 stands for it."""
    kind = formats.CODEC_TABLE["h264"]
    stand_in = dataclasses.replace(kind, hardware=("h264_nvenc_of_the_future", "libx264"), software="libx264_fallback")
    monkeypatch.setitem(formats.CODEC_TABLE, "h264", stand_in)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        info = video.write(moving(5), tmp_path / "clip.mp4", 25, 5, encoder="hardware")
    assert info.encoder == "libx264"


def test_software_is_never_tried_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "why_not", lambda *_: pytest.fail("tried"))
    for encoder in (None, "software", "libx264"):
        assert video.write(moving(2), tmp_path / "clip.mp4", 25, 2, encoder=encoder).encoder == "libx264"


def test_a_setting_of_the_user_for_svt_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVT_LOG", "0")
    video.write(moving(3), tmp_path / "clip.webm", 25, 3, codec="av1")
    assert os.environ["SVT_LOG"] == "0"
