"""The commands around `generate`, and the boundary that turns every error into a line, a hint and an exit code."""

import io
import json
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from command import COMMAND, assert_refused, environment, interruptible, run, started, wait_until
from tiny import build_sources, build_tiny_model, named_published

from fashionflow_cli.main import app
from fashionflow_core import video
from fashionflow_core.synthetic.clips import render_clip

# ---- the boundary --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nonsense"], ["nonsense"]),
        (["generate", "a.jpg", "--bogus"], ["--bogus"]),
        (["generate", "a.jpg", "b.jpg"], ["--out", "folder"]),
        (["generate", "a.jpg", "--frames", "0"], ["--frames"]),
        (["generate", "a.jpg", "--frames", "many"], ["--frames"]),
        (["generate", "a.jpg", "--fps", "nan"], ["--fps"]),
        (["generate", "a.jpg", "--size", "640"], ["--size", "640"]),
        (["generate", "a.jpg", "--scheduler", "magic"], ["--scheduler", "magic", "ddpm, ddpm-large, ddim, dpm++"]),
        (["generate", "a.jpg", "--seed", "-1"], ["--seed"]),
        (["generate", "a.jpg", "--dtype", "int4"], ["--dtype", "int4"]),
        (["generate", "a.jpg", "--reroll", "2"], ["--reroll", "several photos"]),
        (["generate", "a.jpg", "-o", "a.avi"], ["a.avi", ".mp4"]),
        (["models", "import", "a.pth"], ["--out"]),
        (["data", "synth", "-o", "clips", "--size", "3x4"], ["--size", "3x4"]),
        (["data", "synth", "-o", "clips", "--clips", "0"], ["--clips"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    assert_refused(run(*arguments, cwd=tmp_path), 2, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, value",
    [
        ("FASHIONFLOW_STEPS", "1e3"),
        ("FASHIONFLOW_SEED", "9" * 5000),
        ("FASHIONFLOW_DTYPE", "\x1b[31m"),
        ("FASHIONFLOW_QUIET", "perhaps"),
    ],
)
def test_hostile_environment_names_the_variable(tmp_path: Path, name: str, value: str) -> None:
    assert_refused(run("generate", "a.jpg", cwd=tmp_path, env={name: value}), 2, name)


def test_flag_beats_environment_and_empty_means_unset(tmp_path: Path) -> None:
    """All get as far as the missing photo, which is what they would fail at next."""
    for env, flags in (({"FASHIONFLOW_STEPS": "bad"}, ["--steps", "4"]), ({"FASHIONFLOW_STEPS": ""}, [])):
        assert_refused(run("generate", "missing.jpg", *flags, cwd=tmp_path, env=env), 1, "missing.jpg")


def test_bare_commands_print_help(tmp_path: Path) -> None:
    for arguments in ([], ["models"], ["data"], ["generate"]):
        result = run(*arguments, cwd=tmp_path)
        assert result.returncode == 2 and "Usage: fashionflow" in result.stdout and result.stderr == ""


def test_help_of_generate_fits_two_screens(tmp_path: Path) -> None:
    """About a hundred lines in 80 columns, what few need at the end."""
    text = run("generate", "--help", cwd=tmp_path, env={"COLUMNS": "80"}).stdout
    assert len(text.splitlines()) <= 100
    assert (
        text.index("─ Photo and video ─") < text.index("--out") < text.index("─ Advanced ─") < text.index("--executor")
    )
    assert "--decode-chunk" not in text and "--help-all" in text


def test_help_all_shows_every_option(tmp_path: Path) -> None:
    text = run("generate", "--help-all", cwd=tmp_path, env={"COLUMNS": "80"}).stdout
    generate: Any = getattr(typer.main.get_command(app), "commands")["generate"]  # noqa: B009
    options = [p for p in generate.params if p.opts[0].startswith("--")]
    assert len(options) > 40 and [p.opts[0] for p in options if f" {p.opts[0]} " not in text] == []


def test_only_a_dozen_options_have_a_variable(tmp_path: Path) -> None:
    """What else is set in the environment changes nothing, and `doctor` names it."""
    env = {"FASHIONFLOW_FRAMES": "bad", "FASHIONFLOW_EXECUTOR": "none", "FASHIONFLOW_JSON": "perhaps"}
    assert_refused(run("generate", "missing.jpg", cwd=tmp_path, env=env), 1, "missing.jpg")


def test_version(tmp_path: Path) -> None:
    from importlib.metadata import version

    result = run("--version", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"fashionflow {version('fashionflow')}\n", "")


def test_console_script_is_the_same(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("fashionflow")
    result = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == run("--version", cwd=tmp_path).stdout


BROKEN = """
import sys
from fashionflow_cli.main import main
from fashionflow_core.store import registry
def broken():
    raise {error}
registry.list_models = broken
sys.argv = ["fashionflow", "models", "list"]
main()
"""


def _run_broken(error: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    code = BROKEN.format(error=error)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment(env), capture_output=True, text=True, check=False
    )


def test_unforeseen_errors_are_one_line_too(tmp_path: Path) -> None:
    result = _run_broken(r"RuntimeError('the pump\nC++ stack:\n#1\n#2')", tmp_path)
    assert_refused(result, 1, "internal: RuntimeError: the pump")
    assert "FASHIONFLOW_DEBUG=1" in result.stderr and "#1" not in result.stderr
    assert_refused(_run_broken("OSError(28, 'No space left on device', 'a.mp4')", tmp_path), 1, "a.mp4: no space left")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = _run_broken("RuntimeError('the pump')", tmp_path, FASHIONFLOW_DEBUG="1")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "in broken" in result.stderr
    assert "error: internal: RuntimeError: the pump" in result.stderr
    assert "Traceback" not in _run_broken("RuntimeError('the pump')", tmp_path, FASHIONFLOW_DEBUG="0").stderr


def test_a_signal_that_a_library_swallows_still_decides_the_code(tmp_path: Path) -> None:
    """Some turn KeyboardInterrupt into an error of their own; the process was interrupted all the same."""
    for name, code in (("SIGINT", 130), ("SIGTERM", 143)):
        error = f"""__import__("os").kill(__import__("os").getpid(), __import__("signal").{name})
    except BaseException as error:
        raise RuntimeError("import failed") from None"""
        body = BROKEN.replace("    raise {error}", f"    try:\n        {error}")
        with interruptible():
            result = subprocess.run(
                [sys.executable, "-c", body],
                cwd=tmp_path,
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )
        assert (result.returncode, result.stderr) == (code, "")


def test_nobody_reads_the_output(tmp_path: Path) -> None:
    """A reader that leaves (`| head`) and streams that are closed (`>&-`) give neither noise nor a traceback."""
    for tail in ("| true", ">&-", "2>&-", ">&- 2>&-"):
        line = f"'{COMMAND[0]}' -m {COMMAND[2]} models list {tail}"
        result = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert (result.returncode, result.stderr) == (0, ""), line


# ---- models --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_models_list(tmp_path: Path, tiny: Path) -> None:
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    (home / "models" / "mine").symlink_to(tiny)
    env = {"FASHIONFLOW_HOME": str(home)}
    result = run("models", "list", "--json", cwd=tmp_path, env=env)
    assert (result.returncode, result.stderr) == (0, "")
    entries = {entry["name"]: entry for entry in json.loads(result.stdout)}
    assert entries["mine"] == {
        "name": "mine",
        "path": str(home / "models" / "mine"),
        "installed": True,
        "state": "installed",
        "size_bytes": sum(path.stat().st_size for path in tiny.rglob("*") if path.is_file()),
        "summary": "tiny random weights for tests; its videos are noise",
    }
    assert entries["published"]["path"] is None and not entries["published"]["installed"]
    lines = run("models", "list", cwd=tmp_path, env=env).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(entries)


def test_models_show(tmp_path: Path, tiny: Path) -> None:
    result = run("models", "show", tiny, "--json", cwd=tmp_path)
    description = json.loads(result.stdout)
    assert (description["path"], description["config"]["frames"]) == (str(tiny), 4)
    text = run("models", "show", tiny, cwd=tmp_path).stdout
    assert str(description["parameters"]["total"]) in text and "tiny random weights" in text
    assert_refused(run("models", "show", "minni", cwd=tmp_path), 1, "minni")


class _Trap:
    """A pickle of it creates `path` when it is opened carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return io.open, (str(self.path), "w")


def test_models_import_refuses_a_hostile_pickle(tmp_path: Path) -> None:
    sprung, checkpoint = tmp_path / "sprung", tmp_path / "hostile.pth"
    checkpoint.write_bytes(pickle.dumps(_Trap(sprung)))
    result = run("models", "import", checkpoint, "-o", tmp_path / "out", cwd=tmp_path)
    assert result.returncode == 1 and result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "hostile.pth" in errors[0] and "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pth"]


@pytest.mark.slow
def test_models_import_gives_the_golden_outputs(tmp_path: Path, golden: Path) -> None:
    import torch
    from golden.named_weights import named_normal

    from fashionflow_core.models import FashionFlowUNet

    checkpoint, out = tmp_path / "checkpoint.pth", tmp_path / "published"
    torch.save({part: named_published(part) for part in ("net", "adapter")}, checkpoint)
    sources = build_sources(tmp_path / "sources")
    result = run(
        *("models", "import", checkpoint, "--vae", sources, "--clip", sources / "clip", "-o", out), cwd=tmp_path
    )
    assert (result.returncode, result.stdout) == (0, f"{out}\n"), result.stderr
    unet = FashionFlowUNet.from_pretrained(out, subfolder="unet", use_safetensors=True)
    latents = torch.from_numpy(named_normal("unet_a:latents", (1, 4, 8, 32, 32)))
    context = torch.from_numpy(named_normal("unet_a:context", (1, 50, 768)))
    with np.load(golden / "golden.npz") as values, torch.inference_mode():
        output = unet(latents, torch.tensor([500]), context).sample
        np.testing.assert_allclose(output.numpy(), values["unet_a"], atol=1e-3, rtol=0)


# ---- data ----------------------------------------------------------------------------------------------------------

SMALL = ("--size", "64x48", "--frames", "4")


def _synth(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("data", "synth", "-o", out, *SMALL, *arguments, cwd=out.parent)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_synth_writes_the_renderers_clips(tmp_path: Path) -> None:
    out = tmp_path / "made" / "clips"
    out.parent.mkdir()
    result = _synth(out, "--clips", "2", "--seed", "5", "--fps", "12")
    assert (result.returncode, result.stdout) == (0, f"{out}\n"), result.stderr
    lines = [json.loads(line) for line in (out / "attributes.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["clip-000000.mp4", "clip-000001.mp4"]
    assert sorted(path.name for path in out.iterdir()) == ["attributes.jsonl", *(line["file"] for line in lines)]
    for line in lines:
        clip = render_clip(line["seed"], frames=4, height=64, width=48, fps=12)
        info, decoded = video.probe(out / line["file"]), video.read(out / line["file"])
        assert (info.frames, info.height, info.width, info.fps) == (4, 64, 48, 12)
        assert line["attributes"] == clip.attributes
        # What the encoder loses, no more: colour is stored at half the resolution.
        assert np.abs(decoded.astype(int) - clip.frames.astype(int)).mean() < 4
    assert lines[0]["seed"] != lines[1]["seed"]


def test_synth_is_deterministic_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert _synth(whole, "--clips", "4").returncode == 0
    assert _synth(parts, "--clips", "2").returncode == 0
    (parts / "attributes.jsonl").unlink()
    before = (parts / "clip-000000.mp4").stat().st_mtime_ns
    summary = json.loads(_synth(parts, "--clips", "4", "--jobs", "2", "--json").stdout)
    assert (summary["clips"], summary["rendered"], summary["kept"]) == (4, 2, 2)
    assert (parts / "clip-000000.mp4").stat().st_mtime_ns == before
    assert _contents(whole) == _contents(parts)
    # Another seed gives other figures, also beyond the first clips of this one.
    assert _synth(tmp_path / "other", "--clips", "4", "--seed", "1").returncode == 0
    assert not set(_contents(whole).values()) & set(_contents(tmp_path / "other").values())


def test_synth_does_not_mix_settings(tmp_path: Path) -> None:
    out = tmp_path / "clips"
    assert _synth(out, "--clips", "1").returncode == 0
    before = _contents(out)
    assert_refused(_synth(out, "--clips", "2", "--seed", "1"), 1, "clip-000000.mp4", "other settings")
    assert _contents(out) == before
    assert _synth(out, "--clips", "1", "--seed", "1", "--overwrite").returncode == 0
    assert _contents(out).keys() == before.keys() and _contents(out) != before


def test_synth_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_refused(_synth(tmp_path / "file"), 1, "file")


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("signum, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_synth_interrupted_leaves_whole_clips(tmp_path: Path, jobs: str, signum: int, code: int) -> None:
    out = tmp_path / "clips"
    log = tmp_path / "log"
    with started(
        "data", "synth", "-o", out, "--clips", "1000", *SMALL, "--jobs", jobs, cwd=tmp_path, log=log
    ) as process:
        wait_until((out / "clip-000003.mp4").exists, process, log)
        process.send_signal(signum)
        assert process.wait(timeout=60) == code, log.read_text()
    assert "Traceback" not in log.read_text() and "error" not in log.read_text()
    left = sorted(path.name for path in out.iterdir())
    assert 4 <= len(left) < 1000 and all(name.startswith("clip-") for name in left)
    assert {video.probe(out / name).frames for name in left} == {4}


# ---- bench ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bench_suites(tmp_path: Path, tiny: Path) -> None:
    sizes = ("--frames", "2", "--latent-size", "8x4", "--repeats", "2")
    result = run("bench", "step", "--model", tiny, *sizes, "-o", "step.json", "--plots", "plots", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "measuring step, 2 repeats: time and memory depend on" in result.stderr and "calls: 100%" in result.stderr
    on_stdout = run("bench", "step", "--model", tiny, *sizes, "--json", "-q", cwd=tmp_path)
    (suite,) = json.loads(on_stdout.stdout)["suites"]
    assert (suite["suite"], on_stdout.stderr) == ("step", "")
    assert (
        "ours" in result.stdout
        and "median (s)" in result.stdout
        and "literal" in result.stdout
        and "error" not in result.stderr
    )
    (measured,) = json.loads((tmp_path / "step.json").read_text())["suites"]
    assert [measured["input"][name] for name in ("frames", "height", "width")] == [2, 8, 4]
    assert measured["repeats"] == 2 and measured["hardware"]
    assert (tmp_path / "plots" / "step.png").stat().st_size > 1000
    for option, name in (("-o", "step.json"), ("--plots", "plots")):
        again = run("bench", "step", "--model", tiny, option, name, cwd=tmp_path)
        assert_refused(again, 1, "step", "exists")


@pytest.mark.slow
def test_several_suites_in_markdown(tmp_path: Path, tiny: Path) -> None:
    result = run(
        *("bench", "clip", "vae", "--model", tiny, "--repeats", "1", "--markdown", "-o", "both.json"), cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert [suite["suite"] for suite in json.loads((tmp_path / "both.json").read_text())["suites"]] == ["vae", "clip"]
    assert result.stdout.startswith("### VAE: tiny") and "| decode 1 |" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stpe",), "unknown suite 'stpe'"),
        (("step", "--repeats", "0"), "--repeats"),
        (("scale", "--model", "mini-latent"), "bench scale"),
        (("video", "--model", "mini-latent", "--latent-size", "8x8"), "--latent-size"),
    ],
)
def test_bench_refuses(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    assert_refused(run("bench", "--quiet", *arguments, cwd=tmp_path), 2, said)
