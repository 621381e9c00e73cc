"""Builders of miniatures: a pipeline of each family with random weights of a few thousand values."""

from collections.abc import Callable
from typing import Any, cast

from miniature_parts import (
    LANGUAGE,
    QWEN,
    clip_text,
    clip_vision,
    clip_vision_config,
    flow,
    hunyuan_vae,
    processor,
    skyreels_denoiser,
    t5,
    tokenizer,
    unipc,
    wan_denoiser,
    wan_vae,
)


def wan21() -> Any:
    """Wan 2.1, with an image encoder."""
    from diffusers import WanImageToVideoPipeline

    return WanImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=t5(multilingual=True),
        vae=wan_vae(),
        scheduler=flow(7.0),
        image_processor=processor(),
        image_encoder=clip_vision(clip_vision_config(4, 32, 1, layers=2), projected=False),
        transformer=wan_denoiser(36, image_width=4),
    )


def wan22_a14b() -> Any:
    """Wan 2.2 A14B, with two denoisers."""
    from diffusers import WanImageToVideoPipeline

    return WanImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=t5(multilingual=True),
        vae=wan_vae(),
        scheduler=unipc(3.0),
        transformer=wan_denoiser(36),
        transformer_2=wan_denoiser(36),
        boundary_ratio=0.9,
    )


def wan22_ti2v() -> Any:
    """Wan 2.2 TI2V-5B; as the hub's folder, its index names `WanPipeline`, which takes no photo."""
    from diffusers import WanPipeline

    vae = wan_vae(
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
        tokenizer=tokenizer(),
        text_encoder=t5(multilingual=True),
        vae=vae,
        scheduler=unipc(5.0),
        transformer=wan_denoiser(48, out=48),
        expand_timesteps=True,
    )


def skyreels() -> Any:
    """SkyReels V2."""
    from diffusers import SkyReelsV2ImageToVideoPipeline

    return SkyReelsV2ImageToVideoPipeline(
        tokenizer(),
        t5(multilingual=True),
        clip_vision(clip_vision_config(4, 32, 1, layers=2)),
        processor(),
        skyreels_denoiser(36, image_width=4),
        wan_vae(),
        unipc(5.0),
    )


def skyreels_forcing() -> Any:
    """SkyReels V2 with diffusion forcing: a class that is in no row of the table of families."""
    from diffusers import SkyReelsV2DiffusionForcingImageToVideoPipeline

    return SkyReelsV2DiffusionForcingImageToVideoPipeline(
        tokenizer(), t5(multilingual=True), skyreels_denoiser(16), wan_vae(), unipc(5.0)
    )


def ltx() -> Any:
    """LTX-Video."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXImageToVideoPipeline,
        LTXVideoTransformer3DModel,
    )

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
    return LTXImageToVideoPipeline(FlowMatchEulerDiscreteScheduler(), vae, t5(), tokenizer(), transformer)


def svd() -> Any:
    """Stable Video Diffusion."""
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )

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
    encoder = clip_vision(clip_vision_config(32, 224, 32))
    return StableVideoDiffusionPipeline(vae, encoder, unet, scheduler, processor(224))


def cogvideox() -> Any:
    """CogVideoX."""
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDDIMScheduler,
        CogVideoXImageToVideoPipeline,
        CogVideoXTransformer3DModel,
    )

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
    return CogVideoXImageToVideoPipeline(tokenizer(), t5(), vae, transformer, CogVideoXDDIMScheduler())


def hunyuan15() -> Any:
    """HunyuanVideo 1.5."""
    from diffusers import (
        AutoencoderKLHunyuanVideo15,
        ClassifierFreeGuidance,
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

    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
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
    text_encoder = Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig(**QWEN))
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
        tokenizer(chat_template="{% for m in messages %}a b c {% endfor %}"),
        transformer,
        vae,
        flow(7.0),
        t5(),
        tokenizer(),
        ClassifierFreeGuidance(guidance_scale=1.0),
        image_encoder,
        cast("Any", SiglipImageProcessorPil(size={"height": 32, "width": 32})),
    )


def hunyuan() -> Any:
    """HunyuanVideo."""
    from diffusers import HunyuanVideoImageToVideoPipeline, HunyuanVideoTransformer3DModel
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
        image_condition_type="token_replace",
    )
    # Its template has these words, and a picture of 336 by 336 pixels is 576 tokens.
    words = tokenizer(("<image>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"))
    vision = clip_vision_config(8, 336, 14, layers=2)
    language: dict[str, Any] = {**LANGUAGE, "num_hidden_layers": 3}
    text = LlamaConfig(**language, pad_token_id=0)
    image = {"image_token_index": words.convert_tokens_to_ids("<image>"), "pad_token_id": 0}
    return HunyuanVideoImageToVideoPipeline(
        LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, **image)),
        words,
        transformer,
        hunyuan_vae(),
        flow(7.0),
        clip_text(),
        tokenizer(),
        processor(336),
    )


def kandinsky5() -> Any:
    """Kandinsky 5; its own processor of text and pictures would need torchvision, a tokenizer does for text."""
    from diffusers import Kandinsky5I2VPipeline, Kandinsky5Transformer3DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=8,
        time_dim=16,
        out_visual_dim=4,
        model_dim=16,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 2, 2),
        visual_cond=True,
    )
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    text_encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=cast("Any", QWEN), vision_config=cast("Any", vision))
    )
    return Kandinsky5I2VPipeline(
        transformer,
        hunyuan_vae(),
        text_encoder,
        tokenizer(),
        clip_text(),
        tokenizer(),
        flow(5.0),
    )


def ltx2() -> Any:
    """LTX-2, which generates sound, too; its connectors and vocoder are classes of `diffusers.pipelines.ltx2`."""
    from diffusers import (
        AutoencoderKLLTX2Audio,
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        LTX2ImageToVideoPipeline,
        LTX2VideoTransformer3DModel,
    )
    from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {
        **LANGUAGE,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    }
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    text_encoder = Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=cast("Any", text), vision_config=cast("Any", vision), mm_tokens_per_image=4)
    )
    transformer = LTX2VideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=8,
        num_layers=1,
        caption_channels=16,
        rope_double_precision=False,
    )
    connectors = LTX2TextConnectors(
        caption_channels=16,
        text_proj_in_factor=3,  # hidden states of the text encoder: two layers and the embedding
        video_connector_num_attention_heads=4,
        video_connector_attention_head_dim=4,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=4,
        audio_connector_attention_head_dim=4,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_double_precision=False,
    )
    vae = AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 4,
        upsample_residual=(False,) * 3,
        upsample_factor=(1,) * 3,
        spatial_compression_ratio=cast("Any", 32),
        temporal_compression_ratio=cast("Any", 8),
    )
    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1, 2), num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
    )
    vocoder = LTX2Vocoder(
        in_channels=16,
        hidden_channels=32,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return LTX2ImageToVideoPipeline(
        scheduler, vae, audio_vae, text_encoder, tokenizer(), connectors, transformer, vocoder
    )


# Family -> builder, in the order of `families.FAMILIES`.
BUILDERS: dict[str, Callable[[], Any]] = {
    "wan22_ti2v": wan22_ti2v,
    "wan21": wan21,
    "wan22_a14b": wan22_a14b,
    "ltx": ltx,
    "svd": svd,
    "cogvideox": cogvideox,
    "skyreels": skyreels,
    "hunyuan15": hunyuan15,
    "ltx2": ltx2,
    "kandinsky5": kandinsky5,
    "hunyuan": hunyuan,
    "skyreels_forcing": skyreels_forcing,
}
