"""Model folders of strangers: impossible sizes, code and files from elsewhere are refused before a network is built."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
from engine_folders import replace_file, tiny_engines
from onnx.external_data_helper import set_external_data
from tiny import build_tiny_model
from transformers import CLIPVisionModel

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.models import FashionFlowUNet
from fashionflow_core.pipeline import load
from fashionflow_core.runtimes import lora
from fashionflow_core.store.published import read_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def hostile(folder: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image encoder's library is not asked to open anything."""

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("the library was asked to open it")

    monkeypatch.setattr(CLIPVisionModel, "from_pretrained", opened)


def _set(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


HUGE = 10**30
CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a wide encoder": ("image_encoder/config.json", {"hidden_size": 100_000}, "values, the weights have"),
    "many input channels": ("image_encoder/config.json", {"num_channels": 100_000}, "values, the weights have"),
    "1e5 layers": ("image_encoder/config.json", {"num_hidden_layers": 100_000}, "num_hidden_layers is 1e+05"),
    "no finite number": ("image_encoder/config.json", {"layer_norm_eps": 1e999}, "JSON"),
    "a huge U-Net": ("unet/config.json", {"out_channels": 100_000}, "values, the weights have"),
    "a deep U-Net": ("unet/config.json", {"layers_per_block": 1000}, "layers_per_block is 1e+03"),
    "many levels": ("unet/config.json", {"block_out_channels": [32] * 1000}, "block_out_channels has 1000 entries"),
    "many tokens": ("adapter/config.json", {"clip_tokens": 100_000}, "values, the weights have"),
    "a wide VAE": ("vae/config.json", {"block_out_channels": [32, 100_000]}, "values, the weights have"),
    "1e9 timesteps": ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "timesteps is 1e+09"),
    "30 digits": ("scheduler/scheduler_config.json", {"beta_start": HUGE}, "beta_start is a number of many digits"),
    "a huge picture": ("feature_extractor/preprocessor_config.json", {"size": {"height": 10**9}}, "height is 1e+09"),
    "1e9 frames": ("model.json", {"frames": 10**9}, "frames must be at most 10,000"),
    "1e9 steps": ("model.json", {"steps": 10**9}, "steps must be at most 10,000"),
    "1e9 pixels": ("model.json", {"height": 10**9}, "height must be at most 8,192"),
    "1e9 frames a second": ("model.json", {"fps": 1e9}, "fps must be at most 1,000"),
    "code of its own": ("image_encoder/config.json", {"auto_map": {"AutoModel": "a--b.C"}}, "auto_map loads code"),
    "a kernel": ("image_encoder/config.json", {"attn_implementation": "kernels-community/x"}, "loads code"),
    "a hidden kernel": ("image_encoder/config.json", {"_attn_implementation": "a/b"}, "loads code"),
    "a quantizer": ("image_encoder/config.json", {"quantization_config": {"quant_method": "x"}}, "loads code"),
}


@pytest.mark.parametrize(("file", "values", "says"), CONFIGS.values(), ids=CONFIGS)
def test_hostile_configs(hostile: Path, request: pytest.FixtureRequest, file: str, values: dict[str, Any], says: str):
    if file.startswith("image_encoder"):
        request.getfixturevalue("unopened")
    _set(hostile / file, **values)
    with pytest.raises(FashionFlowError) as caught:
        load(hostile, device="cpu")
    assert says in caught.value.message and file.split("/")[0] in caught.value.message


INDEXES = {
    "a parent folder": {"w": "../../other/model.safetensors"},
    "a full path": {"w": "/etc/passwd"},
    "a pickle": {"w": "pytorch_model.bin"},
    "a file that is not there": {"w": "model-00001-of-00002.safetensors"},
    "a number": {"w": 7},
    "a list": ["model.safetensors"],
}


@pytest.mark.usefixtures("unopened")
@pytest.mark.parametrize("weights", INDEXES.values(), ids=INDEXES)
@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_an_index_names_files_of_its_folder(hostile: Path, name: str, weights: Any):
    (hostile / "image_encoder" / "pytorch_model.bin").write_bytes(b"")
    (hostile / "image_encoder" / name).write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    with pytest.raises(FashionFlowError, match="not a safetensors file of this folder"):
        load(hostile, device="cpu")


@pytest.mark.usefixtures("unopened")
def test_an_adapter_beside_an_image_encoder(hostile: Path):
    (hostile / "image_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    with pytest.raises(FashionFlowError, match="adapters are not allowed"):
        load(hostile, device="cpu")


def test_weights_in_several_files_open(folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    encoder = CLIPVisionModel.from_pretrained(copy / "image_encoder")
    (copy / "image_encoder" / "model.safetensors").unlink()
    encoder.save_pretrained(copy / "image_encoder", max_shard_size="20KB")
    assert (copy / "image_encoder" / "model.safetensors.index.json").is_file()
    load(copy, device="cpu")


LORAS: dict[str, tuple[dict[str, Any], str]] = {
    "a regular expression": ({"target_modules": "(a+)+$"}, "target_modules is not a list of names"),
    "a huge rank": ({"r": 10**9}, "rank must be from 1 to 4096"),
    "a huge rank of one layer": ({"rank_pattern": {"to_q": 10**9}}, "rank must be from 1 to 4096"),
    "a text for a rank": ({"r": "8"}, "rank must be from 1 to 4096"),
}


@pytest.fixture(scope="module")
def small_lora(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    unet = FashionFlowUNet.from_pretrained(folder / "unet")
    lora.add_lora(unet, 2, 2.0, ("to_q",))
    return lora.save_lora(unet, tmp_path_factory.mktemp("lora"), "tiny")


@pytest.mark.parametrize(("values", "says"), LORAS.values(), ids=LORAS)
def test_hostile_loras(folder: Path, small_lora: Path, tmp_path: Path, values: dict[str, Any], says: str):
    copy = Path(shutil.copytree(small_lora, tmp_path / "lora"))
    _set(copy / lora.CONFIG, **values)
    with pytest.raises(FashionFlowError) as caught:
        lora.fuse_lora(FashionFlowUNet.from_pretrained(folder / "unet"), copy)
    assert says in caught.value.message and str(copy) in caught.value.message


def test_a_lora_imports_no_module_that_it_names(folder: Path, small_lora: Path, tmp_path: Path):
    """peft imports `megatron_core` by name; the fields that describe the weights are all that is read."""
    copy = Path(shutil.copytree(small_lora, tmp_path / "lora"))
    _set(copy / lora.CONFIG, megatron_config={"x": 1}, megatron_core="antigravity", auto_mapping={"a": "b"})
    lora.fuse_lora(FashionFlowUNet.from_pretrained(folder / "unet"), copy)


def test_a_checkpoint_that_unpacks_to_gigabytes(tmp_path: Path):
    path = tmp_path / "bomb.pth"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("archive/data/0", "w", force_zip64=True) as entry,
    ):
        for _ in range(64):
            entry.write(bytes(2**20))
    with pytest.raises(FashionFlowError, match="unpacked it has 67,108,864 bytes"):
        read_checkpoint(path)


@pytest.mark.slow
def test_weights_outside_an_engine_folder_are_not_read(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    engines = Path(
        shutil.copytree(tiny_engines(tmp_path_factory, "tiny-fp32", dynamic_frames=(8, 12)), tmp_path / "engines")
    )
    model = onnx.load(engines / "unet" / "model.onnx")
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 64)
    (engines / "unet" / "weights.bin").write_bytes(weight.raw_data)
    for place in ("weights.bin", "../vae_decoder/model.onnx"):
        weight.raw_data = b"0"
        set_external_data(weight, place)
        weight.ClearField("raw_data")
        replace_file(engines, "unet/model.onnx", model.SerializeToString())
        with pytest.raises(FashionFlowError, match=f"reads weights from '{place}'"):
            load(engines, device="cpu", backend="onnxruntime")
