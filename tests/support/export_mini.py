"""`mini-latent` exported as a user does it, for the tests that look at the result."""

from pathlib import Path

from command import run_process

from fashionflow_export import tensorrt as trt


def export_mini(target: Path) -> None:
    """`mini-latent` for clips of 8 frames: ONNX files, engines where TensorRT-RTX is installed, `export.log` beside."""
    flavor = ("--trt", "--trt-flavor", "rtx") if trt.find_spec("tensorrt_rtx") else ()
    options = ("--model", "mini-latent", "--onnx", *flavor, "--frames", "8")
    made = run_process("export", *options, "-o", target, cwd=target.parent, timeout=900)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == [str(target)]
    (target.parent / "export.log").write_text(made.stderr)
