"""A real CLIP tokenizer over the world's small vocabulary.

As in CLIP, the vocabulary starts with the 256 byte characters and the same with an end-of-word mark, so that
any text can be encoded; merges then make one token of each of the world's words.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

from transformers import CLIPTokenizer

from amdm_shapes_zoo.architecture import MAX_TOKENS
from amdm_shapes_zoo.captions import VOCABULARY

END_OF_WORD = "</w>"
START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"


def byte_characters() -> list[str]:
    """The printable character that stands for each of the 256 bytes, in CLIP's order."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]


def apply_merges(symbols: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word: joins the neighbours of lowest rank until none can be joined."""
    while True:
        known = [(ranks[pair], place) for place, pair in enumerate(itertools.pairwise(symbols)) if pair in ranks]
        if not known:
            return symbols
        place = min(known)[1]
        symbols = [*symbols[:place], symbols[place] + symbols[place + 1], *symbols[place + 2 :]]


def merges_for(words: Iterable[str]) -> list[tuple[str, str]]:
    """Merges, in order of priority, that make one token of each word.

    Each word is encoded with the merges found so far, and what is left of it is joined from the left. Later
    merges have lower priority, so they cannot undo what earlier words came to.
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        symbols = apply_merges([*word[:-1], word[-1] + END_OF_WORD], ranks)
        while len(symbols) > 1:
            ranks[(symbols[0], symbols[1])] = len(ranks)
            symbols = [symbols[0] + symbols[1], *symbols[2:]]
    return list(ranks)


def build_tokenizer() -> CLIPTokenizer:
    """The tokenizer; `save_tokenizer` writes its folder."""
    merges = merges_for(VOCABULARY)
    return CLIPTokenizer(vocab=_token_places(merges), merges=merges, model_max_length=MAX_TOKENS)


def _token_places(merges: list[tuple[str, str]]) -> dict[str, int]:
    characters = byte_characters()
    tokens = [*characters, *(character + END_OF_WORD for character in characters)]
    tokens += [first + second for first, second in merges]
    tokens += [START_TOKEN, END_TOKEN]
    return {token: place for place, token in enumerate(dict.fromkeys(tokens))}


def save_tokenizer(folder: Path) -> None:
    """Writes the tokenizer twice: for newer libraries, and as CLIP's `vocab.json` and `merges.txt`."""
    merges = merges_for(VOCABULARY)
    build_tokenizer().save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(_token_places(merges), ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
