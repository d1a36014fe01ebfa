"""A small tokenizer, for all files of tests."""

import pytest
from tokenizers import Tokenizer

from training.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["Hello there, how are you? I am fine, thank you."] * 9, 400)
