"""Miniatures of image-to-video pipelines: random weights of a few thousand values, saved in diffusers' layout."""

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import more_miniatures
import torch

STEPS, FRAMES = 2, 9  # 9 is 4k+1 and 8k+1
FRAMES_OF = {"kandinsky5": 25}  # of the others `FRAMES`: it normalises the first four latents by those after them
FAMILIES = (
    *("wan21", "wan22_a14b", "wan22_ti2v", "ltx", "svd", "cogvideox", "skyreels", "hunyuan15"),
    *("ltx2", "kandinsky5", "hunyuan"),
)
_HUNYUAN_WORDS = ("<image>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


@functools.cache
def _saved() -> dict[str, Path]:
    return {}


def miniature(family: str, folder: Path) -> Path:
    """A copy of the miniature of a family, as `folder`/`family`; made once a process."""
    kept = _saved()
    if family not in kept:
        place = Path(tempfile.mkdtemp(prefix="miniature-")) / family
        _makers()[family]().save_pretrained(place, safe_serialization=True)
        kept[family] = place
    return Path(shutil.copytree(kept[family], folder / family))


def set_index(folder: Path, **values: Any) -> None:
    """Change entries of `model_index.json`; None removes one."""
    path = folder / "model_index.json"
    index = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in index.items() if value is not None}))


def _makers() -> dict[str, Callable[[], Any]]:
    return {
        "wan21": _wan21,
        "wan22_a14b": _wan22_a14b,
        "wan22_ti2v": _wan22_ti2v,
        "ltx": _ltx,
        "svd": _svd,
        "cogvideox": _cogvideox,
        "skyreels": _skyreels,
        "skyreels_forcing": _skyreels_forcing,
        "hunyuan15": _hunyuan15,
        "ltx2": lambda: more_miniatures.ltx2(_tokenizer()),
        "kandinsky5": lambda: more_miniatures.kandinsky5(_tokenizer(), _tokenizer()),
        "hunyuan": lambda: more_miniatures.hunyuan(_tokenizer(_HUNYUAN_WORDS), _tokenizer(), _processor(336)),
    }


def _tokenizer(special: tuple[str, ...] = (), **more: Any) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = (chr(97 + n) for n in range(26))
    words = {token: n for n, token in enumerate(["<pad>", "</s>", "<unk>", *special, *letters])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.add_special_tokens(list(special))
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names, **more)


def _t5(umt5: bool = False) -> Any:
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    sizes: dict[str, Any] = {
        "vocab_size": 64,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 37,
        "num_layers": 2,
        "num_heads": 4,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
    torch.manual_seed(0)
    return UMT5EncoderModel(UMT5Config(**sizes)) if umt5 else T5EncoderModel(T5Config(**sizes))


def _processor(side: int = 32) -> Any:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(crop_size=side, size=side)


def _image_encoder(projected: bool) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=4,
        projection_dim=4,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        intermediate_size=16,
        patch_size=1,
    )
    torch.manual_seed(0)
    return CLIPVisionModelWithProjection(config) if projected else CLIPVisionModel(config)


_WAN_TRANSFORMER: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "text_dim": 32,
    "freq_dim": 256,
    "ffn_dim": 32,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 64,
}


def _wan_transformer(channels: int, image_dim: int | None = None) -> Any:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    out = 48 if channels == 48 else 16
    return WanTransformer3DModel(in_channels=channels, out_channels=out, image_dim=image_dim, **_WAN_TRANSFORMER)


def _wan_vae(**more: Any) -> Any:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    values = {"base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return AutoencoderKLWan(**{**values, "temperal_downsample": [False, True, True], **more})


def _unipc(shift: float) -> Any:
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)


def _wan21() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline

    return WanImageToVideoPipeline(
        tokenizer=_tokenizer(),
        text_encoder=_t5(umt5=True),
        vae=_wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        image_processor=_processor(),
        image_encoder=_image_encoder(projected=False),
        transformer=_wan_transformer(36, 4),
    )


def _wan22_a14b() -> Any:
    from diffusers import WanImageToVideoPipeline

    return WanImageToVideoPipeline(
        tokenizer=_tokenizer(),
        text_encoder=_t5(umt5=True),
        vae=_wan_vae(),
        scheduler=_unipc(3.0),
        transformer=_wan_transformer(36),
        transformer_2=_wan_transformer(36),
        boundary_ratio=0.9,
    )


def _wan22_ti2v() -> Any:
    """As the hub's folder, its index names `WanPipeline`, which takes no photo."""
    from diffusers import WanPipeline

    vae = _wan_vae(
        z_dim=48,
        in_channels=12,
        out_channels=12,
        is_residual=True,
        patch_size=2,
        latents_mean=[0.0] * 48,
        latents_std=[1.0] * 48,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
    )
    return WanPipeline(
        tokenizer=_tokenizer(),
        text_encoder=_t5(umt5=True),
        vae=vae,
        scheduler=_unipc(5.0),
        transformer=_wan_transformer(48),
        expand_timesteps=True,
    )


def _ltx() -> Any:
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXImageToVideoPipeline,
        LTXVideoTransformer3DModel,
    )

    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=32,
    )
    vae = AutoencoderKLLTXVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=False,
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    return LTXImageToVideoPipeline(FlowMatchEulerDiscreteScheduler(), vae, _t5(), _tokenizer(), transformer)


def _svd() -> Any:
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=8,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
        num_frames=14,
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=[32] * 4,  # pyright: ignore[reportArgumentType]
        down_block_types=["DownEncoderBlock2D"] * 4,  # pyright: ignore[reportArgumentType]
        latent_channels=4,
        layers_per_block=1,
    )
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            projection_dim=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=224,
            intermediate_size=37,
            patch_size=32,
        )
    )
    return StableVideoDiffusionPipeline(vae, encoder, unet, scheduler, _processor(224))


def _cogvideox() -> Any:
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXImageToVideoPipeline,
        CogVideoXTransformer3DModel,
    )

    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=226,
        use_rotary_positional_embeddings=True,
    )
    vae = AutoencoderKLCogVideoX(
        down_block_types=cast("Any", ("CogVideoXDownBlock3D",) * 4),
        up_block_types=cast("Any", ("CogVideoXUpBlock3D",) * 4),
        block_out_channels=cast("Any", (8, 8, 8, 8)),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    return CogVideoXImageToVideoPipeline(_tokenizer(), _t5(), vae, transformer, CogVideoXDDIMScheduler())


def _skyreels() -> Any:
    from diffusers import SkyReelsV2ImageToVideoPipeline, SkyReelsV2Transformer3DModel

    torch.manual_seed(0)
    transformer = SkyReelsV2Transformer3DModel(in_channels=36, out_channels=16, image_dim=4, **_WAN_TRANSFORMER)
    return SkyReelsV2ImageToVideoPipeline(
        _tokenizer(), _t5(umt5=True), _image_encoder(True), _processor(), transformer, _wan_vae(), _unipc(5.0)
    )


def _skyreels_forcing() -> Any:
    """Of a class that is in no row of the table of families."""
    from diffusers import SkyReelsV2DiffusionForcingImageToVideoPipeline, SkyReelsV2Transformer3DModel

    torch.manual_seed(0)
    transformer = SkyReelsV2Transformer3DModel(in_channels=16, out_channels=16, **_WAN_TRANSFORMER)
    return SkyReelsV2DiffusionForcingImageToVideoPipeline(
        _tokenizer(), _t5(umt5=True), transformer, _wan_vae(), _unipc(5.0)
    )


def _hunyuan15() -> Any:
    from diffusers import (
        AutoencoderKLHunyuanVideo15,
        ClassifierFreeGuidance,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideo15ImageToVideoPipeline,
        HunyuanVideo15Transformer3DModel,
    )
    from transformers import (
        Qwen2_5_VLTextConfig,
        Qwen2_5_VLTextModel,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    torch.manual_seed(0)
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        patch_size=1,
        patch_size_t=1,
        text_embed_dim=16,
        text_embed_2_dim=32,
        image_embed_dim=12,
        rope_axes_dim=(2, 2, 4),
        target_size=64,
        task_type="i2v",
    )
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(16, 16),  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    text_encoder = Qwen2_5_VLTextModel(
        Qwen2_5_VLTextConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            vocab_size=64,
            rope_scaling={"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},  # pyright: ignore
        )
    )
    image_encoder = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=12,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
    )
    return HunyuanVideo15ImageToVideoPipeline(
        text_encoder,
        _tokenizer(chat_template="{% for m in messages %}a b c {% endfor %}"),
        transformer,
        vae,
        FlowMatchEulerDiscreteScheduler(shift=7.0),
        _t5(),
        _tokenizer(),
        ClassifierFreeGuidance(guidance_scale=1.0),
        image_encoder,
        cast("Any", SiglipImageProcessorPil(size={"height": 32, "width": 32})),
    )
