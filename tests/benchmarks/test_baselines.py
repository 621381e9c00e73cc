"""The baselines of the bench: their arithmetic is what the reference says, and what they run is what they count."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from golden.named_weights import named_normal
from tiny_baselines import CPU, EAGER, STEPS, TINY
from torch import Tensor, nn

from fashionflow_benchmarks import baseline, dreampose, dreampose_figures, published
from fashionflow_benchmarks.baseline import Baseline
from fashionflow_benchmarks.dreampose import OPTIMISED, DreamPose, How, open_dreampose
from fashionflow_benchmarks.published import AncestralSteps, Published, open_published
from fashionflow_benchmarks.shapes import FULL, REDUCED
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.diffusion.sampling import sample
from fashionflow_core.models.noise_schedules import published_betas

# ---- arithmetic -----------------------------------------------------------------------------------------------------

Work = tuple[dict[str, int], dict[str, int]]


def total_macs(work: Work) -> float:
    calls, flop = work
    assert set(calls) == set(flop)
    return sum(calls[stage] * flop[stage] for stage in calls) / 2


@pytest.mark.slow
def test_arithmetic_of_the_paper() -> None:
    """Reference README, "DreamPose-style per-frame sampling, in numbers": 12.2, where the paper reports 9.3 in time."""
    per_frame, literal = dreampose.count_work(FULL), published.count_work(FULL)
    calls, flop = per_frame
    assert calls == {"encode": 3 * 70, "clip": 2 * 70, "denoise": 101 * 70, "decode": 70}
    assert flop["denoise"] / 3 / 2e9 == pytest.approx(519.7, abs=0.05)
    assert flop["decode"] / 2e12 == pytest.approx(1.577, abs=5e-4)
    assert total_macs(per_frame) / 70 / 1e12 == pytest.approx(161.2, abs=0.05)
    assert total_macs(per_frame) / 1e15 == pytest.approx(11.28, abs=5e-3)
    # Figure 2 written out has an MLP over all pairs of positions: 811.4 GMAC a pass, where the reference counts 810.4.
    assert literal[1]["denoise"] / 2e9 == pytest.approx(810.4, abs=1.1)
    assert total_macs(literal) / 1e15 == pytest.approx(0.922, abs=1.5e-3)
    assert round(total_macs(per_frame) / total_macs(literal), 1) == 12.2


def test_parameters_of_the_published_networks() -> None:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from fashionflow_benchmarks.shapes import count_parameters, make_adapter, make_clip, make_vae

    with torch.device("meta"):
        networks = {"vae": make_vae(FULL), "clip": make_clip(FULL), "adapter": make_adapter(FULL)}
        found = count_parameters(unet=UNet2DConditionModel(**FULL.unet2d), **networks)
    # Stable Diffusion v1-4 has 859,520,964; ten more input channels of a 3x3 convolution to 320 make 28,800.
    assert found["unet"] == 859_520_964 + 10 * 9 * 320
    assert found["unet"] / 1e6 == pytest.approx(859.6, abs=0.06)
    assert found["vae"] == 83_653_863
    assert found["clip"] == 87_456_000
    assert found["adapter"] == 1280 * 768 + 768 + 54 * 50 + 50
    assert dreampose_figures.stored_bytes(found) == pytest.approx(3.78e9, rel=1e-3)


def test_optimising_leaves_the_arithmetic_of_denoising() -> None:
    plain_calls, plain_flop = dreampose.count_work(TINY)
    for how in (EAGER, OPTIMISED, How(frames_at_once=3, once=True)):
        calls, flop = dreampose.count_work(TINY, how)
        for stage in ("denoise", "decode"):
            assert calls[stage] * flop[stage] == plain_calls[stage] * plain_flop[stage]
        for stage in ("encode", "clip"):
            assert TINY.frames * calls[stage] * flop[stage] == plain_calls[stage] * plain_flop[stage]


# ---- what is counted is what is run ---------------------------------------------------------------------------------

OPENERS: dict[str, Callable[[], AbstractContextManager[Baseline]]] = {
    "dreampose": lambda: open_dreampose(TINY, CPU, torch.float32, steps=STEPS),
    "optimised": lambda: open_dreampose(TINY, CPU, torch.float32, EAGER, steps=STEPS),
    "published": lambda: open_published(TINY, CPU, torch.float32, steps=STEPS),
}


STAGE_OF = {
    "UNet2DConditionModel": "denoise",
    "LiteralUNet": "denoise",
    "Encoder": "encode",
    "Decoder": "decode",
    "LiteralAdapter": "clip",
}


class Calls:
    """Counts calls of networks, wherever they are, by stage."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def __enter__(self) -> Counter[str]:
        def count(module: nn.Module, _inputs: Any) -> None:
            if name := STAGE_OF.get(type(module).__name__):
                self.found[name] += 1

        self.hook = nn.modules.module.register_module_forward_pre_hook(count)
        return self.found

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


@pytest.fixture(params=list(OPENERS))
def opened(request: pytest.FixtureRequest) -> Iterator[Baseline]:
    with OPENERS[request.param]() as found:
        yield found


def test_a_run_makes_the_calls_that_are_counted(opened: Baseline) -> None:
    with Calls() as calls:
        frames = opened.run()
    assert dict(calls) == dict(opened.calls)
    assert frames.shape == (4, 128, 128, 3) and frames.dtype == np.uint8
    assert frames.std() > 5 and (frames[1] != frames[2]).any()


def test_a_run_may_be_shorter(opened: Baseline) -> None:
    assert opened.run(steps=2, frames=2).shape == (2, 128, 128, 3)


def test_each_stage_is_one_call(opened: Baseline) -> None:
    assert set(opened.stages) == set(opened.calls) == set(opened.flop)
    for stage, call in opened.stages.items():
        with Calls() as calls:
            call()
        assert dict(calls) == {stage: 1}


def test_steps_go_on_and_begin_anew(opened: Baseline) -> None:
    walk: Any = opened.stages["denoise"]
    assert opened.walk == len(walk) and opened.calls["denoise"] % opened.walk == 0
    ways = []
    for _ in range(2):
        way = []
        for _ in range(opened.walk):
            walk()
            way.append(walk.latents.clone())
        ways.append(way)
    for first, second in zip(*ways):
        assert torch.equal(first, second)
    assert not torch.equal(ways[0][0], ways[0][-1])
    walk()
    opened.restart()
    walk()
    assert torch.equal(walk.latents, ways[0][0])


def test_a_baseline_says_what_it_is(opened: Baseline) -> None:
    import json

    details = json.loads(json.dumps(dict(opened.details)))
    assert details["steps"] == STEPS and details["frames"] == 4 and details["dtype"] == "float32"
    assert opened.label == details["label"] == "tiny"
    assert opened.video_flop == sum(opened.calls[stage] * opened.flop[stage] for stage in opened.calls)
    seconds = opened.seconds(dict.fromkeys(opened.calls, 0.5))
    assert seconds == {stage: 0.5 * count for stage, count in opened.calls.items()}


def test_reduced_sizes_say_so() -> None:
    assert FULL.label == "published sizes" and "reduced" in REDUCED.label
    assert FULL.pixels == (640, 512) and FULL.tokens == 50 and FULL.frames == 70


# ---- FashionFlow as published ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("timestep", [999, 700, 1, 0])
def test_golden_ddpm_step(golden: Path, timestep: int) -> None:
    x, eps, z = (torch.from_numpy(named_normal(f"ddpm_a:{name}", (1, 4, 3, 4, 4))) for name in ("x", "eps", "z"))
    found = AncestralSteps(1000).step(x, eps, z, timestep)
    expected = np.load(golden / "golden_conditioning.npz")[f"ddpm_a_step_{timestep}"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


def test_published_sampling_is_our_loop() -> None:
    """Pinned after each step or in each input, DDPM written out or diffusers': the same clip from the same noise."""
    model, steps = Published(TINY, CPU, torch.float32), 8
    walk = model.walk(steps, 4)
    for _ in range(len(walk)):
        walk()
        assert torch.equal(walk.latents[:, :, 0], walk.first)
    scheduler: Any = DDPMScheduler(
        steps, trained_betas=published_betas(steps), variance_type="fixed_small", clip_sample=False
    )
    generator = torch.Generator().manual_seed(model.seed)
    known = KnownFrames.first(walk.first, 4)

    def denoise(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        return model.predict(x, timestep.expand(1), context)

    with torch.inference_mode():
        expected = sample(denoise, scheduler, steps, known, walk.context, [generator])
    assert expected.std() > 0.5
    torch.testing.assert_close(walk.latents, expected, rtol=0, atol=1e-4)


def test_published_takes_our_weights() -> None:
    from fashionflow_benchmarks.step import literal_twin
    from fashionflow_core.models import FashionFlowUNet

    ours = FashionFlowUNet(**TINY.unet3d).eval()
    model = Published(TINY, CPU, torch.float32, unet=literal_twin(ours))
    inputs = torch.randn(1, 4, 4, 16, 16), torch.tensor([7]), torch.randn(1, 5, 96)
    with torch.inference_mode():
        torch.testing.assert_close(model.predict(*inputs), ours(*inputs).sample, rtol=0, atol=1e-4)


# ---- multiplying out ------------------------------------------------------------------------------------------------


def clocked(delays: list[float]) -> Baseline:
    """A baseline whose steps take given times."""
    position = iter(())

    def restart() -> None:
        nonlocal position
        position = iter(delays)

    def step() -> None:
        time.sleep(next(position, 0.0))

    work = {"denoise": len(delays)}
    return Baseline(
        "clocked",
        "test",
        {"denoise": step},
        work,
        work,
        lambda steps=0, frames=0: np.zeros(0),
        len(delays),
        restart,
        {},
        {},
    )


@pytest.mark.parametrize(("last", "ratio"), [(0.02, 1), (0.06, 3)])
def test_constancy_compares_the_ends(last: float, ratio: float) -> None:
    found = baseline.constancy(clocked([0.02] * 3 + [0.0] * 5 + [last] * 3), CPU)
    assert found["count"] == 11 and len(found["first"]) == len(found["last"]) == 3
    assert found["ratio"] == pytest.approx(ratio, rel=0.3)


def test_constancy_of_a_baseline() -> None:
    with OPENERS["published"]() as opened:
        found = baseline.constancy(opened, CPU, ends=1)
        assert found["count"] == STEPS and found["ratio"] > 0
        assert baseline.constancy(opened, CPU, "decode", ends=2)["count"] == 4
        with pytest.raises(ValueError, match="first and last"):
            baseline.constancy(opened, CPU, "clip")


@pytest.mark.parametrize(("total", "most", "share"), [(70, 7, 7), (70, 12, 10), (70, 100, 70), (71, 7, 1), (4, 3, 2)])
def test_batches_are_of_one_size(total: int, most: int, share: int) -> None:
    assert baseline.even_share(total, most) == share


def test_published_figures_are_marked_as_theirs() -> None:
    assert "not measured here" in dreampose_figures.line() and "10 minutes" in dreampose_figures.line()
    assert all(figure.source and figure.value > 0 for figure in dreampose_figures.REPORTED)


# ---- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_baselines_on_a_gpu() -> None:
    cuda = torch.device("cuda")
    expected = DreamPose(TINY, cuda, torch.float32).sample(STEPS, 4)
    compiled = DreamPose(TINY, cuda, torch.float32, replace(OPTIMISED, frames_at_once=2))
    torch.testing.assert_close(compiled.sample(STEPS, 4), expected, rtol=0, atol=0.1)  # TF32 in convolutions
    for opener in (
        open_dreampose(TINY, cuda, torch.float16, steps=STEPS),
        open_dreampose(TINY, cuda, torch.bfloat16, OPTIMISED, steps=STEPS),
        open_published(TINY, cuda, torch.bfloat16, steps=STEPS),
    ):
        with opener as opened:
            for call in opened.stages.values():
                call()
            assert opened.run().shape == (4, 128, 128, 3)
