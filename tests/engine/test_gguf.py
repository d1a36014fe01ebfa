"""GGUF files: every storage type as gguf-py reads it, and the same answers as the safetensors."""

import json
import random
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from engine.chat_format import chat_format_for
from engine.checkpoint import Checkpoint, open_checkpoint
from engine.errors import CheckpointBroken, CheckpointError, CheckpointMissing, ModelUnsupported
from engine.formats.ggml import KINDS, dequantize, regroup
from engine.formats.gguf import read_gguf
from engine.kv_cache import Slot
from engine.llama import Llama
from engine.loading import choose_precision
from engine.local import LocalEngine
from engine.quantize import Precision
from engine.rotary import inverse_frequencies
from engine.tokenizer import load_tokenizer
from engine.weights import load_llama
from tests.engine import tiny_tokenizers as tiny
from tests.engine.answers import greedy_reply
from tests.engine.checkpoints import make_checkpoint
from tests.engine.gguf_files import write_gguf

CPU = torch.device("cpu")
Type = gguf.GGMLQuantizationType
BLOCK_TYPES = [number for number, kind in KINDS.items() if kind.expand is not None]


def load(checkpoint: Checkpoint, precision: Precision = "fp32") -> Llama:
    return load_llama(checkpoint, precision, CPU)


def write(model: Llama, ids: list[int], num_new: int = 24) -> list[int]:
    slot, new = Slot(model.cache_shape), []
    for _ in range(num_new):
        model.make_room(slot, slot.length + len(ids))
        new.append(int(model.forward(ids, [(slot, len(ids))])[0].argmax()))
        ids = new[-1:]
    return new


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(
        tmp_path_factory.mktemp("gguf") / "model",
        hidden_size=64,
        intermediate_size=128,
        head_dim=16,
    )


# --- storage types --------------------------------------------------------------------------------


def random_blocks(number: int, num_blocks: int, seed: int) -> np.ndarray:
    """Random bytes whose float16 scales are ordinary numbers."""
    kind = KINDS[number]
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (num_blocks, kind.num_bytes), dtype=np.uint8)
    places = {
        "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
        "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    }[kind.name]  # fmt: skip
    for at in places:
        scales = rng.normal(0, 0.05, num_blocks).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(num_blocks, 2)
    return blocks


@pytest.mark.parametrize("number", BLOCK_TYPES, ids=lambda n: KINDS[n].name)
def test_every_block_type_is_read_as_gguf_py_reads_it(number: int) -> None:
    kind, blocks = KINDS[number], random_blocks(number, 300, seed=number)
    expected = gguf.quants.dequantize(blocks, Type(number)).reshape(-1)
    shape = (100, 3 * kind.num_weights)
    ours = dequantize(torch.from_numpy(blocks).view(-1), kind, shape)
    assert torch.equal(ours, torch.from_numpy(expected.copy()).view(shape))


def test_the_sizes_are_those_of_gguf_py() -> None:
    for number, kind in KINDS.items():
        assert gguf.GGML_QUANT_SIZES[Type(number)] == (kind.num_weights, kind.num_bytes)
        assert Type(number).name == kind.name


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q4_K"])
def test_four_bit_groups_are_the_stored_ones(name: str) -> None:
    number = Type[name].value
    kind, blocks = KINDS[number], random_blocks(number, 64, seed=3)
    shape = (64, kind.num_weights)
    content = torch.from_numpy(blocks).view(-1)
    grouped, expected = regroup(content, kind, shape), dequantize(content, kind, shape)
    assert grouped is not None and grouped.values.max() == 15
    torch.testing.assert_close(grouped.expand(), expected, rtol=1e-5, atol=1e-5)
    values, scale_zero = grouped.packed()
    # What int4 keeps differs from the file by the rounding of scales to bfloat16 alone.
    assert torch.equal(values, grouped.values.to(torch.int32))
    assert torch.equal(scale_zero[..., 0].T, grouped.scale.bfloat16())


# --- the same model -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_plain_types_give_the_same_tokens_as_the_folder(
    name: str, folder: Path, tmp_path: Path
) -> None:
    path = write_gguf(folder, tmp_path / f"{name}.gguf", Type[name])
    ids = [256, 72, 101, 108, 108, 111]
    model, reference = load(open_checkpoint(path)), load(open_checkpoint(folder))
    if name == "F32":
        slots = [Slot(each.cache_shape) for each in (model, reference)]
        for each, slot in zip((model, reference), slots, strict=True):
            each.make_room(slot, len(ids))
        ours = model.forward(ids, [(slots[0], len(ids))], every=True)
        assert torch.equal(ours, reference.forward(ids, [(slots[1], len(ids))], every=True))
    assert write(model, ids) == write(reference, ids)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_quantized_files_compute_what_gguf_py_dequantizes(
    name: str, folder: Path, tmp_path: Path
) -> None:
    """The exact reference: the same folder with gguf-py's dequantized weights in it."""
    from safetensors.torch import load_file, save_file

    path = write_gguf(folder, tmp_path / f"{name}.gguf", Type[name])
    plain = tmp_path / "plain"
    make_checkpoint(plain, hidden_size=64, intermediate_size=128, head_dim=16)
    weights = {}
    for key, tensor in load_file(folder / "model.safetensors").items():
        if tensor.dim() == 2:
            stored = gguf.quants.quantize(tensor.numpy(), Type[name])
            tensor = torch.from_numpy(gguf.quants.dequantize(stored, Type[name]).copy())
        weights[key] = tensor
    save_file(weights, plain / "model.safetensors")
    ids = [256, 72, 101, 108, 108, 111]
    assert write(load(open_checkpoint(path)), ids) == write(load(open_checkpoint(plain)), ids)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1"])
def test_int4_keeps_the_values_of_the_file(name: str, folder: Path, tmp_path: Path) -> None:
    """Closer to the file than quantizing its weights once more would be."""
    checkpoint = open_checkpoint(write_gguf(folder, tmp_path / "x.gguf", Type[name]))
    assert choose_precision(checkpoint.config, CPU) == "int4"
    exact, kept = load(checkpoint), load(checkpoint, "int4")
    packed = kept.blocks[0].attention.qkv.matrix
    dense = exact.blocks[0].attention.qkv.matrix
    unit = torch.eye(64)
    # bfloat16 scales: a relative error of 2⁻⁹ of the largest value of a group, and of the zero.
    torch.testing.assert_close(packed(unit), dense(unit), rtol=0.02, atol=0.02)


def test_llama3_scaling_comes_from_the_factors_in_the_file(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }  # fmt: skip
    folder = make_checkpoint(tmp_path / "m", rope_scaling=scaling)
    config = open_checkpoint(folder).config
    plain = make_checkpoint(tmp_path / "plain")
    factors = (
        inverse_frequencies(open_checkpoint(plain).config, 0)[0]
        / (inverse_frequencies(config, 0)[0])
    )
    path = write_gguf(folder, tmp_path / "m.gguf", rope_factors=factors.tolist())
    checkpoint = open_checkpoint(path)
    assert checkpoint.config.rope.rope_type == "factors"
    torch.testing.assert_close(
        inverse_frequencies(checkpoint.config, 0)[0], inverse_frequencies(config, 0)[0]
    )
    ids = [256, *range(60)]
    assert write(load(checkpoint), ids) == write(load(open_checkpoint(folder)), ids)


def test_the_engine_answers_from_a_file_as_from_the_folder(folder: Path, tmp_path: Path) -> None:
    path = write_gguf(folder, tmp_path / "tiny.gguf")
    expected, reply = greedy_reply(folder), greedy_reply(path)
    assert reply.ids == expected.ids and reply.text == expected.text
    assert reply.info.model == "tiny" and reply.info.chat


def test_a_model_in_several_files_is_one(folder: Path, tmp_path: Path) -> None:
    whole = write_gguf(folder, tmp_path / "whole.gguf")
    file = read_gguf(whole)
    names = list(file.tensors)
    for number, part in enumerate((names[:9], names[9:]), start=1):
        writer = gguf.GGUFWriter(tmp_path / f"m-{number:05d}-of-00002.gguf", "llama")
        for field in gguf.GGUFReader(whole).fields.values():
            if number == 1 and not field.name.startswith(("GGUF.", "general.architecture")):
                sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
        writer.add_key_value("split.count", 2, gguf.GGUFValueType.UINT16)
        for name in part:
            writer.add_tensor(name, file.tensors[name].read().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    first = open_checkpoint(tmp_path / "m-00001-of-00002.gguf")
    assert first.tensors.keys() == open_checkpoint(whole).tensors.keys()
    ids = [256, 72, 101]
    assert write(load(first), ids) == write(load(open_checkpoint(whole)), ids)
    with pytest.raises(CheckpointMissing, match="-00001-of-00002"):
        open_checkpoint(tmp_path / "m-00002-of-00002.gguf")
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(CheckpointMissing, match="m-00002-of-00002"):
        open_checkpoint(tmp_path / "m-00001-of-00002.gguf")


# --- the tokenizer in the file --------------------------------------------------------------------


def spm_file(path: Path, model: bytes) -> Path:
    """A GGUF file with the pieces of a SentencePiece model and no weights."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    writer = gguf.GGUFWriter(path, "llama")
    ids = range(processor.vocab_size())
    kinds = [
        gguf.TokenType.UNKNOWN
        if processor.is_unknown(id)
        else gguf.TokenType.CONTROL
        if processor.is_control(id)
        else gguf.TokenType.BYTE
        if processor.is_byte(id)
        else gguf.TokenType.NORMAL
        for id in ids
    ]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([processor.id_to_piece(id) for id in ids])
    writer.add_token_scores([processor.get_score(id) for id in ids])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


TEXTS = [*tiny.SENTENCES, " two  spaces ", "\n\n\tx", "<s> </s> <0x41>", "emoji 🦙 né", "a" * 50]


def test_sentencepiece_pieces_cut_text_as_the_model_file_does(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(tiny.sentencepiece_model())
    expected = load_tokenizer(tmp_path)
    ours = load_tokenizer(spm_file(tmp_path / "x.gguf", tiny.sentencepiece_model()))
    assert (ours.bos_id, ours.eos_id) == (expected.bos_id, expected.eos_id)
    for text in TEXTS:
        assert ours.encode(text) == expected.encode(text)
        assert ours.decode(ours.encode(text)) == text


def test_byte_level_pieces_cut_text_as_the_json_file_does(folder: Path, tmp_path: Path) -> None:
    ours, expected = load_tokenizer(write_gguf(folder, tmp_path / "x.gguf")), load_tokenizer(folder)
    assert (ours.bos_id, ours.eos_id) == (expected.bos_id, expected.eos_id)
    assert ours.special_ids == expected.special_ids
    for text in TEXTS:
        assert ours.encode(text) == expected.encode(text)
        assert ours.decode(ours.encode(text)) == text


def test_the_template_in_the_file_decides_the_chat_format(folder: Path, tmp_path: Path) -> None:
    path = write_gguf(folder, tmp_path / "x.gguf")
    form = chat_format_for(path, open_checkpoint(path).raw_config, load_tokenizer(path))
    reference = chat_format_for(folder, open_checkpoint(folder).raw_config, load_tokenizer(folder))
    assert form.name == reference.name == "llama-3"
    messages: Any = [{"role": "user", "content": "Hi <|eot_id|>"}]
    assert form.render(messages) == reference.render(messages)
    assert form.stop_ids == reference.stop_ids


def test_recorded_ids_of_the_real_vocabulary(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "llama" / "ggml-vocab-llama-spm.gguf")
    rows = json.loads((shared_data / "llama" / "tokenizer_vectors.json").read_text())
    rows = rows["cases"] if isinstance(rows, dict) else rows
    assert len(rows) == 47
    for row in rows:
        assert tokenizer.encode(row["text"]) == row["llama2_ids_no_bos"]


# --- files as they should not be ------------------------------------------------------------------


def header(num_tensors: int, *entries: bytes, version: int = 3, rest: bytes = b"") -> bytes:
    count = struct.pack("<IQQ", version, num_tensors, len(entries))
    return b"GGUF" + count + b"".join(entries) + rest


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def tensor(name: str, shape: list[int], kind: int, offset: int) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + sizes + struct.pack("<IQ", kind, offset)


HOSTILE: dict[str, tuple[bytes, type[CheckpointError], str]] = {
    "empty": (b"", CheckpointBroken, "ends inside"),
    "another format": (b"ggml" + bytes(40), CheckpointBroken, "does not begin"),
    "version 1": (header(0, version=1), ModelUnsupported, "version 1"),
    "big-endian": (header(0, version=3 << 24), ModelUnsupported, "big-endian"),
    "a million billion tensors": (header(1 << 50), CheckpointBroken, "claims"),
    "a text longer than the file": (
        header(0, struct.pack("<Q", 900) + b"x"), CheckpointBroken, "ends inside",
    ),
    "a key twice": (
        header(0, *[text("a") + struct.pack("<IB", 0, 1)] * 2), CheckpointBroken, "twice",
    ),
    "an unknown value": (header(0, text("a") + struct.pack("<I", 99)), CheckpointBroken, "type 99"),
    "a list longer than the file": (
        header(0, text("a") + struct.pack("<IIQ", 9, 4, 1 << 22)), CheckpointBroken, "ends inside",
    ),
    "a list in a list": (
        header(0, text("a") + struct.pack("<IIQ", 9, 9, 1)), CheckpointBroken, "no sense",
    ),
    "data outside the file": (
        header(1, rest=tensor("x", [32], 0, 1 << 40)), CheckpointBroken, "does not lie",
    ),
    "data out of line": (
        header(1, rest=tensor("x", [32], 0, 1) + bytes(400)), CheckpointBroken, "does not lie",
    ),
    "half a block": (
        header(1, rest=tensor("x", [33], 2, 0) + bytes(400)), CheckpointBroken, "whole blocks",
    ),
    "a shape of nothing": (
        header(1, rest=tensor("x", [0], 0, 0) + bytes(400)), CheckpointBroken, "impossible shape",
    ),
    "an unknown type": (
        header(1, rest=tensor("x", [32], 16, 0) + bytes(400)), ModelUnsupported, "number 16",
    ),
    "overlapping tensors": (
        header(2, rest=tensor("x", [32], 0, 0) + tensor("y", [32], 0, 32) + bytes(400)),
        CheckpointBroken, "overlaps",
    ),
    "an impossible alignment": (
        header(0, text("general.alignment") + struct.pack("<II", 4, 3)), CheckpointBroken, "alignm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_with_a_sentence(name: str, tmp_path: Path) -> None:
    content, error, words = HOSTILE[name]
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(error, match=words):
        read_gguf(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("general.architecture", "qwen2"), ("llama.expert_count", 8), ("tokenizer.ggml.pre", "odd")],
)
def test_another_kind_of_model_is_said(key: str, value: Any, folder: Path, tmp_path: Path) -> None:
    path = write_gguf(folder, tmp_path / "x.gguf")
    content = path.read_bytes()
    if key == "llama.expert_count":
        path = write_gguf(folder, path, **{key: value})
    else:
        old = {"general.architecture": "llama", "tokenizer.ggml.pre": "llama-bpe"}[key]
        entry = text(key) + struct.pack("<I", 8)
        changed = content.replace(
            entry + text(old), entry + struct.pack("<Q", len(old)) + value.ljust(len(old)).encode()
        )
        assert changed != content
        path.write_bytes(changed)
    with pytest.raises(ModelUnsupported):
        open_checkpoint(path)
        load_tokenizer(path)


def check_mutations(seed: int, num: int, source: Path, path: Path) -> None:
    """Damaged files are refused, or read and computed with; nothing else happens."""
    rng = random.Random(seed)
    content = source.read_bytes()
    front = content.find(b"\0" * 64) if b"\0" * 64 in content else len(content) // 2
    num_loaded = 0
    for _ in range(num):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(min(front, len(changed)) or 1)
            match rng.randrange(5):
                case 0:
                    changed[at] = rng.randrange(256)
                case 1:
                    changed[at : at + 8] = struct.pack("<Q", rng.choice([0, 1, 1 << 31, 1 << 63]))
                case 2:
                    del changed[at : at + rng.choice([1, 8, 100])]
                case 3:
                    changed[at:at] = rng.randbytes(rng.choice([1, 8]))
                case _:
                    del changed[rng.randrange(len(changed)) :]
            changed = changed or bytearray(b"G")
        path.write_bytes(changed)
        try:
            checkpoint = open_checkpoint(path)
            tokenizer = load_tokenizer(path)
            for name in list(checkpoint.tensors)[:3]:
                checkpoint.read(name)
        except CheckpointError as error:
            assert str(error)
            continue
        num_loaded += 1
        assert isinstance(tokenizer.decode(tokenizer.encode("Hello <|eot_id|> é🙂")), str)
    assert num_loaded > num // 100


def test_a_sample_of_mutations(folder: Path, tmp_path: Path) -> None:
    check_mutations(1, 200, write_gguf(folder, tmp_path / "x.gguf", Type.Q4_0), tmp_path / "y.gguf")


@pytest.mark.full
def test_ten_thousand_mutations(folder: Path, tmp_path: Path) -> None:
    source = write_gguf(folder, tmp_path / "x.gguf", Type.Q4_0)
    check_mutations(2, 10_000, source, tmp_path / "y.gguf")


def test_the_engine_needs_weights_not_a_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(CheckpointBroken, match="no table of embeddings"):
        LocalEngine(spm_file(tmp_path / "x.gguf", tiny.sentencepiece_model()))
