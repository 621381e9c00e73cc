"""Parts that miniatures of several families share: tokenizers, encoders, schedulers, VAEs, all of few weights."""

from typing import Any, cast

# Of language models, whose classes differ but whose sizes have the same names.
LANGUAGE: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}
QWEN: dict[str, Any] = LANGUAGE | {
    "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}
}


def tokenizer(special: tuple[str, ...] = (), **more: Any) -> Any:
    """A word is a letter, or one of `special`; anything else is unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = (chr(97 + n) for n in range(26))
    words = {token: n for n, token in enumerate(["<pad>", "</s>", "<unk>", *special, *letters])}
    found = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    found.add_special_tokens(list(special))
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=found, model_max_length=64, **names, **more)


def t5(multilingual: bool = False) -> Any:
    """A text encoder with 32 values a token."""
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    sizes: dict[str, Any] = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 4}
    tokens: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    if multilingual:
        return UMT5EncoderModel(UMT5Config(**sizes, **tokens))
    return T5EncoderModel(T5Config(**sizes, **tokens))


def clip_text() -> Any:
    """A text encoder with 8 values a token."""
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "projection_dim": 8}
    limits: dict[str, Any] = {"num_attention_heads": 2, "vocab_size": 64, "max_position_embeddings": 77}
    return CLIPTextModel(CLIPTextConfig(**sizes, **limits, bos_token_id=0, eos_token_id=1, pad_token_id=0))


def clip_vision_config(width: int, side: int, patch: int, layers: int = 1) -> Any:
    """An image encoder of `width` values a token, for pictures of `side` pixels in squares of `patch`."""
    from transformers import CLIPVisionConfig

    sizes: dict[str, Any] = {"hidden_size": width, "projection_dim": width, "intermediate_size": 16}
    view: dict[str, Any] = {"image_size": side, "patch_size": patch}
    return CLIPVisionConfig(**sizes, **view, num_hidden_layers=layers, num_attention_heads=2)


def clip_vision(config: Any, projected: bool = True) -> Any:
    """The image encoder of a `clip_vision_config`; `projected`: with its projection."""
    from transformers import CLIPVisionModel, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(config) if projected else CLIPVisionModel(config)


def processor(side: int = 32) -> Any:
    """Preprocessing for an image encoder of `side` pixels."""
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(crop_size=side, size=side)


def flow(shift: float) -> Any:
    """Euler's method on a flow."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=shift)


def unipc(shift: float) -> Any:
    """UniPC on a flow."""
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)


def wan_vae(**more: Any) -> Any:
    """The VAE of Wan 2.1: 8x8 pixels and 4 frames to a latent."""
    from diffusers import AutoencoderKLWan

    values: dict[str, Any] = {"base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return AutoencoderKLWan(**{**values, "temperal_downsample": [False, True, True], **more})


def hunyuan_vae() -> Any:
    """The VAE that HunyuanVideo and Kandinsky 5 share: 8x8 pixels and 4 frames to a latent."""
    from diffusers import AutoencoderKLHunyuanVideo

    return AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=cast("Any", (8, 8, 8, 8)),
        layers_per_block=1,
        norm_num_groups=4,
    )


WAN_DENOISER: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "text_dim": 32,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 1,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 64,
}


def wan_denoiser(channels: int, out: int = 16, image_width: int | None = None) -> Any:
    """A denoiser of Wan; `image_width`: values a token of its image encoder, if it has one."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(in_channels=channels, out_channels=out, image_dim=image_width, **WAN_DENOISER)


def skyreels_denoiser(channels: int, image_width: int | None = None) -> Any:
    """A denoiser of SkyReels V2, as `wan_denoiser`."""
    from diffusers import SkyReelsV2Transformer3DModel

    return SkyReelsV2Transformer3DModel(in_channels=channels, out_channels=16, image_dim=image_width, **WAN_DENOISER)
