"""The tokenizer: one token for each word, any text encodable, the folder readable."""

import itertools
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from amdm_shapes_zoo.architecture import MAX_TOKENS
from amdm_shapes_zoo.captions import VOCABULARY, full_description
from amdm_shapes_zoo.tokenizer import build_tokenizer, save_tokenizer
from amdm_shapes_zoo.world import sample_layouts


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer()


def test_each_word_is_one_token(tokenizer: CLIPTokenizer) -> None:
    for word in VOCABULARY:
        start, *middle, end = tokenizer(word).input_ids
        assert len(middle) == 1, word
        assert (start, end) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    identifiers = {tokenizer(word).input_ids[1] for word in VOCABULARY}
    assert len(identifiers) == len(VOCABULARY)


def test_round_trip_of_all_pairs(tokenizer: CLIPTokenizer) -> None:
    for first, second in itertools.product(VOCABULARY, repeat=2):
        text = f"{first} {second}"
        identifiers = tokenizer(text).input_ids
        assert len(identifiers) == 4
        assert tokenizer.decode(identifiers[1:-1]) == text


def test_unknown_text_is_spelt(tokenizer: CLIPTokenizer) -> None:
    identifiers = tokenizer("a zebra, 7 €").input_ids
    assert tokenizer.eos_token_id not in identifiers[:-1]


def test_captions_fit(tokenizer: CLIPTokenizer) -> None:
    layouts = sample_layouts(600, seed=3)
    captions = [full_description(layouts, index).text() for index in range(len(layouts))]
    assert max(len(tokenizer(caption).input_ids) for caption in captions) <= MAX_TOKENS


def test_folder(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    text = "a red circle on the left, pink striped background"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again.model_max_length == MAX_TOKENS
    assert (tmp_path / "vocab.json").exists() and (tmp_path / "merges.txt").exists()
