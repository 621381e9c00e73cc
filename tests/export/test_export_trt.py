"""TensorRT engines: built without a GPU by TensorRT-RTX, kept while they fit, refused early where they cannot be."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from command import interruptible
from engine_folders import edit, shared, tiny_engines, tiny_source
from tiny import build_tiny_model

from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.store.engine_folder import BUILT_NOT_RUN, GRAPHS_OF, VERIFIED, Engines, FileRecord
from fashionflow_core.utils import extras
from fashionflow_export import tensorrt as trt
from fashionflow_export.export import export_model
from fashionflow_export.settings import EngineSettings, ExportSettings
from fashionflow_export.tensorrt import build_engine, choose_flavor, describe

pytestmark = pytest.mark.slow  # each exports, or starts processes that do

RTX = EngineSettings(flavor="rtx")
needs_rtx = pytest.mark.skipif(
    trt.find_spec("tensorrt_rtx") is None or trt.find_spec("polygraphy") is None, reason="needs the extra trt-rtx"
)


def _tiny(factory: pytest.TempPathFactory, name: str, **settings: Any) -> Path:
    source = tiny_source(factory)
    chosen = ExportSettings(runtimes=("tensorrt",), networks=("vae_decoder",), engines=RTX, **settings)
    return shared(factory, name, lambda path: export_model(source, path, chosen))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny decoder as an engine, without its ONNX file."""
    return _tiny(tmp_path_factory, "tiny-rtx")


# ---- building ------------------------------------------------------------------------------------------------------


@needs_rtx
def test_an_engine_that_cannot_run_here_says_so(decoder: Path) -> None:
    record = Engines.load(decoder)
    if record.runtimes["tensorrt"].state != VERIFIED:  # a machine with a GPU verifies at once
        assert record.runtimes["tensorrt"].state == BUILT_NOT_RUN
        assert "needs an NVIDIA GPU" in record.runtimes["tensorrt"].reason
    assert record.networks["vae_decoder"].files == {"tensorrt": "vae_decoder/model.engine"}
    assert not list(decoder.rglob("*.onnx"))


@needs_rtx
def test_what_an_engine_depends_on_is_recorded(decoder: Path) -> None:
    tensorrt_rtx = pytest.importorskip("tensorrt_rtx")
    build = Engines.load(decoder).runtimes["tensorrt"].build
    assert (build["flavor"], build["version"], build["cuda"]) == ("rtx", tensorrt_rtx.__version__, "13")
    assert build["compute_capabilities"] == ["all"]
    key = build["engines"]["vae_decoder"]["key"]
    assert set(key) >= {"flavor", "version", "cuda", "compute_capabilities", "onnx", "dtype", "profile"}
    assert build["engines"]["vae_decoder"]["layers"] > 5
    assert build["engines"]["vae_decoder"]["activation_traffic_bytes"] > 0


@needs_rtx
def test_valid_engines_are_kept_and_stale_ones_named(
    decoder: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_source(tmp_path_factory)
    folder = Path(shutil.copytree(decoder, tmp_path / "engines"))
    before = (folder / "vae_decoder/model.engine").stat().st_ino, FileRecord.of(folder / "vae_decoder/model.engine")
    lines: list[str] = []

    def again(**changes: Any) -> Engines:
        lines.clear()
        settings = {"runtimes": ("tensorrt",), "networks": ("vae_decoder",), "engines": RTX, "verify": False}
        return export_model(source, folder, ExportSettings(**{**settings, **changes}), None, True, lines.append)[1]

    with monkeypatch.context() as patch:
        patch.setattr("fashionflow_export.engines.build_engine", lambda *_: pytest.fail("was built again"))
        kept = again()
    assert any("still valid; reusing it" in line for line in lines)
    assert kept.files["vae_decoder/model.engine"] == before[1]
    assert kept.runtimes["tensorrt"].build["engines"]["vae_decoder"]["layers"] > 5

    edit(folder, lambda r: r["runtimes"]["tensorrt"]["build"]["engines"]["vae_decoder"]["key"].update(version="0.9"))
    again()
    assert any("is stale (version was 0.9, is" in line for line in lines)
    # What else is built is not looked into.
    monkeypatch.setattr("fashionflow_export.engines.build_engine", lambda *_: (b"an engine", {"layers": 6}))
    again(dtype="fp16")
    assert any("is stale (the graph or its weights changed)" in line for line in lines)
    again(dtype="fp16", engines=EngineSettings(flavor="rtx", capabilities=("8.9", "12.0")))
    assert any("is stale (compute_capabilities was ['all'], is ['8.9', '12.0'])" in line for line in lines)

    # One that was tampered with is not trusted, whatever its record says.
    path = folder / "vae_decoder/model.engine"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    again(dtype="fp16", engines=EngineSettings(flavor="rtx", capabilities=("8.9", "12.0")))
    assert any(line.startswith("vae_decoder: building") for line in lines)


@needs_rtx
def test_a_dynamic_engine_has_a_profile(tmp_path: Path) -> None:
    source = build_tiny_model(tmp_path / "tiny", levels=1)
    settings = ExportSettings(
        runtimes=("tensorrt",), networks=("unet",), dynamic_frames=(4, 12), dtype="fp16", engines=RTX, verify=False
    )
    _, record = export_model(source, tmp_path / "out", settings)
    built = record.runtimes["tensorrt"].build["engines"]["unet"]
    assert [shape[2] for shape in built["key"]["profile"]["sample"]] == [4, 4, 12]
    assert "activation_traffic_bytes" not in built  # of which shape?


@needs_rtx
def test_a_corrupt_graph_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "unet/model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"not a graph")
    with pytest.raises(FashionFlowError, match="TensorRT-RTX cannot read it") as caught:
        build_engine(path, choose_flavor(RTX), RTX, {})
    assert "\n" not in caught.value.message and "unet/model.onnx" in caught.value.message


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of a tiny encoder."""
    made = tiny_engines(tmp_path_factory, "tiny-encoder", networks=("vae_encoder",), verify=False)
    return made / "vae_encoder/model.onnx"


# In a process of its own: after a failed build for an old GPU, TensorRT-RTX 1.7 cannot build other networks either.
TURING = """
import sys
from pathlib import Path
from fashionflow_core.errors import FashionFlowError
from fashionflow_export.settings import EngineSettings
from fashionflow_export.tensorrt import build_engine, choose_flavor
turing = EngineSettings(flavor="rtx", capabilities=("7.5",))
try:
    build_engine(Path(sys.argv[1]), choose_flavor(turing), turing, {})
except FashionFlowError as error:
    print(error.message, error.hint, sep="\\n")
"""


@needs_rtx
def test_what_cannot_be_built_is_one_line(encoder: Path) -> None:
    """Polygraphy has opinions of its own, of colours and of engines: they do not stand beside the error."""
    command = [sys.executable, "-c", TURING, str(encoder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert done.stderr == ""
    message, hint = done.stdout.splitlines()
    assert re.match(r"vae_encoder/model\.onnx: TensorRT-RTX cannot build it .*FP32", message)
    assert hint == "try another --compute-capability, or the other --dtype"


@needs_rtx
def test_a_build_can_be_interrupted(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT calls us back from its own code, which prints what a signal raises there, and goes on."""
    steps = []

    def interrupting(trt_module: Any, stop: threading.Event) -> Any:
        class Monitor(trt_module.IProgressMonitor):
            def __init__(self) -> None:
                trt_module.IProgressMonitor.__init__(self)

            def phase_start(self, *_: Any) -> None:
                if not steps:
                    steps.append("interrupted")
                    os.kill(os.getpid(), signal.SIGINT)
                    stop.wait(30)

            def phase_finish(self, *_: Any) -> None: ...

            def step_complete(self, *_: Any) -> bool:
                steps.append("asked")
                return not stop.is_set()

        return Monitor()

    monkeypatch.setattr(trt, "_monitor", interrupting)
    with interruptible(), pytest.raises(KeyboardInterrupt):
        build_engine(encoder, choose_flavor(RTX), RTX, {})
    assert steps == ["interrupted", "asked"]


@needs_rtx
def test_polygraphy_lists_engines(decoder: Path) -> None:
    """Without a driver no engine can be opened: then it must be that, and nothing else, that stops the tool."""
    path = decoder / "vae_decoder/model.engine"
    found = subprocess.run(
        [sys.executable, "-c", "from polygraphy.tools import main; main()", "inspect", "model", str(path)],
        env={**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if trt.has_gpu():
        assert found.returncode == 0 and "latents" in found.stdout and "image" in found.stdout
    else:
        assert "CUDA driver version is insufficient" in found.stdout + found.stderr


def test_traffic_is_counted_from_the_listing() -> None:
    listing = (
        "Layers:\n"
        "Name: a, LayerType: conv, Inputs: [ { Name: x, Dimensions: [1,4,8], Strides: [32,8,1], Datatype: Half, "
        "Format: f }], Constants: [ { Name: w, Dimensions: [9,9], Datatype: Float, Format: f }], Outputs: [ { Name: y, "
        "Dimensions: [2,4], Strides: [4,1], Datatype: Float, Format: f }], TacticName: t\n"
        "Name: b, LayerType: move, Inputs: [], Constants: [], Outputs: [ { Name: z, Dimensions: [], Strides: [], "
        "Datatype: Int32, Format: f }], TacticName: u\n"
    )
    assert describe(listing, 7) == {
        "layers": 2,
        "scratch_bytes": 7,
        "activation_traffic_bytes": 1 * 4 * 8 * 2 + 2 * 4 * 4 + 4,
    }
    dynamic = listing.replace("[2,4]", "[-1,4]")
    assert describe(dynamic, 7) == {"layers": 2, "scratch_bytes": 7}


# ---- what is refused -----------------------------------------------------------------------------------------------


def _install(monkeypatch: pytest.MonkeyPatch, *modules: str, gpu: bool = False) -> None:
    monkeypatch.setattr(trt, "find_spec", lambda name: name if name in modules else None)
    monkeypatch.setattr(trt, "has_gpu", lambda: gpu)


def test_auto_prefers_tensorrt_where_it_can_build(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "tensorrt", "tensorrt_rtx", "polygraphy", gpu=True)
    assert choose_flavor(EngineSettings()).name == "tensorrt"
    _install(monkeypatch, "tensorrt", "tensorrt_rtx", "polygraphy")
    monkeypatch.setattr(trt, "_check_capabilities", lambda *_: None)
    assert choose_flavor(EngineSettings()).name == "rtx"


@pytest.mark.parametrize(
    ("installed", "settings", "says", "hint"),
    [
        ((), {}, "TensorRT is not installed", extras.install("trt-rtx")),
        (("tensorrt",), {}, "TensorRT is installed, but needs a GPU to build", extras.install("trt-rtx")),
        (("tensorrt_rtx",), {"flavor": "tensorrt"}, "TensorRT is not installed", extras.install("trt")),
        ((), {"flavor": "rtx"}, "TensorRT-RTX is not installed", extras.install("trt-rtx")),
        (("tensorrt_rtx",), {"flavor": "rtx"}, "polygraphy is not installed", extras.install("trt-rtx")),
        (("tensorrt", "polygraphy"), {"flavor": "tensorrt"}, "but there is none", "--trt-flavor rtx"),
        (("tensorrt", "polygraphy"), {"flavor": "tensorrt", "capabilities": ("8.9",)}, "--compute-capability", None),
        (("tensorrt_rtx", "polygraphy"), {"flavor": "rtx", "refit": True}, "--refit", "--trt-flavor tensorrt"),
        (
            ("tensorrt_rtx", "polygraphy"),
            {"flavor": "rtx", "timing_cache": Path("x")},
            "--timing-cache",
            "--trt-flavor tensorrt",
        ),
        (
            ("tensorrt_rtx", "polygraphy"),
            {"flavor": "rtx", "capabilities": ("current",)},
            "no GPU on this machine",
            "8.9",
        ),
    ],
)
def test_what_cannot_be_done_here_is_refused_early(
    monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], settings: dict[str, Any], says: str, hint: str | None
) -> None:
    _install(monkeypatch, *installed)
    with pytest.raises(FashionFlowError, match=says) as caught:
        choose_flavor(EngineSettings(**settings))
    assert hint is None or hint in str(caught.value.hint)


@needs_rtx
def test_a_capability_that_is_not_listed(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """TensorRT-RTX has no SM90: an H100 or H200 cannot be compiled for ahead."""
    settings = ExportSettings(runtimes=("tensorrt",), engines=EngineSettings(flavor="rtx", capabilities=("9.0",)))
    with pytest.raises(UsageError, match=r"does not support 9\.0") as caught:
        export_model(tiny_source(tmp_path_factory), tmp_path / "out", settings)
    assert "8.9" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


# ---- on a GPU ------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_rtx
def test_engines_run_and_agree(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    from fashionflow_core import pipeline
    from fashionflow_core.runtimes.verification import psnr_of_frames, short_generation
    from fashionflow_export.exported_model import standard_photo

    source = tiny_source(tmp_path_factory)
    settings = ExportSettings(runtimes=("onnxruntime", "tensorrt"), dynamic_frames=(4, 12), engines=RTX)
    out, record = export_model(source, tmp_path / "out", settings)
    assert record.runtimes["tensorrt"].state == VERIFIED, record.runtimes["tensorrt"].reason
    assert set(GRAPHS_OF["appearance"]) == {entry["network"] for entry in record.runtimes["tensorrt"].parity}
    for count in (12, 4):
        frames = []
        for folder, backend in ((source, "torch"), (out, "tensorrt"), (out, "unet=tensorrt,vae=onnxruntime")):
            pipe = pipeline.load(folder, device="cuda", backend=backend, dtype="fp32")
            frames.append(short_generation(pipe, standard_photo(pipe.config), count, 4))
        assert min(psnr_of_frames(frames[1], frames[0])) >= 40
        assert min(psnr_of_frames(frames[2], frames[0])) >= 40
    assert json.loads((out / "engines.json").read_text())["runtimes"]["tensorrt"]["state"] == VERIFIED
