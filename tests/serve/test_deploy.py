"""The compose file and the systemd unit: they parse, and their commands have options that exist. Neither is run."""

import configparser
import shlex
from pathlib import Path

import typer
import yaml
from places import ROOT

from fashionflow_cli.main import app

DEPLOY = ROOT / "deploy"
FLAGS = {
    flag
    for parameter in typer.main.get_command(app).commands["serve"].params  # type: ignore[attr-defined]
    for flag in parameter.opts
}


def check(words: list[str]) -> None:
    assert words[0] == "serve"
    assert {word for word in words if word.startswith("--")} <= FLAGS
    assert "--api-key-file" in words


def test_the_compose_file() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    stages = (DEPLOY.parent / "Dockerfile").read_text(encoding="utf-8")
    found = yaml.safe_load(text)
    assert set(found["services"]) == {"cpu", "gpu"} and "Not run" in text
    for name, service in found["services"].items():
        check(service["command"])
        assert service["profiles"] == [name] and f"AS {service['build']['target']}\n" in stages
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert {volume.split(":")[0] for volume in service["volumes"]} == set(found["volumes"])
        assert service["secrets"] == list(found["secrets"])
    assert found["services"]["gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
    assert "serve]" in stages


def test_the_systemd_unit() -> None:
    text = (DEPLOY / "fashionflow.service").read_text(encoding="utf-8")
    unit = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment]
    unit.read_string(text)
    assert set(unit.sections()) == {"Unit", "Service", "Install"} and "Not run" in text
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).is_absolute() and Path(program).name == "fashionflow"
    check(words)
    # A stopping server gives its videos half a minute.
    assert int(unit["Service"]["TimeoutStopSec"]) > 30
