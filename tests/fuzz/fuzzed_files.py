"""The valid inputs that are damaged here: tiny models in the formats people have, compositions and a scene."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from interactdiffusion_files import extension_weights, write_flat, write_original
from ip_adapter_files import picture, write_adapter
from migc_files import write
from safetensors.torch import save_file

from amdm_framework.testing.tiny_models import TINY_UNET, build_unet, write_diffusers_folder, write_single_file
from amdm_plugin_controlnet.tiny_model import build_controlnet, write_controlnet
from amdm_plugin_interactdiffusion.tiny_model import write_folder
from amdm_plugin_ip_adapter.tiny_model import adapter_tensors, write_encoder
from amdm_plugin_migc.tiny_model import original_tensors

SCENE: dict[str, Any] = {
    "caption": "a girl drinks",
    "negative": "lowres",
    "instances": {
        "girl": {"phrase": "a girl", "box": [0.1, 0.15, 0.62, 0.98]},
        "bottle": {"phrase": "a blue bottle", "box": [0.48, 0.4, 0.7, 0.8]},
    },
    "interactions": [{"subject": "girl", "action": "drinking", "object": "bottle"}],
    "references": [{"role": "style", "image": "style.png", "instance": "girl"}],
}

PROVIDERS: dict[str, dict[str, Any]] = {
    "stable_diffusion": {"checkpoint": "sd", "loras": [{"checkpoint": "lora.safetensors", "scale": 0.5}]},
    "interactdiffusion": {"checkpoint": "interact-diffusion-v1.pth", "base": "sd", "strength": 0.9},
    "migc": {"checkpoint": "MIGC_SD14.ckpt", "base": "sd", "migc_steps": 1, "ca_scale": [1.0, 0.5]},
    "ip_adapter": {
        "checkpoint": "ip-adapter_sd15.safetensors",
        "image_encoder": "image_encoder",
        "base": "sd",
        "scale": 0.8,
    },
}
"""A block of every provider; their files are in the folder that `write_home` writes."""

COMPOSITION: dict[str, Any] = {
    "providers": [
        {"use": "interactdiffusion", **PROVIDERS["interactdiffusion"], "guidance_scale": 7.5},
        {"use": "migc", **PROVIDERS["migc"], "name": "instances", "condition": {"negative": "blur"}},
        {"use": "ip_adapter", **PROVIDERS["ip_adapter"], "guidance": {"kind": "cfg", "scale": 7.5}},
        {"use": "stable_diffusion", **PROVIDERS["stable_diffusion"]},
    ],
    "aggregation": {
        "strategy": "amdm",
        "step_sizes": [0.4, 0.3, 0.3, 0.2],
        "step_size_unit": "rms",
        "weights": [0.5, 0.5, 0.5],
        "steps": 1,
    },
    "sampler": {"steps": 2, "eta": 0.0, "height": 64, "width": 64, "step_noise": "independent"},
    "release": False,
}


def write_home(folder: Path) -> Path:
    """Write tiny models of every kind, `composition.yaml` of all of them, `sd.yaml` of one, and `scene.yaml`."""
    write_diffusers_folder(folder / "sd")
    write_single_file(folder / "sd.safetensors", folder / "sd")
    shutil.copytree(folder / "sd" / "tokenizer", folder / "tokenizer")
    write_folder(folder / "interactdiffusion")
    write_original(folder / "interact-diffusion-v1.pth", folder / "interactdiffusion")
    write_flat(folder / "interactdiffusion.safetensors", extension_weights(folder / "interactdiffusion"))
    write(folder / "MIGC_SD14.ckpt", original_tensors(), others=["global_step"])
    write_adapter(folder / "ip-adapter_sd15.safetensors", adapter_tensors(build_unet(TINY_UNET), "base", seed=1))
    write_encoder(folder / "image_encoder")
    write_controlnet(folder / "controlnet", build_controlnet(build_unet(TINY_UNET)))
    save_file(lora_tensors(), folder / "lora.safetensors")
    picture(0).save(folder / "style.png")
    (folder / "scene.yaml").write_text(yaml.safe_dump(SCENE))
    (folder / "composition.yaml").write_text(yaml.safe_dump(COMPOSITION))
    (folder / "sd.yaml").write_text(yaml.safe_dump(composition_of("stable_diffusion", checkpoint="sd", loras=[])))
    return folder


def composition_of(provider: str, **options: Any) -> dict[str, Any]:
    """Return a composition of one provider's block with other options."""
    block = {"use": provider, **PROVIDERS[provider], **options}
    return {"providers": [block], "aggregation": {"strategy": "single"}, "sampler": {"steps": 1}}


def lora_tensors() -> dict[str, torch.Tensor]:
    """Return a LoRA file in diffusers' layout that changes two layers."""
    tensors = {}
    layers = {
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (32, 32),
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (64, 64),
    }
    for position, (layer, (outputs, inputs)) in enumerate(layers.items()):
        generator = torch.Generator().manual_seed(position)
        tensors[f"{layer}.lora_A.weight"] = torch.randn(2, inputs, generator=generator)
        tensors[f"{layer}.lora_B.weight"] = torch.randn(outputs, 2, generator=generator)
    return tensors
