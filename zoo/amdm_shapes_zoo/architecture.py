"""The networks of the base model, in the classes and configurations of diffusers and transformers."""

from __future__ import annotations

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from amdm_shapes_zoo.world import PICTURE_SIZE

LATENT_CHANNELS = 8
VAE_CHANNELS = (8, 16, 32, 64)
LATENT_SIZE = PICTURE_SIZE // 2 ** (len(VAE_CHANNELS) - 1)
"""Side of the latent grid: 8 for pictures of 64 pixels."""

TEXT_WIDTH = 128
MAX_TOKENS = 48
"""Length of every encoded prompt, including start, end and padding tokens."""


def build_vae() -> AutoencoderKL:
    """Untrained autoencoder of factor 8: (N, 3, 64, 64) in [-1, 1] to (N, 8, 8, 8) and back."""
    levels = len(VAE_CHANNELS)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=VAE_CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,  # More groups than one would normalise the colours away in the thin levels.
        sample_size=PICTURE_SIZE,
        force_upcast=False,
    )


def build_unet() -> UNet2DConditionModel:
    """Untrained noise predictor on latents, conditioned on (N, MAX_TOKENS, TEXT_WIDTH) text states."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 96, 80),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(4, 4, 4),
        norm_num_groups=16,
    )


def build_text_encoder(vocabulary_size: int, start_token: int, end_token: int) -> CLIPTextModel:
    """Untrained CLIP text model over the world's vocabulary."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=start_token,
            eos_token_id=end_token,
            pad_token_id=end_token,
        )
    )


def build_image_encoder() -> CLIPVisionModelWithProjection:
    """Untrained CLIP vision model: (N, 3, 64, 64) to (N, TEXT_WIDTH) image embeddings."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=256,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=PICTURE_SIZE,
            patch_size=PICTURE_SIZE // 8,
        )
    )


def build_scheduler() -> DDIMScheduler:
    """The noise schedule of Stable Diffusion 1.x with its sampling conventions."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type="epsilon",
    )
