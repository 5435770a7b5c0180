"""InteractDiffusion's weights in every form they come in, brought to one: `checkpoint_at`, then `load_networks`.

- An original file (`interact-diffusion-v1*.pth`) holds `model.*`, the UNet with fusers and position net under LDM names;
  usually `autoencoder.*` and `text_encoder.*`; and the state of the training, which is ignored.
- An extension file (`ext_interactdiff_*.pth`) holds fusers and position net alone; the rest is that of any Stable
  Diffusion 1.x.
- A diffusers folder holds `unet/`, `vae/`, `text_encoder/`, `tokenizer/` and `scheduler/`.
- Copies: `.safetensors` of either file, the UNet of either form on its own, under names of LDM or diffusers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from amdm_framework.errors import CheckpointError
from amdm_framework.models.checkpoints import build_on_meta, load_strict
from amdm_framework.models.components import BaseCheckpoint, SingleFile, base_at, tokenizer_folder_of
from amdm_framework.models.config_checks import building
from amdm_framework.models.context import LoadContext
from amdm_framework.models.ldm_configs import unet_config_from_ldm
from amdm_framework.models.ldm_keys import component_keys, ldm_unet_key_map
from amdm_framework.models.stored_components import Component
from amdm_framework.models.tensor_files import MergedTensors, RenamedTensors, TensorMapping, read_tensors
from amdm_framework.provider import WeightFile

from .fuser import install_fusers
from .grounding_tokens import GroundingTokenizer

POSITION_NET = "position_net."
_MARK = f"{POSITION_NET}interaction_embedding.emb.weight"
_GATES = (".alpha_attn", ".alpha_dense")
_PREFIXES = {"unet": "model.", "vae": "autoencoder.", "text_encoder": "text_encoder."}
_PARTS = ("vae", "text_encoder", "tokenizer", "scheduler")

IGNORED_ENTRIES = ("diffusion.", "opt.", "scheduler.", "scaler.", "ema.", "config_dict.", "iters")
"""Entries of an original file that drawing has no use for: tables that can be recomputed, and the training's state."""


class InteractDiffusionCheckpoint(BaseCheckpoint):
    """A Stable Diffusion model whose UNet weights include fusers, and the weights of a grounding tokenizer.

    Args:
        reference: what messages call it.
        unet: config of the UNet as it is without fusers, and its weights with those of the fusers.
        grounding_tokenizer: weights of the position net, without `position_net.`.
        holders: who holds `vae`, `text_encoder`, `tokenizer` and `scheduler`.

    Raises:
        CheckpointError: the position net is incomplete, or does not fit the text encoder.
    """

    def __init__(
        self,
        reference: str,
        unet: Component,
        grounding_tokenizer: TensorMapping,
        holders: Mapping[str, BaseCheckpoint],
    ) -> None:
        self.reference = reference
        self.grounding_tokenizer = grounding_tokenizer
        self._unet = unet
        self._holders = holders
        missing = sorted(GroundingTokenizer(1, 1).state_dict().keys() - set(grounding_tokenizer))
        if missing:
            raise CheckpointError(
                f"{reference}: the position net lacks {', '.join(f'{POSITION_NET}{name}' for name in missing)}"
            )
        stored, expected = grounding_tokenizer["null_positive_feature"].shape, self._phrase_width()
        if tuple(stored) != (expected,):
            raise CheckpointError(
                f"{reference}: its position net takes phrase features of shape {list(stored)}, the text encoder of "
                f"{holders['text_encoder'].reference} makes features of shape [{expected}]; InteractDiffusion belongs to "
                "Stable Diffusion 1.x"
            )

    def component(self, name: str) -> Component:
        return self._unet if name == "unet" else self._holders[name].component(name)

    def scheduler_config(self) -> Mapping[str, Any]:
        return self._holders["scheduler"].scheduler_config()

    def tokenizer_folder(self) -> Path:
        return self._holders["tokenizer"].tokenizer_folder()

    def _phrase_width(self) -> int:
        return int(self.component("text_encoder").config["hidden_size"])


def checkpoint_at(
    path: Path,
    reference: str,
    context: LoadContext,
    *,
    base: BaseCheckpoint | None = None,
    variant: str | None = None,
    tokenizer: str | None = None,
) -> InteractDiffusionCheckpoint:
    """Open InteractDiffusion's weights at a local path; nothing is loaded yet.

    Args:
        path: a diffusers folder or a file, see the table above.
        reference: what messages call it.
        context: where references lead.
        base: lends what the file lacks.
        variant: of the weight files in a folder.
        tokenizer: reference to a tokenizer's folder, for a file; without it the base's is taken, or else the usual one.

    Raises:
        CheckpointError: these are not InteractDiffusion's weights, or a part is missing.
    """
    if path.is_dir():
        model = base_at(path, reference, context, variant=variant)
        component = model.component("unet")
        if _MARK not in component.tensors:
            raise _not_interactdiffusion(reference, component.tensors)
        position_net = RenamedTensors(component.tensors, component_keys(component.tensors, POSITION_NET))
        return InteractDiffusionCheckpoint(
            reference, _without_position_net(component), position_net, dict.fromkeys(_PARTS, model)
        )
    tensors = read_tensors(path, foreign_objects=True)
    prefix = next(
        (name.removesuffix(_MARK) for name in tensors if name.endswith(_MARK) and not name.startswith(IGNORED_ENTRIES)),
        None,
    )
    if prefix is None:
        raise _not_interactdiffusion(reference, tensors)
    others = tuple(_PREFIXES[part] for part in ("vae", "text_encoder"))
    names = {name: key for name, key in component_keys(tensors, prefix).items() if not key.startswith(others)}
    known = {*names.values(), *(key for key in tensors if key.startswith((*others, *IGNORED_ENTRIES)))}
    if surplus := [key for key in tensors if key not in known]:
        raise CheckpointError(f"{reference}: not known to InteractDiffusion: {_some(surplus)}")
    unet = _unet_of_file(tensors, names, reference, base)
    present = {part for part in ("vae", "text_encoder") if component_keys(tensors, _PREFIXES[part])}
    if base is None:
        if lacking := [part for part in ("vae", "text_encoder") if part not in present]:
            raise CheckpointError(
                f"{reference}: holds no {' and no '.join(lacking)}; name the Stable Diffusion 1.x model that lends what "
                "is missing as `base`"
            )
        present = set(_PARTS)
    elif tokenizer is not None:
        present.add("tokenizer")
    own = SingleFile(tensors, reference, lambda: tokenizer_folder_of(path, context, tokenizer), _PREFIXES)
    holders = {part: own if base is None or part in present else base for part in _PARTS}
    position_net = RenamedTensors(tensors, component_keys(tensors, f"{prefix}{POSITION_NET}"))
    return InteractDiffusionCheckpoint(reference, _without_position_net(unet), position_net, holders)


def load_networks(
    checkpoint: InteractDiffusionCheckpoint, context: LoadContext
) -> tuple[UNet2DConditionModel, GroundingTokenizer]:
    """Build and load the UNet with its fusers, and the grounding tokenizer, weights shared.

    Raises:
        CheckpointError: weights are missing, surplus or of another shape.
    """
    component = checkpoint.component("unet")
    stored = checkpoint.grounding_tokenizer
    shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    try:
        grounding_tokenizer = build_on_meta(lambda: GroundingTokenizer.for_shapes(shapes))
        token_width = shapes["linears.4.weight"][0]
    except (IndexError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint.reference}: its position net has impossible shapes ({error})") from error
    with building("UNet with fusers", checkpoint.reference):
        unet = build_on_meta(lambda: _unet_with_fusers(component.config, token_width))
    load_strict(grounding_tokenizer, stored, context)
    load_strict(unet, component.tensors, context)
    files = dict.fromkeys(component.tensors.files)
    for file in files:
        adapter = len(files) > 1 and file in stored.files
        context.weight_files.append(WeightFile("adapter" if adapter else "unet", file))
    return unet, grounding_tokenizer


def _unet_with_fusers(config: Mapping[str, Any], token_width: int) -> UNet2DConditionModel:
    unet: UNet2DConditionModel = UNet2DConditionModel.from_config(dict(config))
    install_fusers(unet, token_width)
    return unet


def _unet_of_file(
    tensors: TensorMapping, names: Mapping[str, str], reference: str, base: BaseCheckpoint | None
) -> Component:
    if base is not None:
        lent = base.component("unet")
        renamed = {new: names[old] for old, new in ldm_unet_key_map(lent.config, names).items()}
        own = RenamedTensors(tensors, renamed)
        if "conv_in.weight" in own:
            return Component(lent.config, own)
        kept = {name: name for name in lent.tensors if ".fuser." not in name and not name.startswith(POSITION_NET)}
        together = MergedTensors([RenamedTensors(lent.tensors, kept), own], f"{reference} on {base.reference}")
        return Component(lent.config, together)
    if "input_blocks.0.0.weight" not in names:
        raise CheckpointError(
            f"{reference}: holds InteractDiffusion's own layers without a whole model; name the Stable Diffusion 1.x "
            "model that they extend as `base`"
        )
    config = unet_config_from_ldm({name: tuple(tensors[key].shape) for name, key in names.items()})
    renamed = {new: names[old] for old, new in ldm_unet_key_map(config, names).items()}
    return Component(config, RenamedTensors(tensors, renamed))


def _without_position_net(unet: Component) -> Component:
    # Our own fusers and position net take the place of those that diffusers would build for this entry.
    config = {**unet.config, "attention_type": "default"}
    names = {name: name for name in unet.tensors if not name.startswith(POSITION_NET)}
    # Some writers cannot store a single number and make a vector of length 1 of it.
    gates = [name for name in names if name.endswith(_GATES) and tuple(unet.tensors[name].shape) == (1,)]
    to_number: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = dict.fromkeys(
        gates, lambda gate: gate.reshape(())
    )
    return Component(config, RenamedTensors(unet.tensors, names, to_number))


def _not_interactdiffusion(reference: str, names: Iterable[str]) -> CheckpointError:
    names = list(names)
    if any(name.endswith(f"{POSITION_NET}null_positive_feature") for name in names):
        what = "these are GLIGEN's layers, which know boxes but no interactions"
    elif any(name in ("conv_in.weight", "model.diffusion_model.input_blocks.0.0.weight") for name in names):
        what = "this is a model without InteractDiffusion's layers; give it as `base`, and their file as `checkpoint`"
    else:
        what = f"found {_some(names)}"
    return CheckpointError(f"{reference}: not a checkpoint of InteractDiffusion, it holds no {_MARK}: {what}")


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
