"""engines.json: what does not hold together is one line that names it, before anything is opened."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from engine_folders import edit, tiny_engines

from fashionflow_core import pipeline
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.store.folder import damage


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_engines(tmp_path_factory, "tiny-fp32", dynamic_frames=(8, 12))


@pytest.fixture
def copy(engines: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines, tmp_path / "engines"))


def _network(**fields: Any) -> Any:
    return lambda record: record["networks"]["unet"].update(fields)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda record: record.update(schema=99), "has schema 99, this version reads 1"),
        (lambda record: record.pop("schema"), "has no schema"),
        (lambda record: record.pop("networks"), "lacks networks"),
        (lambda record: record.update(banana=1), "unknown fields: banana"),
        (_network(wings=2), "unknown fields in networks.unet: wings"),
        (lambda record: record["networks"]["unet"].pop("dtype"), "lacks dtype in networks.unet"),
        (lambda record: record.update(networks=[]), "networks is [], not an object"),
        (lambda record: record["networks"].update(unet=3), "networks.unet is 3, not an object"),
        (_network(dtype="fp64"), "computes in 'fp64', not in fp32 or fp16"),
        (_network(parameters="many"), 'networks.unet.parameters is "many", not a whole number'),
        (_network(flop={"8": 1.5}), "networks.unet.flop.8 is 1.5, not a whole number"),
        (_network(flop={"eight": 1}), "networks.unet: flop counts"),
        (_network(files={"tensorrt": "unet/model.onnx"}), "for tensorrt, which runtimes does not list"),
        (lambda record: record["networks"]["unet"]["inputs"].pop("sample"), "its tensors are timestep, context"),
        (lambda record: record["networks"]["unet"]["inputs"].update(sample=[1, 8]), "sample has shape [1, 8]"),
        (lambda record: record["networks"]["unet"]["inputs"].update(context=[1, -1, 4]), "context has shape"),
        (lambda record: record["networks"]["unet"]["inputs"].update(sample=[1, "x"]), 'inputs.sample[1] is "x"'),
        (lambda record: record["networks"].update(brain=record["networks"]["unet"]), "unknown network brain"),
        (lambda record: record["runtimes"].update(abacus={"state": "verified"}), "unknown runtime abacus"),
        (lambda record: record["runtimes"]["onnxruntime"].update(state="fine"), "'fine'"),
        (lambda record: record["runtimes"]["onnxruntime"].update(build=[]), "runtimes.onnxruntime.build is []"),
        (lambda record: record["files"].pop("unet/model.onnx"), "unet/model.onnx has no hash"),
        (lambda record: record["files"].update({"../x": {"size": 1, "sha256": "0" * 64}}), "'../x' is not a path"),
        (lambda record: record["files"].update({"a/../../x": {"size": 1, "sha256": "0" * 64}}), "is not a path inside"),
        (lambda record: record["files"].update({"/etc/x": {"size": 1, "sha256": "0" * 64}}), "'/etc/x' is not a path"),
        (lambda record: record["files"].update({"x": {"size": 1, "sha256": "?"}}), "files: x has no size"),
        (lambda record: record["files"].update({"x": "0" * 64}), "not an object"),
        (lambda record: record.update(frames=[12, 8]), "frames are [12, 8]"),
        (lambda record: record.update(frames=[8.0, 12.0]), "frames[0] is 8.0, not a whole number"),
        (lambda record: record.update(frames=8), "frames is 8, not a list"),
        (lambda record: record.update(source=7), "source is 7, not text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_record_is_one_line(copy: Path, change: Any, says: str) -> None:
    edit(copy, change)
    with pytest.raises(FashionFlowError) as caught:
        pipeline.load(copy, device="cpu")
    assert says in caught.value.message and str(copy) in caught.value.message and "\n" not in caught.value.message
    assert caught.value.hint
    assert damage(copy)


def test_a_record_that_is_no_json(copy: Path) -> None:
    (copy / "engines.json").write_text("{")
    with pytest.raises(FashionFlowError, match="invalid JSON"):
        pipeline.load(copy, device="cpu")
    assert any("invalid JSON" in line for line in damage(copy))


def test_engines_of_unknown_state_are_not_run(copy: Path) -> None:
    """Not even those that failed and whose record was taken out."""
    edit(copy, lambda record: record["runtimes"].clear())
    with pytest.raises(FashionFlowError, match="which runtimes does not list"):
        pipeline.load(copy, device="cpu")
