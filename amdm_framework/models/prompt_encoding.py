"""Prompts of any length to the text states a UNet attends to, and phrases to pooled features."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import CLIPTextModel

from ..devices import device_of
from ..errors import CheckpointError
from .attention import KeysAndValues, by_rows
from .rows import Rows


@dataclass(frozen=True)
class PromptGroup:
    """Images of a batch whose prompts are encoded to the same length, and which one UNet call can therefore serve.

    Attributes:
        rows: (b,) their positions in the batch; None for all, in order.
        conditional: (b, S, D) text states of the prompts.
        both: (2 b, S, D) text states of the negative prompts, then of the prompts; None without guidance.
        texts: keys and values of these states for every cross-attention of a UNet, for every kind of call of it.
    """

    rows: torch.Tensor | None
    conditional: torch.Tensor
    both: torch.Tensor | None
    texts: Mapping[Rows, Sequence[KeysAndValues]]

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the rows of a (B, ...) tensor that belong to this group."""
        return tensor if self.rows is None else tensor[self.rows]

    def states(self, rows: Rows) -> torch.Tensor:
        """Return the text states of one UNet call."""
        return rows.take(self.conditional if self.both is None else self.both, len(self.conditional))

    def select(self, positions: Sequence[int]) -> PromptGroup:
        """Return the group of some of its images, named by their positions within it."""
        images = len(self.conditional)
        if list(positions) == list(range(images)):
            return self
        chosen = torch.tensor(positions, device=self.conditional.device)
        both = None if self.both is None else torch.cat([half[chosen] for half in self.both.chunk(2)])
        texts = {}
        if self.texts:
            every = self.texts[Rows.CONDITIONAL if both is None else Rows.BOTH]
            taken = chosen if both is None else torch.cat([chosen, chosen + images])
            texts = by_rows([(keys[taken], values[taken]) for keys, values in every], len(chosen), both is not None)
        return PromptGroup(
            rows=chosen if self.rows is None else self.rows[chosen],
            conditional=self.conditional[chosen],
            both=both,
            texts=texts,
        )


class PromptEncoder:
    """A CLIP tokenizer and text model of Stable Diffusion.

    Prompts longer than the model's context (77 tokens, 75 without the two special ones) are encoded in chunks, each
    with its own start and end token, and the states are joined along the tokens. Within one image the shorter of prompt
    and negative prompt is filled with empty chunks.

    Images of one batch whose prompts need different numbers of chunks are *not* padded to each other, since more text
    states change what the UNet attends to: they form groups, so that every image equals its own single run.

    Args:
        tokenizer: a CLIP tokenizer.
        text_encoder: the text model; its last hidden state after the final norm is used.

    Raises:
        CheckpointError: the tokenizer has tokens that the text model does not know.
    """

    def __init__(self, tokenizer: Any, text_encoder: CLIPTextModel) -> None:
        last, known = max(tokenizer.get_vocab().values(), default=0), text_encoder.config.vocab_size
        if last >= known:
            raise CheckpointError(
                f"the tokenizer has token {last}, the text encoder knows {known}: they belong to two models"
            )
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.context_length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)

    def encode_groups(self, prompts: Sequence[str], negatives: Sequence[str] | None) -> list[PromptGroup]:
        """Encode the prompts of a batch; keys and values are left to who knows the UNet.

        Args:
            prompts: one per image.
            negatives: one per image, or None without guidance.
        """
        chunked = [self.tokenize(prompt) for prompt in prompts]
        negative = [self.tokenize(prompt) for prompt in negatives] if negatives is not None else [[] for _ in prompts]
        lengths = [max(len(a), len(b)) for a, b in zip(chunked, negative, strict=True)]
        empty = self.tokenize("")
        padded = [
            [chunks + empty * (length - len(chunks)) for chunks, length in zip(half, lengths, strict=True)]
            for half in (negative, chunked)
        ]
        states = self._states([chunk for half in padded for row in half for chunk in row])
        groups = []
        for length in sorted(set(lengths)):
            rows = [row for row, own in enumerate(lengths) if own == length]
            unconditional, conditional = (
                torch.stack([torch.cat([states[chunk] for chunk in half[row]]) for row in rows]) for half in padded
            )
            everything = len(rows) == len(prompts)
            groups.append(
                PromptGroup(
                    rows=None if everything else torch.tensor(rows, device=conditional.device),
                    conditional=conditional,
                    both=None if negatives is None else torch.cat([unconditional, conditional]),
                    texts={},
                )
            )
        return groups

    def encode(self, prompts: Sequence[str], *, max_chunks: int | None = None) -> list[torch.Tensor]:
        """Return (77 k, D) text states of each prompt, k the number of its chunks.

        Args:
            prompts: any number of texts.
            max_chunks: cut longer prompts, with a warning.
        """
        chunked = [self.tokenize(prompt) for prompt in prompts]
        if max_chunks is not None:
            for prompt, chunks in zip(prompts, chunked, strict=True):
                if len(chunks) > max_chunks:
                    room = max_chunks * (self.context_length - 2)
                    warnings.warn(f"cut after {room} tokens: {prompt!r}", stacklevel=2)
            chunked = [chunks[:max_chunks] for chunks in chunked]
        states = self._states([chunk for row in chunked for chunk in row])
        return [torch.cat([states[chunk] for chunk in row]) for row in chunked]

    def encode_phrases(self, phrases: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (n, 77, D) text states and (n, D) pooled features of phrases, from one call of the text encoder.

        The pooled feature is the state at the first end token after the final norm, unprojected. A phrase beyond the
        context is cut, with a warning.
        """
        states = self.encode(phrases, max_chunks=1)
        positions = [self.tokenize(phrase)[0].index(self.tokenizer.eos_token_id, 1) for phrase in phrases]
        pooled = [state[position] for state, position in zip(states, positions, strict=True)]
        return torch.stack(states), torch.stack(pooled)

    def pooled(self, phrases: Sequence[str]) -> torch.Tensor:
        """Return (n, D) pooled features of phrases, those of `encode_phrases`."""
        return self.encode_phrases(phrases)[1]

    def tokenize(self, prompt: str) -> list[tuple[int, ...]]:
        """Return the token ids of a prompt, in chunks of the model's context length."""
        ids = self.tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
        room = self.context_length - 2
        start, end, padding = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        chunks = []
        for position in range(0, max(len(ids), 1), room):
            chunk = [start, *ids[position : position + room], end]
            chunks.append(tuple(chunk + [padding] * (self.context_length - len(chunk))))
        return chunks

    def _states(self, chunks: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], torch.Tensor]:
        unique = list(dict.fromkeys(chunks))
        ids = torch.tensor(unique, device=device_of(self.text_encoder))
        states = self.text_encoder(ids).last_hidden_state
        return dict(zip(unique, states, strict=True))
