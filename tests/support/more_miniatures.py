"""Miniatures of image-to-video pipelines whose text encoders are large language models; used by `miniatures`."""

from typing import Any, cast

import torch


def hunyuan_vae() -> Any:
    """The VAE that HunyuanVideo and Kandinsky 5 share: 8x8 pixels and 4 frames to a latent."""
    from diffusers import AutoencoderKLHunyuanVideo

    torch.manual_seed(0)
    return AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=cast("Any", (8, 8, 8, 8)),
        layers_per_block=1,
        norm_num_groups=4,
    )


def clip_text() -> Any:
    """A text encoder of CLIP with 8 values a token."""
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 64,
        "max_position_embeddings": 77,
        "projection_dim": 8,
    }
    return CLIPTextModel(CLIPTextConfig(**sizes, bos_token_id=0, eos_token_id=1, pad_token_id=0))


_LLAMA: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}


def hunyuan(tokenizer: Any, clip_tokenizer: Any, processor: Any) -> Any:
    """HunyuanVideo. `tokenizer` knows the words of its template; `processor` gives 336 by 336 pixels, 576 tokens."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideoImageToVideoPipeline,
        HunyuanVideoTransformer3DModel,
    )
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
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
    vision = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=336,
        patch_size=14,
        projection_dim=8,
    )
    text = LlamaConfig(**_LLAMA, pad_token_id=0)
    image = {"image_token_index": tokenizer.convert_tokens_to_ids("<image>"), "pad_token_id": 0}
    return HunyuanVideoImageToVideoPipeline(
        LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, **image)),
        tokenizer,
        transformer,
        hunyuan_vae(),
        FlowMatchEulerDiscreteScheduler(shift=7.0),
        clip_text(),
        clip_tokenizer,
        processor,
    )


def kandinsky5(tokenizer: Any, clip_tokenizer: Any) -> Any:
    """Kandinsky 5; its own processor of text and pictures would need torchvision, a tokenizer does for text."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Kandinsky5I2VPipeline, Kandinsky5Transformer3DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=8,
        time_dim=16,
        out_visual_dim=4,
        model_dim=16,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=2,
        axes_dims=(4, 2, 2),
        visual_cond=True,
    )
    rope = {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    text_encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=cast("Any", {**_LLAMA, "rope_scaling": rope}), vision_config=cast("Any", vision))
    )
    return Kandinsky5I2VPipeline(
        transformer,
        hunyuan_vae(),
        text_encoder,
        tokenizer,
        clip_text(),
        clip_tokenizer,
        FlowMatchEulerDiscreteScheduler(shift=5.0),
    )


def ltx2(tokenizer: Any) -> Any:
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

    torch.manual_seed(0)
    text = {
        **_LLAMA,
        "num_hidden_layers": 2,
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
        scheduler, vae, audio_vae, text_encoder, tokenizer, connectors, transformer, vocoder
    )
