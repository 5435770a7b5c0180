"""Latents to pictures in bounded memory, and the fingerprint of a latent space."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from diffusers import AutoencoderKL

from .digests import bytes_of
from .tensor_files import TensorMapping

TILED_ABOVE = 128 * 128
"""Latent cells of one picture (1024x1024 pixels at factor 8) above which it is decoded in overlapping tiles."""


def decode_latents(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Decode latents to pictures, one at a time, so that memory does not grow with the batch.

    A picture of more than `TILED_ABOVE` latent cells is decoded in overlapping tiles whose seams are blended, which
    differs slightly from decoding it at once.

    Args:
        vae: the autoencoder.
        latents: (B, C, H, W), as diffused.

    Returns:
        (B, 3, H * scale, W * scale) float32 in [0, 1].
    """
    latents = (latents / vae.config["scaling_factor"]).to(vae.post_quant_conv.weight.dtype)
    decode = vae.tiled_decode if latents.shape[-2] * latents.shape[-1] > TILED_ABOVE else vae.decode
    pictures = [decode(one, return_dict=False)[0] for one in torch.split(latents, 1)]
    return (torch.cat(pictures).float() / 2 + 0.5).clamp(0, 1)


def encoder_fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 over the weights of an autoencoder's encoder, which define the latent space.

    Values are taken in float16, so that float32 and float16 copies of one autoencoder agree; the decoder is left out,
    since a fine-tuned one reads the same space.

    Args:
        tensors: weights under diffusers names.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in tensors if name.startswith(("encoder.", "quant_conv."))):
        digest.update(name.encode())
        digest.update(bytes_of(tensors[name].to(torch.float16)))
    if isinstance(tensors, TensorMapping):
        tensors.release()
    return digest.hexdigest()
