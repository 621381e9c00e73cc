"""The presets: literal tables of what differs from the defaults of `TrainConfig`."""

from typing import Any

# Sources: paper 4.2 (2500 epochs, AdamW 2e-4 with betas 0.5 and
# 0.999, cosine schedule of 1000 steps); reference README, "Conventions of the published inference", 4 to 6;
# docs/bundled-model.md for mini.
_PUBLISHED_UNET: dict[str, Any] = {
    "unet_widths": (64, 128, 256, 512),
    "unet_heads": 8,
    "unet_head_dim": 64,
    "unet_cross_heads": (1, 1, 2, 4),
    "unet_time_dim": 256,
}
_PAPER: dict[str, Any] = {
    **_PUBLISHED_UNET,
    "max_epochs": 2500.0,
    "lr": 2e-4,
    "adam_betas": (0.5, 0.999),
    "betas": "squared_cosine",
    "prediction": "epsilon",
    "frame_loss": "sum",
    "given_target": "zero",
    "sampler": "ddpm",
    "sampler_steps": 1000,
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "published": _PAPER | {"lr": 1e-4, "betas": "published", "known_content": "none"},
    "mini": {
        "max_minutes": 64.0,
        "short_frames": 16,
        "short_part": 0.5,
        "reverse": 0.5,
        "betas": "shifted_cosine",
        "zero_terminal_snr": True,
        "prediction": "sample",
        "timesteps": "stratified",
        "weighting": "velocity",
        "channel_weights": "energy",
        "known_content": "latents",
        "mask_fill": "linear",
        "latent_statistics": "cache",
        "sample_posterior": False,
        "train_image_encoder": True,
        "unet_widths": (40, 64, 128),
        "unet_heads": 4,
        "unet_head_dim": 32,
        "unet_cross_heads": (1, 1, 2),
        "unet_time_dim": 160,
        "lr": 8e-4,
        "lr_schedule": "cosine",
        "warmup_steps": 200,
        "adam_betas": (0.9, 0.99),
        "ema_decay": 0.998,
        "sampler": "ddpm",
        "sampler_steps": 12,
        "sampler_log_snr": (-6.0, 5.0),
        "save_dtype": "fp16",
        "checkpoint_minutes": 5.0,
    },
    "mini-decoder": {
        "target": "vae",
        "max_minutes": 4.0,
        "batch_size": 16,
        "lr": 2e-4,
        "lr_schedule": "cosine",
        "lr_final": 0.02,
        "warmup_steps": 200,
        "adam_betas": (0.9, 0.99),
        "weight_decay": 0.0,
        "max_grad_norm": 0.5,
        "ema_decay": 0.998,
        "save_dtype": "fp16",
    },
}
