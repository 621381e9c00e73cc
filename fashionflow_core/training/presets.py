"""Presets of training settings."""

from typing import Any

# Sources: the paper (docs/concepts/paper-recipe.md quotes each sentence); the published inference code;
# docs/concepts/mini-latent.md for mini-latent.
_NETWORK: dict[str, Any] = {  # 4.2; heads as in the published checkpoint
    "unet": {"widths": (64, 128, 256, 512), "heads": 8, "head_dim": 64, "cross_heads": (1, 1, 2, 4), "time_dim": 256},
    "schedule": {"max_epochs": 2500.0},
    "loss": {"frame_loss": "sum", "given_target": "zero"},
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _NETWORK
    | {
        "base": "paper",
        "conditioning": {"known_content": "rgb", "mask_fill": "zero"},  # 3.3: four extra channels
        "masks": {"generate": 0.5, "interpolate": 0.5, "interpolate_strides": (2,)},  # 3.3: half of the frames
        "noise": {"betas": "squared_cosine", "prediction": "epsilon"},
        "optimizer": {"lr": 2e-4, "adam_betas": (0.5, 0.999)},
        "sampler": {"name": "ddpm-large", "steps": 1000},  # eq. 2
    },
    "published": _NETWORK
    | {
        "base": "published",
        "conditioning": {"known_content": "none"},
        "noise": {"betas": "published", "prediction": "epsilon"},
        "optimizer": {"lr": 1e-4, "adam_betas": (0.5, 0.999)},
        "sampler": {"name": "ddpm", "steps": 1000},
    },
    "mini-latent": {
        "train_image_encoder": True,
        "save_dtype": "fp16",
        "data": {
            "short_frames": 16,
            "short_part": 0.5,
            "reverse": 0.5,
            "latent_statistics": "cache",
            "sample_posterior": False,
        },
        "conditioning": {"context_dropout": 0.1, "known_content": "latents", "mask_fill": "linear"},
        "masks": {"generate": 0.65, "interpolate": 0.25, "extend": 0.1, "interpolate_strides": (2, 4)},
        "noise": {
            "betas": "shifted_cosine",
            "zero_terminal_snr": True,
            "prediction": "sample",
            "timesteps": "stratified",
        },
        "loss": {"weighting": "velocity", "channel_weights": "energy"},
        "unet": {"widths": (40, 64, 128), "heads": 4, "head_dim": 32, "cross_heads": (1, 1, 2), "time_dim": 160},
        "optimizer": {"lr": 8e-4, "adam_betas": (0.9, 0.99), "ema_decay": 0.998},
        "schedule": {"max_minutes": 64.0, "lr_schedule": "cosine", "warmup_steps": 200},
        "sampler": {"name": "ddpm", "steps": 12, "log_snr": (-6.0, 5.0)},
        "checkpoints": {"minutes": 5.0},
    },
    "mini-motion": {
        "target": "motion",
        "train_image_encoder": True,
        "base": "mini",  # its parser is copied to the result
        "save_dtype": "fp16",
        "data": {"batch_size": 4},
        "conditioning": {"context_dropout": 0.1, "mask_fill": "nearest"},
        "masks": {"generate": 0.7, "extend": 0.15, "loop": 0.15, "extend_frames": 4},
        "noise": {"betas": "linear_log_snr", "prediction": "sample", "timesteps": "stratified"},
        "loss": {"weighting": "velocity"},
        "unet": {"widths": (24, 48, 96), "heads": 4, "head_dim": 32, "cross_heads": (1, 1, 2), "time_dim": 96},
        "optimizer": {"lr": 1.5e-3, "adam_betas": (0.9, 0.99), "ema_decay": 0.995},
        "schedule": {"max_minutes": 80.0, "lr_schedule": "cosine", "warmup_steps": 50},
        # The first step is the noisiest, at -9; all twelve are evenly spaced.
        "sampler": {"name": "ddpm", "steps": 12, "log_snr": (-7.909, 3.0)},
        "checkpoints": {"minutes": 5.0},
    },
    "mini-latent-interpolator": {
        "target": "interpolator",
        "init_from": "mini-latent",
        "save_dtype": "fp16",
        "data": {"short_frames": 14, "short_part": 0.6, "reverse": 0.5, "sample_posterior": False},
        "conditioning": {"kind": "local"},
        "masks": {"generate": 0.0, "interpolate": 1.0, "interpolate_strides": (2, 4)},
        "loss": {"channel_weights": "pixels"},
        "unet": {"widths": (40, 64), "heads": 2, "head_dim": 32, "cross_heads": (1, 1), "time_dim": 160},
        "optimizer": {"lr": 8e-4, "adam_betas": (0.9, 0.99), "ema_decay": 0.99},
        "schedule": {"max_minutes": 45.0, "lr_schedule": "cosine", "warmup_steps": 50},
        "checkpoints": {"minutes": 5.0},
    },
    "mini-latent-decoder": {
        "target": "vae",
        "save_dtype": "fp16",
        "data": {"batch_size": 16},
        "optimizer": {
            "lr": 2e-4,
            "adam_betas": (0.9, 0.99),
            "weight_decay": 0.0,
            "max_grad_norm": 0.5,
            "ema_decay": 0.998,
        },
        "schedule": {"max_minutes": 4.0, "lr_schedule": "cosine", "lr_final": 0.02, "warmup_steps": 200},
    },
}
