"""The Dockerfile's own steps, run in folders that stand for the images: no container engine is needed.

What is not shown: the base image and the daemon. Every COPY, RUN, ENV, ENTRYPOINT and CMD of the file is executed as it
stands, so that a renamed folder, a file left out of the context or a missing dependency fails here.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from places import ROOT

from fashionflow_core import video

Step = tuple[str, str]


@dataclass
class Stage:
    """One `FROM ... AS name` and its steps, those of the stage it builds on first."""

    base: str
    steps: list[Step] = field(default_factory=list)


def read_dockerfile() -> dict[str, Stage]:
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in (line.strip() for line in text.splitlines()):
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            inherited = list(stages[base].steps) if base in stages else []
            current = stages[name] = Stage(base, inherited)
        elif current is not None:
            current.steps.append((word, rest))
    return stages


def context_files() -> list[Path]:
    """What `COPY . .` sees: tracked and new files that .dockerignore lets through."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    rules = [rule for rule in (ROOT / ".dockerignore").read_text().splitlines() if rule and rule[0] != "#"]
    kept = []
    for name in filter(None, listed):
        ignored = False
        parts = [*map(str, [*Path(name).parents][:-1]), name]
        for rule in rules:
            pattern = rule.removeprefix("!")
            if any(fnmatch.fnmatch(part, pattern) for part in parts):
                ignored = not rule.startswith("!")
        if not ignored and (ROOT / name).is_file():
            kept.append(Path(name))
    return kept


class Image:
    """A folder in the place of an image's root, and the environment that its steps have made."""

    def __init__(self, root: Path, arguments: dict[str, str]) -> None:
        self.root, self.directory, self.arguments = root, root, arguments
        self.entrypoint: list[str] = []
        self.command: list[str] = []
        python = root / "python"
        subprocess.run([sys.executable, "-m", "venv", str(python)], check=True)
        self.env = {**os.environ, "PATH": f"{python / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        self.env.pop("PYTHONPATH", None)

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/") if name.startswith("/") else self.directory / name

    def execute(self, step: Step, others: "dict[str, Image]") -> None:
        word, rest = step
        if word == "WORKDIR":
            self.directory = self.path(rest)
            self.directory.mkdir(parents=True, exist_ok=True)
        elif word == "ARG":
            name, _, default = rest.partition("=")
            self.env[name] = self.arguments.get(name, default)
        elif word == "ENV":
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                self.env[name] = str(self.path(value)) if value.startswith("/") else value
        elif word == "COPY":
            self._copy(shlex.split(rest), others)
        elif word == "RUN":
            subprocess.run(["sh", "-ec", rest], cwd=self.directory, env=self.env, check=True)
        elif word == "ENTRYPOINT":
            self.entrypoint = json.loads(rest)
        elif word == "CMD":
            self.command = json.loads(rest)
        else:
            raise AssertionError(f"this test does not know {word}: teach it, or leave it out of the Dockerfile")

    def _copy(self, words: list[str], others: "dict[str, Image]") -> None:
        if words[0].startswith("--from="):
            shutil.copytree(others[words[0].removeprefix("--from=")].path(words[1]), self.path(words[2]))
            return
        *sources, target = words
        for source in sources:
            for file in context_files():
                if source == "." or file.is_relative_to(source):
                    place = self.path(target) / file
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / file, place)

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """What `docker run IMAGE ARGUMENTS` does, with `cwd` mounted on the last WORKDIR."""
        command = [*self.entrypoint, *(arguments or self.command)]
        # Not found through PATH of this process, but of the image.
        program = shutil.which(command[0], path=self.env["PATH"])
        assert program and Path(program).is_relative_to(self.root), f"{command[0]} is not installed in the image"
        return subprocess.run(
            [program, *command[1:]], cwd=cwd, env=self.env, capture_output=True, text=True, timeout=300, check=False
        )


def test_the_context_is_what_the_wheel_is_made_of() -> None:
    files = {str(path) for path in context_files()}
    assert {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "NOTICE"} <= files
    assert "fashionflow_core/assets/mini-latent/model.json" in files
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for package in packages["packages"]:
        assert f"{package}/__init__.py" in files, f"{package} is left out of the image"
    assert not [name for name in files if name.startswith(("tests", "docs", "benchmarks/results", "scripts"))]


def test_both_images_install_the_same_wheel_and_start_the_command() -> None:
    stages = read_dockerfile()
    assert list(stages)[-1] == "cpu", "a plain docker build makes the last stage"
    for name in ("cpu", "cuda"):
        steps = stages[name].steps
        (install,) = [rest for word, rest in steps if word == "RUN" and "dist/*.whl" in rest]
        assert "--constraint constraints.txt" in install
        assert ("ENTRYPOINT", '["fashionflow"]') in steps
    # The CPU image must not bring CUDA: its torch comes before anything that would ask PyPI for one.
    runs = [rest for word, rest in stages["cpu"].steps if word == "RUN"]
    assert "TORCH_CPU" in runs[-2] and "dist/*.whl" in runs[-1]


def test_the_images_hold_the_extras_that_the_docs_promise() -> None:
    page = (ROOT / "docs" / "guides" / "install.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| container |")]
    cpu, cuda = row.split("`--target cuda`")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    stages = read_dockerfile()
    for name, promise in (("cpu", cpu), ("cuda", cuda)):
        promised = {word for word in re.findall(r"`([^`]+)`", promise) if word in known}
        (install,) = [rest for word, rest in stages[name].steps if word == "RUN" and "dist/*.whl" in rest]
        assert set(re.findall(r"\[([\w,-]+)\]", install)[-1].split(",")) == promised
        assert {"heif", "onnx"} <= promised and ("trt" in promised) == (name == "cuda")


@pytest.mark.slow
def test_the_cpu_image_makes_a_video(tmp_path: Path) -> None:
    stages = read_dockerfile()
    images: dict[str, Image] = {}
    for name in ("wheel", "cpu"):
        (tmp_path / name).mkdir()
        # The machine that runs this test decides where its packages come from.
        images[name] = Image(tmp_path / name, {"TORCH_CPU": ""})
        for step in stages[name].steps:
            images[name].execute(step, images)
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(ROOT / "examples" / "dress.jpg", work)
    assert "Usage: fashionflow" in images["cpu"].run(cwd=work).stdout
    held = [str(images["cpu"].root / "python" / "bin" / "python"), "-c"]
    held.append("import onnxruntime, onnxscript, pillow_heif, fashionflow_export")
    subprocess.run(held, cwd=work, env=images["cpu"].env, check=True)
    made = images["cpu"].run(
        "generate", "dress.jpg", "--model", "mini-latent", "--steps", "2", "--frames", "8", cwd=work
    )
    assert (made.returncode, made.stdout) == (0, "dress.mp4\n"), made.stderr
    assert video.probe(work / "dress.mp4").frames == 8
    assert images["cpu"].env["FASHIONFLOW_HOME"].startswith(str(tmp_path)), "models that are pulled stay in the cache"
