"""Which models there are: names, folders, what is said about them, and what is said when there is none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import build_tiny_model

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.store import registry
from fashionflow_core.store.folder import atomic_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own `FASHIONFLOW_HOME`; returns its folder of models."""
    monkeypatch.setenv("FASHIONFLOW_HOME", str(tmp_path / "home"))
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    return models


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def _imported(folder: Path, purpose: str = "sells shoes") -> Path:
    folder.mkdir()
    config = ModelConfig(
        name=folder.name,
        purpose=purpose,
        height=64,
        width=48,
        frames=4,
        fps=25,
        latents_mean=(0.0,),
        latents_std=(1.0,),
    )
    (folder / "model.json").write_text(config.to_json())
    return folder


def test_home_follows_the_environment(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    assert registry.models_home() == home
    monkeypatch.delenv("FASHIONFLOW_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert registry.models_home() == tmp_path / "cache" / "fashionflow" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert registry.models_home() == Path.home() / ".cache" / "fashionflow" / "models"
    monkeypatch.setenv("FASHIONFLOW_HOME", "~/elsewhere")
    assert registry.models_home() == Path.home() / "elsewhere" / "models"


def test_known_models_are_listed_first(home: Path):
    _imported(home / "shoes")
    broken = home / "broken"
    broken.mkdir()
    (broken / "model.json").write_text("{")
    (home / ".published.x7").mkdir()
    (home / ".published.x7" / "model.json").write_text("{}")  # an import under way
    (home / "notes").mkdir()  # no model
    entries = registry.list_models()
    names = [entry.name for entry in entries]
    assert names == ["mini", "mini-latent", "published", "base", "parser", "broken", "shoes"]
    named = {entry.name: entry for entry in entries}
    assert not named["published"].installed and named["published"].path is None
    assert named["shoes"] == registry.ModelEntry("shoes", home / "shoes", True, "sells shoes")
    assert "cannot be used" in named["broken"].summary


def test_an_imported_model_is_found_by_name(home: Path):
    folder = _imported(home / "published")
    entry = next(entry for entry in registry.list_models() if entry.name == "published")
    assert entry.installed and entry.path == folder
    assert registry.find("published") == folder


def test_a_folder_is_found_as_it_is_named(tmp_path: Path, home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch):
    assert registry.find(str(tiny)) == tiny
    # A name stands before a folder of that name; ./name means the folder.
    _imported(home / "shoes")
    here = tmp_path / "here"
    here.mkdir()
    _imported(here / "shoes")
    _imported(here / "hats")
    monkeypatch.chdir(here)
    assert registry.find("shoes") == home / "shoes"
    assert registry.find("./shoes") == Path("shoes")
    assert registry.find("hats") == Path("hats")


def test_the_bundled_model_comes_with_the_package(monkeypatch: pytest.MonkeyPatch, home: Path, tiny: Path):
    known = registry.KnownModel(summary="bundled", source="here", bundled=tiny)
    monkeypatch.setitem(registry.KNOWN, "mini-latent", known)
    _imported(home / "mini-latent")
    assert registry.find("mini-latent") == tiny
    assert registry.show("mini-latent")["source"] == "here"
    assert registry.list_models()[1] == registry.ModelEntry("mini-latent", tiny, True, "bundled")


def test_errors_say_what_to_do(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    _imported(home / "shoes")
    with pytest.raises(FashionFlowError, match="'publishd' is neither a known model nor a folder") as error:
        registry.find("publishd")
    hint = str(error.value.hint)
    assert "did you mean published?" in hint and all(name in hint for name in ("mini-latent", "shoes"))
    with pytest.raises(FashionFlowError, match="''"):
        registry.find("")
    with pytest.raises(FashionFlowError, match="published is not installed") as error:
        registry.find("published")
    assert "fashionflow models pull published (checkpoint=FashionFlow_checkpoint.pth)" in str(error.value.hint)
    with pytest.raises(FashionFlowError, match=r"is not a model folder \(no model.json\)"):
        registry.find(str(tmp_path))
    monkeypatch.setitem(registry.KNOWN, "mini-latent", registry.KnownModel("", "", bundled=tmp_path / "gone"))
    with pytest.raises(FashionFlowError, match="mini-latent is missing from this installation"):
        registry.find("mini-latent")


def test_show_counts_what_the_networks_hold(tiny: Path):
    from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter

    shown = registry.show(str(tiny))
    unet = FashionFlowUNet.from_pretrained(tiny, subfolder="unet")
    adapter = ImageContextAdapter.from_pretrained(tiny, subfolder="adapter")
    counts = shown["parameters"]
    for name, network in (("unet", unet), ("adapter", adapter)):
        assert isinstance(network, torch.nn.Module)
        assert counts[name] == sum(parameter.numel() for parameter in network.parameters())
    assert counts["total"] == sum(counts[part] for part in ("unet", "adapter", "vae", "image_encoder"))
    assert shown["size_bytes"] == sum(path.stat().st_size for path in tiny.rglob("*") if path.is_file())
    assert (shown["path"], shown["source"]) == (str(tiny), f"folder {tiny}")
    written = json.loads((tiny / "model.json").read_text())
    assert json.loads(json.dumps(shown["config"])) == written


def test_show_names_a_broken_file(home: Path):
    folder = _imported(home / "torn")
    (folder / "unet").mkdir()
    for content in (b"", b"not safetensors", (10**9).to_bytes(8, "little") + b"{}"):
        (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(content)
        with pytest.raises(FashionFlowError, match=r"diffusion_pytorch_model\.safetensors: not a safetensors file"):
            registry.show("torn")


def test_remove_deletes_a_model_and_nothing_else(tmp_path: Path, home: Path, tiny: Path):
    shutil.copytree(tiny, home / "shoes")
    outside = tmp_path / "outside"
    shutil.copytree(tiny, outside)
    # Links inside of a model, and a model that is a link, are removed; what they lead to is not.
    (home / "shoes" / "link").symlink_to(outside)
    (home / "linked").symlink_to(outside)
    size = sum(path.stat().st_size for path in tiny.rglob("*") if path.is_file())
    assert registry.remove("shoes") == (home / "shoes", size)
    assert registry.remove("linked") == (home / "linked", 0)
    assert list(home.iterdir()) == [] and len(list(outside.iterdir())) == len(list(tiny.iterdir()))
    # A damaged one is a model still.
    (home / "torn" / "unet").mkdir(parents=True)
    assert registry.remove("torn")[1] == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mini-latent", "is part of fashionflow"),
        ("shos", "is not installed"),
        ("published", "is not installed"),
        ("notes", "not a model folder"),
        (".hidden", "cannot be the name"),
        ("..", "cannot be the name"),
        ("", "cannot be the name"),
        ("../models/shoes", "cannot be the name"),
        ("shoes/unet", "cannot be the name"),
    ],
)
def test_remove_refuses_the_rest(home: Path, name: str, reason: str):
    _imported(home / "shoes")
    _imported(home / ".hidden")
    (home / "notes").mkdir()
    before = sorted(home.rglob("*"))
    with pytest.raises(FashionFlowError, match=reason) as error:
        registry.remove(name)
    assert error.value.hint
    assert sorted(home.rglob("*")) == before


def test_remove_takes_no_absolute_path(tmp_path: Path, home: Path):
    with pytest.raises(FashionFlowError, match="cannot be the name"):
        registry.remove(str(_imported(tmp_path / "mine")))
    assert (tmp_path / "mine").is_dir()


def test_registry_needs_no_torch(tiny: Path):
    code = (
        "import sys; from fashionflow_core.store import registry; registry.list_models(); "
        f"registry.show({str(tiny)!r}); heavy = {{'torch', 'diffusers', 'transformers'}} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_model_folder_keeps_no_path_of_the_machine_that_made_it(tmp_path: Path):
    with atomic_folder(tmp_path / "made") as made:
        (made / "unet").mkdir()
        (made / "unet" / "config.json").write_text('{"_name_or_path": "/home/me/base/unet", "heads": 4}')
        (made / "model.json").write_text("{}")
    assert json.loads((tmp_path / "made" / "unet" / "config.json").read_text()) == {"heads": 4}
