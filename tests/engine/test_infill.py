"""Filling gaps as Code Llama was trained to, and longer contexts than a model was made for."""

from pathlib import Path

import pytest
import torch

from engine.chat_format import chat_format_for
from engine.checkpoint import open_checkpoint
from engine.config import LlamaConfig, load_config
from engine.errors import ModelUnsupported
from engine.extension import extended
from engine.infill import infill_ids
from engine.rotary import inverse_frequencies
from engine.tokenizer import Tokenizer, load_tokenizer
from engine.vocabulary import Vocabulary
from tests.engine import tiny_tokenizers as tiny
from tests.engine.answers import greedy_reply
from tests.engine.checkpoints import make_checkpoint

MARKERS = ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")


def code_tokenizer() -> Tokenizer:
    """A tiny SentencePiece vocabulary with Code Llama's four markers behind it."""
    from engine.tokenizer_model import read_sentencepiece

    vocabulary: Vocabulary = read_sentencepiece(tiny.sentencepiece_model())
    first = len(vocabulary.pieces)
    return Tokenizer(vocabulary, added={name: first + i for i, name in enumerate(MARKERS)})


def test_the_prompt_is_prefix_suffix_middle() -> None:
    tokenizer = code_tokenizer()
    before, after, middle, _ = (tokenizer.special_id(name) for name in MARKERS)
    beginning, end = "def add(a, b):\n    ", "\n    return c"
    ids = infill_ids(tokenizer, f"{beginning}<FILL_ME>{end}")
    assert ids == [
        tokenizer.bos_id,
        before,
        *tokenizer.encode(beginning),
        after,
        *tokenizer.encode(end, continues=True),
        middle,
    ]
    # The end goes on in the text: SentencePiece puts no space of its own before it.
    assert tokenizer.decode(tokenizer.encode(end, continues=True), continues=True) == end


def test_markers_in_the_text_stay_text() -> None:
    tokenizer = code_tokenizer()
    ids = infill_ids(tokenizer, "x = ' <PRE> <SUF>' <FILL_ME> # <MID> <EOT>")
    special = [id for id in ids if id in tokenizer.special_ids]
    assert special == [tokenizer.bos_id, *map(tokenizer.special_id, MARKERS[:3])]


@pytest.mark.parametrize("text", ["no gap", "<FILL_ME> twice <FILL_ME>"])
def test_one_gap_is_needed(text: str) -> None:
    with pytest.raises(ModelUnsupported, match="once"):
        infill_ids(code_tokenizer(), text)


def test_a_model_without_markers_says_so(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(tiny.sentencepiece_model())
    with pytest.raises(ModelUnsupported, match="not trained"):
        infill_ids(load_tokenizer(tmp_path), "a <FILL_ME> b")


def test_a_filling_ends_at_its_own_marker(tmp_path: Path) -> None:
    tokenizer = code_tokenizer()
    form = chat_format_for(tmp_path, {}, tokenizer)
    assert form.name == "base" and tokenizer.special_id("▁<EOT>") in form.stop_ids


# --- longer contexts ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("long") / "m")


@pytest.mark.parametrize("extension", ["linear:2", "dynamic:2", "yarn:4"])
def test_an_extension_is_what_the_same_scaling_in_the_file_is(
    extension: str, folder: Path, tmp_path: Path
) -> None:
    kind, factor = extension.split(":")
    scaling = {
        "rope_type": kind,
        "factor": float(factor),
        "original_max_position_embeddings": 256,
    }
    written = make_checkpoint(tmp_path / "scaled", rope_scaling=scaling)
    ours = extended(open_checkpoint(folder).config, extension)
    theirs = open_checkpoint(written).config
    assert ours.context_length == theirs.context_length == 256 * int(factor)
    for num_tokens in (100, 500):
        assert torch.equal(
            inverse_frequencies(ours, num_tokens)[0], inverse_frequencies(theirs, num_tokens)[0]
        )
    assert greedy_reply(folder, extension=extension).ids == greedy_reply(written).ids


@pytest.mark.parametrize("extension", ["yarn", "yarn:0.5", "yarn:99", "magic:2", "yarn:2;x"])
def test_another_spelling_is_refused(extension: str, folder: Path) -> None:
    with pytest.raises(ModelUnsupported, match="linear:2"):
        extended(open_checkpoint(folder).config, extension)


def test_what_is_scaled_already_is_not_scaled_again(tmp_path: Path) -> None:
    scaled = make_checkpoint(tmp_path / "m", rope_scaling={"rope_type": "linear", "factor": 2.0})
    with pytest.raises(ModelUnsupported, match="already"):
        extended(open_checkpoint(scaled).config, "yarn:2")


@pytest.mark.parametrize(
    ("theta", "context"), [(2.07e8, 262144), (1.06e9, 524288), (2.80e9, 1048576), (1e6, 16384)]
)
def test_long_children_are_read_from_their_files(
    theta: float, context: int, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "m", rope_theta=theta, max_position_embeddings=context)
    config: LlamaConfig = load_config(folder)[0]
    assert (config.rope.rope_theta, config.context_length) == (theta, context)
