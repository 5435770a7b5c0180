"""From interactions to grounding tokens: between boxes, Fourier features, and the network behind `position_net`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from amdm_framework.devices import device_of

SINES_AND_COSINES_OF_A_BOX = 8
"""Values per frequency: sine and cosine of four coordinates."""


def between_boxes(subject_boxes: torch.Tensor, object_boxes: torch.Tensor) -> torch.Tensor:
    """Return the boxes of the actions: per axis, the two inner ones of the four coordinates of subject and object.

    Overlapping boxes give their intersection, disjoint ones the gap between them, nested ones the inner box.

    Args:
        subject_boxes: (..., 4), left, top, right, bottom.
        object_boxes: (..., 4).
    """
    corners = torch.cat([subject_boxes, object_boxes], dim=-1).reshape(*subject_boxes.shape[:-1], 4, 2)
    return torch.sort(corners, dim=-2).values[..., 1:3, :].flatten(-2)


def fourier_features(boxes: torch.Tensor, frequencies: int) -> torch.Tensor:
    """Return sin(f x) and cos(f x) of every coordinate x for the frequencies f_k = 100^(k/K), in float32.

    The order is frequency, then sine before cosine, then coordinate. Half precision would be off by up to 0.04 at the
    highest frequency, so the features are float32 whatever the boxes are.

    Args:
        boxes: (..., 4), fractions of the picture.
        frequencies: K.

    Returns:
        (..., 8 K) float32.
    """
    exponents = torch.arange(frequencies, device=boxes.device, dtype=torch.float32) / frequencies
    angles = (100**exponents).unsqueeze(-1) * boxes.float().unsqueeze(-2)
    return torch.stack([angles.sin(), angles.cos()], dim=-2).flatten(-3)


class _EmbeddingTable(nn.Module):
    """A table of vectors, added as they are. The level exists because the weight's name is `<table>.emb.weight`."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(rows, width)


class GroundingTokenizer(nn.Module):
    """Turns up to `slots` interactions per image into three grounding tokens each.

    Module names are those of the checkpoints (`position_net.*`).

    Args:
        phrase_width: width of a phrase feature.
        token_width: width of a grounding token.
        slots: the largest number of interactions.
        frequencies: number of Fourier frequencies of a box.
        hidden_width: width of the two hidden layers.
    """

    SUBJECT, OBJECT, ACTION = 0, 1, 2  # rows of `position_embedding`

    def __init__(
        self, phrase_width: int, token_width: int, slots: int = 30, frequencies: int = 8, hidden_width: int = 512
    ) -> None:
        super().__init__()
        self.phrase_width = phrase_width
        self.slots = slots
        self.frequencies = frequencies
        box_width = frequencies * SINES_AND_COSINES_OF_A_BOX
        self.linears = _token_network(phrase_width + box_width, hidden_width, token_width)
        self.linear_action = _token_network(phrase_width + box_width, hidden_width, token_width)
        self.null_positive_feature = nn.Parameter(torch.zeros(phrase_width))
        self.null_action_feature = nn.Parameter(torch.zeros(phrase_width))
        self.null_position_feature = nn.Parameter(torch.zeros(box_width))
        self.interaction_embedding = _EmbeddingTable(slots, token_width)
        self.position_embedding = _EmbeddingTable(3, token_width)

    @classmethod
    def for_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> GroundingTokenizer:
        """Return a tokenizer of the sizes that the shapes of stored weights imply.

        Args:
            shapes: shapes by name, without `position_net.`; the embedding tables, the null features and the first and
                last weight of `linears` must be among them.
        """
        return cls(
            phrase_width=shapes["null_positive_feature"][0],
            token_width=shapes["linears.4.weight"][0],
            slots=shapes["interaction_embedding.emb.weight"][0],
            frequencies=shapes["null_position_feature"][0] // SINES_AND_COSINES_OF_A_BOX,
            hidden_width=shapes["linears.0.weight"][0],
        )

    def forward(
        self,
        subject_boxes: torch.Tensor,
        object_boxes: torch.Tensor,
        masks: torch.Tensor,
        subject_positive_embeddings: torch.Tensor,
        object_positive_embeddings: torch.Tensor,
        action_positive_embeddings: torch.Tensor,
    ) -> torch.Tensor:
        """Return grounding tokens.

        Args:
            subject_boxes: (B, N, 4) left, top, right, bottom as fractions; N is at most `slots`.
            object_boxes: (B, N, 4).
            masks: (B, N), 1 where a slot is in use. What an unused slot holds has no influence.
            subject_positive_embeddings: (B, N, phrase width).
            object_positive_embeddings: (B, N, phrase width).
            action_positive_embeddings: (B, N, phrase width).

        Returns:
            (B, 3 N, token width): N subjects, N actions, N objects.
        """
        used = masks.bool().unsqueeze(-1)
        # Called rather than indexed: the tables of an offloaded network arrive with the call.
        slot_embeddings = self.interaction_embedding.emb(torch.arange(masks.shape[1], device=masks.device))
        role_embeddings = self.position_embedding.emb(torch.arange(3, device=masks.device))
        dtype = self.null_position_feature.dtype

        def tokens(
            network: nn.Module, boxes: torch.Tensor, phrases: torch.Tensor, null_phrase: torch.Tensor, role: int
        ) -> torch.Tensor:
            position = fourier_features(boxes, self.frequencies).to(dtype)
            position = torch.where(used, position, self.null_position_feature)
            phrase = torch.where(used, phrases.to(dtype), null_phrase)
            token: torch.Tensor = network(torch.cat([phrase, position], dim=-1))
            return token + slot_embeddings + role_embeddings[role]

        null_phrase, null_action = self.null_positive_feature, self.null_action_feature
        action_boxes = between_boxes(subject_boxes, object_boxes)
        subjects = tokens(self.linears, subject_boxes, subject_positive_embeddings, null_phrase, self.SUBJECT)
        actions = tokens(self.linear_action, action_boxes, action_positive_embeddings, null_action, self.ACTION)
        objects = tokens(self.linears, object_boxes, object_positive_embeddings, null_phrase, self.OBJECT)
        return torch.cat([subjects, actions, objects], dim=1)

    def null_tokens(self) -> torch.Tensor:
        """Return the (1, 3 slots, token width) tokens of no interaction at all: distinct and not zero."""
        device = device_of(self.linears)
        boxes = torch.zeros(1, self.slots, 4, device=device)
        phrases = torch.zeros(1, self.slots, self.phrase_width, device=device)
        unused = torch.zeros(1, self.slots, device=device)
        tokens: torch.Tensor = self(boxes, boxes, unused, phrases, phrases, phrases)
        return tokens


def _token_network(input_width: int, hidden_width: int, token_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(input_width, hidden_width),
        nn.SiLU(),
        nn.Linear(hidden_width, hidden_width),
        nn.SiLU(),
        nn.Linear(hidden_width, token_width),
    )
