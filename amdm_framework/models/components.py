"""The components of a Stable Diffusion model: where they are stored, and how they are built.

    base = open_base("hf://owner/repo", context)        # a diffusers folder or an original single file
    unet = load_unet(base, context)                     # each on its own: a plugin takes what it does not replace
    vae = load_vae(base, context)
    text_encoder = load_text_encoder(base, context)
    tokenizer = base.tokenizer()

`base.component("unet")` gives the config and the lazily read tensors of one component under the names of diffusers and
transformers, for a plugin that builds the network itself. An original file of another layout is opened with
`SingleFile(tensors, prefixes=...)`.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel

from ..errors import CheckpointError
from ..latents import LatentSpace, NoiseSchedule, PredictionType
from ..provider import WeightFile
from .autoencoder import encoder_fingerprint
from .checkpoints import build_on_meta, load_strict
from .config_checks import building
from .context import LoadContext
from .ldm_configs import SCHEDULER_CONFIG
from .ldm_keys import CLIP_PREFIX, OPEN_CLIP_PREFIX, UNET_PREFIX, VAE_PREFIX, component_keys
from .references import find_weights, missing_file, pick_weights, resolve_reference, select_model_files
from .stored_components import (
    Component,
    clip_component,
    component_of,
    ldm_unet_component,
    ldm_vae_component,
    open_clip_component,
    read_config,
)
from .tensor_files import TensorMapping, read_tensors

Module = TypeVar("Module", bound=torch.nn.Module)

COMPONENTS = ("unet", "vae", "text_encoder")
"""The networks that every model of this family has."""

IGNORED_KEYS: Mapping[str, tuple[str, ...]] = {
    "unet": (),
    # The loss of the autoencoder's training is stored in some files.
    "vae": ("loss.*", "model_ema.*"),
    # A buffer that older releases stored, and the projection of a model with another head.
    "text_encoder": ("*position_ids", "text_projection.weight", "text_projection", "logit_scale"),
}
"""Surplus names that are no mistake, per component."""

DEFAULT_TOKENIZER = "hf://openai/clip-vit-large-patch14"
"""The tokenizer of all Stable Diffusion 1.x and 2.x models, for single files."""


class BaseCheckpoint(ABC):
    """A stored Stable Diffusion model.

    Attributes:
        reference: what messages call it.
    """

    reference: str

    @abstractmethod
    def component(self, name: str) -> Component:
        """Return one of `unet`, `vae`, `text_encoder`.

        Raises:
            CheckpointError: it is not there, or is of another family.
        """

    @abstractmethod
    def scheduler_config(self) -> Mapping[str, Any]:
        """Return the config of its noise scheduler."""

    @abstractmethod
    def tokenizer_folder(self) -> Path:
        """Return the folder that holds its tokenizer."""

    def tokenizer(self) -> Any:
        """Return its tokenizer.

        Raises:
            CheckpointError: there is none.
        """
        folder = self.tokenizer_folder()
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
            raise missing_file(self.reference, "tokenizer/vocab.json", cause=f"looked in {folder}")
        try:
            # Without a word on it the library would ask the terminal whether to run code that lies in the folder.
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the library underneath raises nothing more special
            raise CheckpointError(f"{folder}: not a tokenizer ({error})") from error
        if "tokenizer.json" not in names:
            vocabulary = read_config(folder / "vocab.json")
            if tokenizer.bos_token not in vocabulary or tokenizer.eos_token not in vocabulary:
                raise CheckpointError(f"{folder}: not a tokenizer, vocab.json lacks the start or end token")
        length = tokenizer.model_max_length
        if not isinstance(length, int) or length < 3:
            raise CheckpointError(f"{folder}: model_max_length is {length!r}, expected a number of tokens above 2")
        return tokenizer

    def noise_schedule(self) -> NoiseSchedule:
        """Return the diffusion process it was trained on.

        Raises:
            CheckpointError: its config does not describe one.
        """
        with building("noise schedule", self.reference):
            schedule = NoiseSchedule.from_scheduler_config(self.scheduler_config())
            table = schedule.alphas_cumprod
            if len(table) == 0 or not ((table >= 0) & (table <= 1)).all():
                raise ValueError("alphas_cumprod leaves the range from 0 to 1")
        return schedule


class DiffusersFolder(BaseCheckpoint):
    """A model in the folder layout of diffusers.

    Args:
        path: the folder.
        reference: what messages call it.
        variant: of the weight files, e.g. `fp16`; None takes the plain ones, or the only ones. A component without the
            variant is read from its plain weights, with a warning; where no component has it, that is an error.
    """

    def __init__(self, path: Path, reference: str = "", variant: str | None = None) -> None:
        self.path = path
        self.reference = reference or str(path)
        self.variant = variant

    def component(self, name: str) -> Component:
        folder = self.path / name
        config = self._read_config(f"{name}/config.json")
        weights = find_weights(self.path, COMPONENTS, self.variant)[name]
        if weights is None:
            if self.variant and (other := find_weights(self.path, [name])[name]) is not None:
                raise CheckpointError(f"{folder}: no weights of variant {self.variant!r}, found {other}")
            stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
            raise missing_file(self.reference, f"{name}/{stem}.safetensors")
        if self.variant and f".{self.variant}." not in weights:
            warnings.warn(f"{folder}: no weights of variant {self.variant!r}, taking {weights}", stacklevel=1)
        return component_of(name, config, read_tensors(folder / weights))

    def scheduler_config(self) -> Mapping[str, Any]:
        return self._read_config("scheduler/scheduler_config.json")

    def tokenizer_folder(self) -> Path:
        return self.path / "tokenizer"

    def _read_config(self, name: str) -> Mapping[str, Any]:
        if not (self.path / name).is_file():
            raise missing_file(self.reference, name)
        return read_config(self.path / name)


class SingleFile(BaseCheckpoint):
    """A model in the original layout: one file with the weights of all components and no configs.

    Args:
        tensors: all tensors of the file.
        reference: what messages call it.
        tokenizer_folder: where its tokenizer is, or a function that finds it once it is asked for.
        prefixes: what the names of each component begin with; an own layout may lack some components.
        prediction_type: what the UNet predicts; None is epsilon for 1.x models, and for 2.x models v, unless the file
            says otherwise (a `v_pred` entry).
    """

    PREFIXES: Mapping[str, str] = {"unet": UNET_PREFIX, "vae": VAE_PREFIX, "text_encoder": CLIP_PREFIX}

    def __init__(
        self,
        tensors: TensorMapping,
        reference: str = "",
        tokenizer_folder: Path | Callable[[], Path] | None = None,
        prefixes: Mapping[str, str] = PREFIXES,
        prediction_type: PredictionType | None = None,
    ) -> None:
        self.tensors = tensors
        self.reference = reference or tensors.source
        self.prefixes = prefixes
        self._tokenizer_folder = tokenizer_folder
        self._prediction_type = prediction_type

    def component(self, name: str) -> Component:
        names = component_keys(self.tensors, self.prefixes[name])
        if name == "text_encoder" and not names and (open_clip := component_keys(self.tensors, OPEN_CLIP_PREFIX)):
            return open_clip_component(self.tensors, open_clip)
        if not names:
            raise CheckpointError(
                f"{self.reference}: holds no {name} (no name begins with {self.prefixes[name]!r}); expected a whole "
                "Stable Diffusion model in one file"
            )
        try:
            if name == "unet":
                return ldm_unet_component(self.tensors, names, sample_size=96 if self._is_v2_v() else 64)
            if name == "vae":
                return ldm_vae_component(self.tensors, names)
            return clip_component(self.tensors, names)
        except CheckpointError as error:
            raise CheckpointError(f"{self.reference}: {error}") from error

    def scheduler_config(self) -> Mapping[str, Any]:
        return {**SCHEDULER_CONFIG, "prediction_type": self._predicts()}

    def tokenizer_folder(self) -> Path:
        if self._tokenizer_folder is None:
            raise CheckpointError(f"{self.reference}: a single file carries no tokenizer; say where one is")
        return self._tokenizer_folder if isinstance(self._tokenizer_folder, Path) else self._tokenizer_folder()

    def _is_v2_v(self) -> bool:
        return self._predicts() == "v_prediction" and self._is_v2()

    def _is_v2(self) -> bool:
        return any(name.startswith(OPEN_CLIP_PREFIX) for name in self.tensors)

    def _predicts(self) -> str:
        if self._prediction_type is not None:
            return self._prediction_type
        return "v_prediction" if "v_pred" in self.tensors or self._is_v2() else "epsilon"


def open_base(
    reference: str,
    context: LoadContext,
    *,
    variant: str | None = None,
    tokenizer: str | None = None,
    prediction_type: PredictionType | None = None,
) -> BaseCheckpoint:
    """Open a model behind a reference, fetching it where it has to be; nothing is loaded yet.

    Args:
        reference: see `references.py`; a diffusers folder or a single file.
        context: where references lead.
        variant: of the weight files in a folder.
        tokenizer: reference to a tokenizer's folder, for a single file. Without it a `tokenizer` folder beside the
            file is taken, or else `DEFAULT_TOKENIZER`.
        prediction_type: of a single file, where it is not the usual one.

    Raises:
        CheckpointError: nothing is there, or it is not a model.
    """
    path = resolve_reference(reference, context, lambda names: select_model_files(names, variant))
    return base_at(path, reference, context, variant=variant, tokenizer=tokenizer, prediction_type=prediction_type)


def base_at(
    path: Path,
    reference: str,
    context: LoadContext,
    *,
    variant: str | None = None,
    tokenizer: str | None = None,
    prediction_type: PredictionType | None = None,
) -> BaseCheckpoint:
    """Open a model at a local path; arguments as in `open_base`."""
    if path.is_dir():
        if not (path / "unet").is_dir():
            raise missing_file(reference, "unet/config.json", cause=f"{path} is not a model in diffusers' layout")
        return DiffusersFolder(path, reference, variant)
    return SingleFile(
        read_tensors(path),
        reference,
        lambda: tokenizer_folder_of(path, context, tokenizer),
        prediction_type=prediction_type,
    )


def tokenizer_folder_of(path: Path, context: LoadContext, tokenizer: str | None = None) -> Path:
    """Return the folder of the tokenizer that a single file is used with, fetching it where it has to be.

    Args:
        path: the file; a `tokenizer` folder beside it is taken, or else `DEFAULT_TOKENIZER`.
        context: where references lead.
        tokenizer: reference to a tokenizer's folder, or to a model's, which is taken before both.

    Raises:
        CheckpointError: nothing is there.
    """
    beside = path.parent / "tokenizer"
    if tokenizer is None and beside.is_dir():
        return beside
    folder = resolve_reference(tokenizer or DEFAULT_TOKENIZER, context, _select_tokenizer)
    nested = folder / "tokenizer"
    return nested if nested.is_dir() else folder


def load_unet(base: BaseCheckpoint, context: LoadContext) -> UNet2DConditionModel:
    """Build and load the UNet of a model, on the device and in the dtype of the context, weights shared.

    Args:
        base: the model.
        context: device, dtype, shared weights.

    Raises:
        CheckpointError: the weights do not fit the config.
    """
    component = base.component("unet")
    with building("UNet", component.tensors.source):
        unet = build_on_meta(lambda: UNet2DConditionModel.from_config(dict(component.config)))
    return _load(unet, component, "unet", context)


def load_vae(base: BaseCheckpoint, context: LoadContext) -> AutoencoderKL:
    """Build and load the autoencoder of a model, like `load_unet`."""
    return load_vae_component(base.component("vae"), context)


def load_vae_component(component: Component, context: LoadContext) -> AutoencoderKL:
    """Build and load an autoencoder that was stored on its own."""
    with building("KL autoencoder", component.tensors.source):
        vae = build_on_meta(lambda: AutoencoderKL.from_config(dict(component.config)))
    return _load(vae, component, "vae", context)


def load_text_encoder(base: BaseCheckpoint, context: LoadContext) -> CLIPTextModel:
    """Build and load the text encoder of a model, like `load_unet`."""
    component = base.component("text_encoder")
    with building("CLIP text model", component.tensors.source):
        config = CLIPTextConfig.from_dict(dict(component.config))
        text_encoder = build_on_meta(lambda: CLIPTextModel(config))
    return _load(text_encoder, component, "text_encoder", context)


def open_vae(reference: str, context: LoadContext) -> Component:
    """Open an autoencoder on its own: its diffusers folder, a model's folder, or an original file.

    Raises:
        CheckpointError: nothing is there, or it is not an autoencoder.
    """
    path = resolve_reference(reference, context)
    if path.is_dir():
        folder = path / "vae" if (path / "vae").is_dir() else path
        weights = pick_weights([entry.name for entry in folder.iterdir()])
        if weights is None or not (folder / "config.json").is_file():
            raise missing_file(reference, "config.json" if weights else "diffusion_pytorch_model.safetensors")
        return component_of("vae", read_config(folder / "config.json"), read_tensors(folder / weights))
    tensors = read_tensors(path)
    names = component_keys(tensors, VAE_PREFIX) or {name: name for name in tensors}
    return ldm_vae_component(tensors, names)


def latent_space(unet_config: Mapping[str, Any], vae: Component) -> LatentSpace:
    """Return the latent space of an autoencoder.

    Raises:
        CheckpointError: the UNet works in another number of channels.
    """
    channels = int(vae.config["latent_channels"])
    if unet_config["in_channels"] != channels:
        raise CheckpointError(
            f"{vae.tensors.source}: this autoencoder has {channels} latent channels, the UNet takes "
            f"{unet_config['in_channels']}"
        )
    return LatentSpace(
        channels=channels,
        scale=2 ** (len(vae.config["block_out_channels"]) - 1),
        scaling_factor=float(vae.config.get("scaling_factor", 0.18215)),
        encoder_fingerprint=encoder_fingerprint(vae.tensors),
    )


def default_size(unet_config: Mapping[str, Any], scale: int) -> tuple[int, int]:
    """Return picture height and width in pixels that a UNet was trained for."""
    size = unet_config.get("sample_size") or 64
    height, width = (size, size) if isinstance(size, int) else size
    return int(height) * scale, int(width) * scale


def _load(module: Module, component: Component, name: str, context: LoadContext) -> Module:
    load_strict(module, component.tensors, context, ignore=IGNORED_KEYS[name])
    known = {(file.component, file.path) for file in context.weight_files}
    context.weight_files += [WeightFile(name, path) for path in component.tensors.files if (name, path) not in known]
    return module


def _select_tokenizer(names: Any) -> list[str]:
    wanted = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json")
    return [name for name in names if name.removeprefix("tokenizer/") in wanted]
