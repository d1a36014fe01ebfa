import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from safety.base import GuardBroken, GuardMissing
from safety.classifier import load_guard
from safety.encoder import Encoder, EncoderConfig, Int8Linear, int8_works
from safety.encoder_model import EncoderModel, packed, unpacked
from tests.safety.device import Device

SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 256, "head_size": 16,
}  # fmt: skip
CONFIG = EncoderConfig(**SHAPE, num_categories=3)


def tiny_tokenizer() -> Tokenizer:
    letters = "abcdefghijklmnop"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *("##" + c for c in letters)]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


@pytest.fixture
def net() -> Encoder:
    torch.manual_seed(0)
    return Encoder(CONFIG).eval()


@pytest.fixture
def folder(tiny_guard: Path, net: Encoder) -> Path:
    """A guard with an encoder."""
    save_file(packed(net.state_dict()), tiny_guard / "encoder.safetensors")
    tiny_tokenizer().save(str(tiny_guard / "tokenizer.json"))
    path = tiny_guard / "config.json"
    config = json.loads(path.read_text())
    config["encoder"] = SHAPE
    config["mixes"]["en prompt"]["encoder"] = 1.0
    path.write_text(json.dumps(config))
    return tiny_guard


def test_int8_linear_is_close_to_exact():
    torch.manual_seed(1)
    exact = torch.nn.Linear(64, 48)
    state = packed({"layers.x.weight": exact.weight.detach()})
    linear = Int8Linear(64, 48)
    linear.load_state_dict(
        {"weight": state["layers.x.weight"], "scale": state["layers.x.scale"], "bias": exact.bias}
    )
    x = torch.randn(2, 7, 64)
    for way in {True, not int8_works()}:
        linear.exact = way
        error = (linear(x) - exact(x)).abs().max().item()
        assert error < 0.05, (way, error)


def test_packed_weights_score_nearly_as_the_trained_ones(net):
    rounded = Encoder(CONFIG, Int8Linear).eval()
    rounded.load_state_dict(unpacked(packed(net.state_dict())))
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    with torch.inference_mode():
        for ours, theirs in zip(rounded(ids, ids * 0), net(ids, ids * 0), strict=True):
            assert torch.allclose(ours, theirs, atol=0.05)


def test_padding_changes_nothing(net):
    ids = torch.tensor([[2, 5, 6, 3]])
    longer = torch.tensor([[2, 5, 6, 3, 0, 0]])
    mask = torch.tensor([[True] * 4 + [False] * 2])[:, None, None, :]
    with torch.inference_mode():
        x = net.embed(longer, longer * 0)
        for layer in net.layers:
            x = layer(x, mask)
        for padded, alone in zip(net.head(x, mask), net(ids, ids * 0), strict=True):
            assert torch.allclose(padded, alone, atol=1e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_a_text_is_judged_beside_others_as_alone(net, exact):
    rounded = Encoder(CONFIG, Int8Linear).eval()
    rounded.load_state_dict(unpacked(packed(net.state_dict())))
    for module in rounded.modules():
        if isinstance(module, Int8Linear):
            module.exact = exact or not int8_works()
    model = EncoderModel(rounded, tiny_tokenizer())
    texts = ["a bad cab", "cab " * 90, "", "fed a bad cab", "x", "a" * 40]
    together = model.score(texts, "", is_reply=False)
    for text, beside in zip(texts, together, strict=True):
        alone = model.score([text], "", is_reply=False)[0]
        assert beside.unsafe == pytest.approx(alone.unsafe, abs=1e-4)
        assert beside.advice == pytest.approx(alone.advice, abs=1e-4)
        assert beside.categories == pytest.approx(alone.categories, abs=1e-4)


def test_checks_of_several_users_take_one_pass_and_the_same_verdicts(folder):
    device = Device()
    passes = []
    shared = load_guard(folder, device.run)
    encoder = shared._encoder
    encoder._net.register_forward_hook(lambda net, given, out: passes.append(len(given[0])))
    prompts = ["a bad cab", "feed a fed cab", "a " * 700]
    with ThreadPoolExecutor(len(prompts)) as threads:
        verdicts = [threads.submit(shared.judge, prompt) for prompt in prompts]
        device.begin(len(prompts))
        found = [verdict.result() for verdict in verdicts]
    assert passes == [4]  # the long one has three pieces, two of them the same
    for prompt, verdict in zip(prompts, found, strict=True):
        alone = load_guard(folder).judge(prompt)
        assert verdict.score == pytest.approx(alone.score, abs=1e-5)
        assert verdict.scores == pytest.approx(alone.scores, abs=1e-5)


def test_tokens_of_prompts_and_replies(net):
    model = EncoderModel(net, tiny_tokenizer())
    assert model.tokens("ab", "", is_reply=False) == ([2, 4, 21, 3], [0, 0, 0, 0])
    assert model.tokens("b", "a", is_reply=True) == ([2, 4, 3, 5, 3], [0, 0, 0, 1, 1])
    ids, segments = model.tokens("a " * 5000, "b " * 5000, is_reply=True)
    assert len(ids) == len(segments) <= CONFIG.max_position_embeddings
    assert model.tokens("[SEP]", "", is_reply=False)[0].count(3) == 1  # text stays text


def test_a_guard_with_an_encoder_judges_english_prompts_with_it(folder):
    with_encoder = load_guard(folder)
    shutil.copytree(folder, folder.parent / "without")
    path = folder.parent / "without" / "config.json"
    config = json.loads(path.read_text())
    del config["encoder"]
    path.write_text(json.dumps(config))
    without = load_guard(path.parent)
    assert with_encoder.judge("a bad cab").score != without.judge("a bad cab").score
    assert with_encoder.judge("你好").score == without.judge("你好").score
    assert with_encoder.judge("a", "bad").score == without.judge("a", "bad").score
    for text in ("", "🦙", "x" * 5000):
        assert 0 <= with_encoder.judge(text).score <= 1


@pytest.mark.parametrize("name", ["encoder.safetensors", "tokenizer.json"])
def test_missing_and_truncated_files(folder, name):
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GuardBroken, match="cannot be read"):
        load_guard(folder)
    path.unlink()
    with pytest.raises(GuardMissing, match="missing"):
        load_guard(folder)


def test_weights_that_do_not_fit(folder):
    path = folder / "encoder.safetensors"
    tensors = load_file(path)
    for change in ({"pool.bias": torch.zeros(5)}, {"pool.bias": torch.full((16,), torch.nan)}):
        save_file({**tensors, **change}, path)
        with pytest.raises(GuardBroken):
            load_guard(folder)
