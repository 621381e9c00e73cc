"""`models pull parser`: a SegFormer for clothes from the hub, and what motion models make of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command import assert_refused
from command import run_process as run
from hub_imitation import Hub, files_in, imitated_hub, nothing_installed, surroundings
from tiny import seeded
from tiny_motion import build_tiny_motion_model, paper_doll

from fashionflow_core import pipeline
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images.parts import PARTS
from fashionflow_core.models.clothes_parser import ClothesParser, check_labels, merged
from fashionflow_core.models.parser import ParsedPhoto
from fashionflow_core.motion.matte import find_matte
from fashionflow_core.store import registry
from fashionflow_core.store.folder import network_damage

LABELS = ["Background", "Hat", "Hair", "Sunglasses", "Upper-clothes", "Skirt", "Pants", "Dress", "Belt", "Left-shoe"]
LABELS += ["Right-shoe", "Face", "Left-leg", "Right-leg", "Left-arm", "Right-arm", "Bag", "Scarf"]
REPO = registry.NETWORKS_BESIDE["parser"].parts["."].repo


def build_tiny_segformer(folder: Path, labels: list[str] = LABELS) -> Path:
    """A SegFormer of a few thousand random weights, saved as its authors' is."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[4, 4, 8, 8],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
        id2label=dict(enumerate(labels)),
        label2id={name: number for number, name in enumerate(labels)},
    )
    with seeded(0):
        SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_segformer(tmp_path_factory.mktemp("segformer"))


@pytest.fixture
def hub(segformer: Path) -> Iterator[Hub]:
    with imitated_hub() as hub:
        hub.add(REPO, files_in(segformer) | {"pytorch_model.bin": b"pickle", "README.md": b"licence"})
        yield hub


@pytest.fixture
def env(tmp_path: Path, hub: Hub) -> dict[str, str]:
    return surroundings(hub, tmp_path)


@pytest.mark.slow
def test_pulled_shown_and_removed(
    tmp_path: Path, hub: Hub, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASHIONFLOW_HOME", env["FASHIONFLOW_HOME"])
    with pytest.raises(FashionFlowError, match="parser: not installed") as caught:
        registry.show("parser")
    assert caught.value.hint == "fashionflow models pull parser"
    done = run("models", "pull", "parser", cwd=tmp_path, env=env)
    folder = tmp_path / "home" / "models" / "parser"
    assert (done.returncode, done.stdout) == (0, f"{folder}\n"), done.stderr
    assert "non-commercial" in done.stderr
    kept = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "source.json"}
    assert {path.name for path in folder.iterdir()} == kept
    shown = registry.show("parser")
    assert REPO in shown["source"] and "non-commercial" in shown["licence"] and shown["parameters"]["parser"] > 1000
    with pytest.raises(FashionFlowError, match="parser: not a model"):
        registry.find("parser")
    assert network_damage(folder) == []
    (folder / "model.safetensors").write_bytes(b"")
    assert network_damage(folder)
    listed = {one["name"]: one for one in json.loads(run("models", "list", "--json", cwd=tmp_path, env=env).stdout)}
    assert listed["parser"]["state"] == "damaged"
    before = len(hub.requests)  # all of it is in the cache
    offline = env | {"HF_HUB_OFFLINE": "1"}
    assert run("models", "pull", "parser", "--overwrite", "-q", cwd=tmp_path, env=offline).returncode == 0
    assert len(hub.requests) == before and network_damage(folder) == []
    registry.remove("parser")
    assert not folder.exists() and registry.pulled_parser() is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["labels", "architecture", "pickle"])
def test_what_is_no_such_network_is_refused(
    tmp_path: Path, hub: Hub, env: dict[str, str], segformer: Path, kind: str
) -> None:
    good = files_in(segformer)
    config = json.loads(good["config.json"])
    config["id2label"]["4"] = "Cape"
    files, says = {
        "labels": ({**good, "config.json": json.dumps(config).encode()}, "'cape'"),
        "architecture": ({"config.json": b'{"model_type": "bert"}', "model.safetensors": b""}, "not a SegFormer"),
        "pickle": ({"config.json": good["config.json"], "pytorch_model.bin": b"x"}, "safetensors"),
    }[kind]
    hub.repos[REPO] = {}
    hub.add(REPO, files)
    assert_refused(run("models", "pull", "parser", "-q", cwd=tmp_path, env=env), 1, says)
    assert nothing_installed(tmp_path)


def test_labels_are_read_by_name() -> None:
    assert check_labels({"1": "Hair", "0": "Background", "2": "Face", "10": "right_arm", "3": "Left-arm"}, "x")[4] == (
        "right-arm"
    )
    with pytest.raises(FashionFlowError, match="missing label 'face'"):
        check_labels({0: "Background", 1: "Hair"}, "x")


def test_clothes_become_parts() -> None:
    """Sleeves and the waist are the model's own parser's; sides of arms are those of the picture."""
    names = [name.lower() for name in LABELS]
    shares = np.zeros((len(names), 4, 6), np.float32)
    shown = np.full((4, 6), names.index("background"))
    shown[0, 1:5] = names.index("face")
    shown[1, 1:5] = names.index("dress")
    shown[2, 1:5] = names.index("dress")
    shown[1:3, 0], shown[1:3, 5] = names.index("right-arm"), names.index("left-arm")
    shown[3, 2:4] = names.index("left-shoe")
    np.put_along_axis(shares, shown[None], 1, axis=0)
    own = np.zeros((len(PARTS), 4, 6), np.float32)
    own[PARTS.index("upper"), 1], own[PARTS.index("lower"), 2:] = 1, 1
    own[:, 1, 1], own[PARTS.index("arm_left"), 1, 1] = 0, 1  # a sleeve
    parts = merged(shares, names, own)
    assert np.allclose(parts.sum(axis=0), 1, atol=1e-5)
    label = np.array(PARTS)[parts.argmax(axis=0)]
    assert label[0].tolist() == ["background", *["head"] * 4, "background"]
    assert label[1].tolist() == ["arm_left", "arm_left", *["upper"] * 3, "arm_right"]
    assert label[2].tolist() == ["arm_left", *["lower"] * 4, "arm_right"]
    assert label[3, 2] == "shoes"
    # One arm alone is on the side of the figure where it is.
    shares[names.index("left-arm")] = 0
    shares[names.index("background"), 1:3, 5] = 1
    assert merged(shares, names, own)[PARTS.index("arm_left"), 1, 0] == 1


def test_the_pipeline_prefers_it(tmp_path: Path, segformer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASHIONFLOW_HOME", str(tmp_path))
    model = build_tiny_motion_model(tmp_path / "model")
    plain = pipeline.load(model, device="cpu")
    assert plain.motion is not None and plain.motion.clothes is None
    folder = registry.models_home() / "parser"
    folder.mkdir(parents=True)
    for name, content in files_in(segformer).items():
        (folder / name).write_bytes(content)
    (folder / "source.json").write_text('{"repo": "a/b", "commit": "c", "files": {}}')
    pipe = pipeline.load(model, device="cpu")
    assert pipe.motion is not None and isinstance(pipe.motion.clothes, ClothesParser)
    photo, _ = paper_doll()
    parsed = pipe.motion.parse(photo)
    assert parsed.matte.shape == (160, 128) and parsed.parts.shape == (len(PARTS), 160, 128)
    assert not np.allclose(parsed.matte, plain.motion.parse(photo).matte)
    frames = [next(iter(pipe.generate(photo, frames=2).frames)) for _ in range(2)]
    assert (frames[0] == frames[1]).all()  # whatever random weights say of the doll, it is drawn
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(FashionFlowError, match="cannot be loaded"):
        pipeline.load(model, device="cpu")


def test_a_good_network_gives_a_trusted_matte(segformer: Path) -> None:
    """The refinement and the trust test behind it are the same as for the model's own parser."""
    photo, mask = paper_doll(320, 256)
    parser = ClothesParser.load(segformer, torch.device("cpu"))
    names, shares = parser.names, np.full((len(LABELS), 320, 256), 0.001, np.float32)
    rows = np.arange(320)[:, None] / 320
    for name, inside in (
        ("background", mask == 0),
        ("face", (mask > 0) & (rows < 0.2)),
        ("dress", (mask > 0) & (rows >= 0.2) & (rows < 0.6)),
        ("left-leg", (mask > 0) & (rows >= 0.6)),
    ):
        shares[names.index(name), inside] = 1
    shares /= shares.sum(axis=0)
    parser.shares = lambda _: shares  # type: ignore[method-assign]
    own = np.zeros((len(PARTS), 320, 256), np.float32)
    own[PARTS.index("upper")] = 1
    found = find_matte(photo, lambda given: parser.parse(given, lambda _: ParsedPhoto(mask, own)))
    assert found.trusted and found.parts is not None
    both = ((found.alpha > 0.5) & (mask > 0)).sum() / ((found.alpha > 0.5) | (mask > 0)).sum()
    assert both > 0.95
    assert PARTS[int(found.parts[130, 128])] == "upper" and PARTS[int(found.parts[45, 128])] == "head"
