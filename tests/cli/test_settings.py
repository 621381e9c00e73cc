"""Settings: flag > FASHIONFLOW_* > --config file > model > default, and `config show`, which tells them apart."""

import json
from pathlib import Path

import pytest
from command import assert_refused, run

from fashionflow_core.config import SCHEDULERS, ModelConfig
from fashionflow_core.store.registry import ASSETS


def shown(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> dict[str, tuple[object, str]]:
    result = run("config", "show", "--json", *arguments, cwd=cwd, env=env)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return {name: (entry["value"], entry["source"]) for name, entry in json.loads(result.stdout).items()}


def test_each_setting_says_where_it_comes_from(tmp_path: Path) -> None:
    """Every source alone, then each one before all the weaker ones."""
    (tmp_path / "shop.yaml").write_text("steps: 25\nfit: crop\nseed: 3\nposter: yes\ndecode-chunk: 2\n")
    mini = ModelConfig.load(ASSETS / "mini-latent")
    plain = shown("--model", "mini-latent", cwd=tmp_path)
    assert plain["steps"] == (mini.steps, "model mini-latent")
    assert plain["size"] == (f"{mini.height}x{mini.width}", "model mini-latent")
    assert plain["seed"] == (0, "default") and plain["model"] == ("mini-latent", "flag --model")
    assert plain["out"] == (None, "default")
    assert shown(cwd=tmp_path)["model"] == ("mini", "default")

    from_file = shown("--model", "mini-latent", "--config", "shop.yaml", cwd=tmp_path)
    assert from_file["steps"] == (25, "file shop.yaml")
    assert from_file["fit"] == ("crop", "file shop.yaml")
    assert from_file["poster"] == (True, "file shop.yaml")
    assert from_file["frames"] == (mini.frames, "model mini-latent")

    environment = {"FASHIONFLOW_STEPS": "30", "FASHIONFLOW_CONFIG": "shop.yaml", "FASHIONFLOW_SEED": "9"}
    mixed = shown("--steps", "35", cwd=tmp_path, env=environment)
    assert mixed["steps"] == (35, "flag --steps")
    assert mixed["seed"] == (9, "environment FASHIONFLOW_SEED")
    assert mixed["decode-chunk"] == (2, "file shop.yaml")


def test_a_table_for_people(tmp_path: Path) -> None:
    result = run("config", "show", "--guidance-interval", "0.2,0.8", "--background", "red", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in result.stdout.splitlines()}
    assert rows["guidance-interval"] == ["0.2,0.8", "flag --guidance-interval"]
    assert rows["background"] == ["255,0,0", "flag --background"]
    assert rows["quiet"] == ["false", "default"] and rows["codec"] == ["-", "default"]


def test_underscores_lists_and_the_shared_file_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("guidance_interval: [0.1, 0.9]\nmax_megapixels: 80\nsize: 320x256\n")
    found = shown("--config", "a.yaml", cwd=tmp_path)
    assert found["guidance-interval"] == ([0.1, 0.9], "file a.yaml")
    assert found["max-megapixels"] == (80.0, "file a.yaml")
    assert found["size"] == ([320, 256], "file a.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert shown("--config", "empty.yaml", cwd=tmp_path) == shown(cwd=tmp_path)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("stepz: 3\n", 2, ["bad.yaml", "stepz", "unknown option"]),
        ("steps: many\n", 2, ["bad.yaml", "steps", "many"]),
        ("steps: 0\n", 2, ["bad.yaml", "steps", "0"]),
        ("steps:\n", 2, ["bad.yaml", "steps", "needs a value"]),
        ("steps: {a: 1}\n", 2, ["bad.yaml", "steps"]),
        ("steps: true\n", 2, ["bad.yaml", "steps", "True"]),
        ("poster: 3\n", 2, ["bad.yaml", "poster", "true or false"]),
        ("scheduler: pndm\n", 2, ["bad.yaml", "scheduler", "pndm", "unipc"]),
        ("background: nocolour\n", 2, ["bad.yaml", "background", "nocolour"]),
        ("guidance-interval: 3\n", 2, ["bad.yaml", "guidance-interval", "LOW,HIGH"]),
        ("config: other.yaml\n", 2, ["bad.yaml", "config", "unknown option"]),
        ("- steps\n", 2, ["bad.yaml", "mapping"]),
        ("steps: [1\n", 1, ["bad.yaml", "YAML"]),
        ("!!python/object/apply:os.system ['touch sprung']\n", 1, ["bad.yaml", "YAML"]),
    ],
)
def test_a_bad_file_is_named_in_one_line(tmp_path: Path, text: str, code: int, words: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert_refused(run("generate", "none.jpg", "--config", "bad.yaml", cwd=tmp_path), code, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_a_missing_file_and_a_nearby_name(tmp_path: Path) -> None:
    assert_refused(run("config", "show", "--config", "none.yaml", cwd=tmp_path), 1, "none.yaml", "no such file")
    (tmp_path / "near.yaml").write_text("schedular: ddim\n")
    result = run("config", "show", "--config", "near.yaml", cwd=tmp_path)
    assert_refused(result, 2, "schedular")
    assert "did you mean scheduler?" in result.stderr


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    result = run("config", "show", cwd=tmp_path, env={"FASHIONFLOW_STEPS": "few"})
    assert_refused(result, 2, "--steps", "FASHIONFLOW_STEPS")


def test_every_choice_of_the_core_is_offered(tmp_path: Path) -> None:
    """What the help lists is what the core knows: a scheduler that is added there is an option here."""
    for name in SCHEDULERS:
        assert shown("--scheduler", name, cwd=tmp_path)["scheduler"] == (name, "flag --scheduler")
