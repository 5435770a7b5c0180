"""Prompts against diffusers' own encoding, chunks against encoding each chunk, phrases against transformers' pooling."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

from amdm_framework.models.components import load_text_encoder, open_base
from amdm_framework.models.prompt_encoding import PromptEncoder

SHORT = "a red cat"
LONG = "a very long sentence about a red cat that sits on a mat and looks at the moon, " * 3
LONGER = LONG * 2


@pytest.fixture(scope="module")
def pipeline(tiny_folder):
    return StableDiffusionPipeline.from_pretrained(tiny_folder)


@pytest.fixture
def encoder(tiny_folder, context):
    base = open_base(str(tiny_folder), context)
    return PromptEncoder(base.tokenizer(), load_text_encoder(base, context))


@torch.inference_mode()
def test_short_prompts_are_encoded_as_by_diffusers(encoder, pipeline):
    prompts, negatives = [SHORT, "", "dog!"], ["bad", "worse", ""]
    conditional, unconditional = pipeline.encode_prompt(prompts, "cpu", 1, True, negatives)
    (group,) = encoder.encode_groups(prompts, negatives)
    assert group.rows is None
    torch.testing.assert_close(group.both, torch.cat([unconditional, conditional]), rtol=0, atol=1e-6)
    torch.testing.assert_close(group.conditional, conditional, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_long_prompts_are_encoded_chunk_by_chunk(encoder, pipeline):
    # One token per letter and no token for spaces: cut where a chunk ends, each piece is a prompt of its own.
    letters = [letter for letter in LONG if letter != " "]
    room = encoder.context_length - 2
    tokens = encoder.tokenizer(LONG, add_special_tokens=False).input_ids
    assert len(tokens) == len(letters) > 2 * room
    start, end = encoder.tokenizer.bos_token_id, encoder.tokenizer.eos_token_id
    expected = []
    for position in range(0, len(tokens), room):
        ids = [start, *tokens[position : position + room], end]
        ids += [end] * (encoder.context_length - len(ids))
        expected.append(pipeline.text_encoder(torch.tensor([ids])).last_hidden_state[0])
    (states,) = encoder.encode([LONG])
    torch.testing.assert_close(states, torch.cat(expected), rtol=0, atol=1e-6)


@torch.inference_mode()
def test_a_full_context_is_one_chunk_and_one_token_more_are_two(encoder):
    assert len(encoder.tokenize("a" * 75)) == 1
    assert len(encoder.tokenize("a" * 76)) == 2
    assert len(encoder.tokenize("")) == 1


@torch.inference_mode()
def test_prompt_and_negative_prompt_have_equal_lengths(encoder):
    (group,) = encoder.encode_groups([SHORT], [LONG])
    length = group.conditional.shape[1]
    assert group.both.shape[:2] == (2, length)
    assert length == 77 * len(encoder.tokenize(LONG))
    padding = encoder.encode([""])[0]
    torch.testing.assert_close(group.conditional[0, 77:154], padding, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_images_are_grouped_by_length_and_equal_their_single_runs(encoder):
    prompts, negatives = [SHORT, LONG, SHORT, LONGER, LONG], ["", "", LONG, "", "bad"]
    groups = encoder.encode_groups(prompts, negatives)
    assert [group.rows.tolist() for group in groups] == [[0], [1, 2, 4], [3]]
    for group in groups:
        for position, row in enumerate(group.rows.tolist()):
            (single,) = encoder.encode_groups(prompts[row : row + 1], negatives[row : row + 1])
            both = group.both[[position, len(group.rows) + position]]
            torch.testing.assert_close(both, single.both, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_without_guidance_negative_prompts_do_not_count(encoder):
    (group,) = encoder.encode_groups([SHORT, "dog"], None)
    assert group.both is None
    assert group.conditional.shape[1] == 77


@torch.inference_mode()
def test_phrases_are_pooled_at_their_first_end_token(encoder, pipeline):
    phrases = ["cat", "", "a blue bottle of water"]
    ids = pipeline.tokenizer(phrases, padding="max_length", return_tensors="pt").input_ids
    expected = pipeline.text_encoder(ids).pooler_output
    torch.testing.assert_close(encoder.pooled(phrases), expected, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_a_phrase_beyond_the_context_is_cut_with_a_warning(encoder):
    with pytest.warns(UserWarning, match="cut after 75 tokens"):
        (pooled,) = encoder.pooled([LONG])
    # The end token of the first chunk stands at its last position.
    torch.testing.assert_close(pooled, encoder.encode([LONG])[0][76], rtol=0, atol=1e-6)


@torch.inference_mode()
def test_states_and_pooled_features_of_phrases_take_one_call(encoder, monkeypatch):
    phrases = ["cat", "a blue bottle", "cat"]
    expected_states, expected_pooled = torch.stack(encoder.encode(phrases)), encoder.pooled(phrases)
    counted = []
    forward = encoder.text_encoder.forward
    monkeypatch.setattr(encoder.text_encoder, "forward", lambda ids: counted.append(len(ids)) or forward(ids))
    states, pooled = encoder.encode_phrases(phrases)
    assert counted == [2]
    assert torch.equal(states, expected_states) and torch.equal(pooled, expected_pooled)


@torch.inference_mode()
def test_equal_texts_are_encoded_once(encoder, monkeypatch):
    counted = []
    forward = encoder.text_encoder.forward
    monkeypatch.setattr(encoder.text_encoder, "forward", lambda ids: counted.append(len(ids)) or forward(ids))
    encoder.encode_groups([SHORT, SHORT, "dog"], ["", "", ""])
    assert counted == [3]
