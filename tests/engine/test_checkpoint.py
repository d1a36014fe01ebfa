"""Model folders as they should be, and as an attacker or a broken download leaves them."""

import json
import os
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from engine.checkpoint import open_checkpoint
from engine.errors import CheckpointBroken, CheckpointError, CheckpointMissing, CheckpointUnsafe
from engine.folder import INDEX, SINGLE
from engine.formats.safetensors import MAX_HEADER_BYTES, read_header, read_tensor
from tests.engine.checkpoints import make_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", num_hidden_layers=1)


def test_tensors_are_read_as_the_reference_reads_them(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    expected = load_file(folder / SINGLE)
    assert checkpoint.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.read(name), tensor)
    assert checkpoint.weight_bytes == sum(t.numel() * 4 for t in expected.values())


def test_all_types_and_empty_tensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {
        "bf16": torch.randn(3, 5).bfloat16(),
        "f16": torch.randn(7).half(),
        "f64": torch.randn(2, 2).double(),
        "i8": torch.arange(-8, 8, dtype=torch.int8),
        "bool": torch.tensor([True, False]),
        "empty": torch.empty(0, 4),
        "scalar": torch.tensor(2.5),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    specs, _ = read_header(tmp_path / "x.safetensors")
    for name, tensor in tensors.items():
        assert torch.equal(read_tensor(specs[name]), tensor)


def test_the_fingerprint_follows_weights_and_tokenizer(tmp_path: Path) -> None:
    first = open_checkpoint(make_checkpoint(tmp_path / "a")).fingerprint
    assert open_checkpoint(make_checkpoint(tmp_path / "b")).fingerprint == first
    other = make_checkpoint(tmp_path / "c", seed=1)
    assert open_checkpoint(other).fingerprint != first
    tokenizer = tmp_path / "b" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("<|eot_id|>", "<|end_it|>"))
    assert open_checkpoint(tmp_path / "b").fingerprint != first


# --- files that are missing -----------------------------------------------------------------------


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMissing, match="no model folder"):
        open_checkpoint(tmp_path / "nothing")


def test_missing_weights(folder: Path) -> None:
    (folder / SINGLE).unlink()
    with pytest.raises(CheckpointMissing, match=SINGLE):
        open_checkpoint(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, num_shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointMissing, match="model-00002-of-00003"):
        open_checkpoint(folder)


def test_a_missing_index(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, num_shards=2)
    (folder / INDEX).unlink()
    with pytest.raises(CheckpointMissing, match="index"):
        open_checkpoint(folder)


def test_an_index_that_promises_too_much(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, num_shards=2)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.ghost.weight"] = "model-00001-of-00002.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointBroken, match=r"model\.ghost\.weight"):
        open_checkpoint(folder)


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, num_shards=2)
    shards = sorted(folder.glob("*.safetensors"))
    shards[1].write_bytes(shards[0].read_bytes())
    index = json.loads((folder / INDEX).read_text())
    first = {k: v for k, v in index["weight_map"].items() if v == shards[0].name}
    moved = dict(list(first.items())[:1])
    index["weight_map"] = {**first, **dict.fromkeys(moved, shards[1].name)}
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointBroken, match="two weight files"):
        open_checkpoint(folder)


# --- files that could run code, or lead elsewhere -------------------------------------------------


class Exploit:
    """Would make a directory if it were ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "weights.pt", "consolidated.00.pth", "notes.pkl", "x.CKPT"]
)
def test_pickles_are_refused_by_name(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(CheckpointUnsafe, match="run code"):
        open_checkpoint(folder)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_under_a_false_name_are_refused_unopened(
    protocol: int, folder: Path, tmp_path: Path
) -> None:
    trap = tmp_path / "sprung"
    (folder / SINGLE).write_bytes(pickle.dumps(Exploit(trap), protocol=protocol))
    with pytest.raises(CheckpointUnsafe, match="pickle"):
        open_checkpoint(folder)
    assert not trap.exists()


def test_a_torch_archive_under_a_false_name(folder: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, folder / SINGLE)
    with pytest.raises(CheckpointUnsafe, match="zip"):
        open_checkpoint(folder)


def test_a_header_of_640_bytes_is_no_pickle(tmp_path: Path) -> None:
    """Its first two bytes are those of pickle protocol 2."""
    header = json.dumps({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).ljust(640)
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", 640) + header.encode() + b"\7")
    specs, _ = read_header(tmp_path / "x.safetensors")
    assert read_tensor(specs["x"]).tolist() == [7]


def test_auto_map_is_refused(folder: Path) -> None:
    raw = json.loads((folder / "config.json").read_text())
    raw["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil"}
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointUnsafe, match="auto_map"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd.safetensors", "a/../../outside.safetensors"]
)
def test_an_index_cannot_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", num_shards=2)
    make_checkpoint(tmp_path / "other")
    (tmp_path / "outside.safetensors").write_bytes((tmp_path / "other" / SINGLE).read_bytes())
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(CheckpointUnsafe, match="leads out"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["model.bin", "evil.py", 7, None, ["a"]])
def test_an_index_names_safetensors_only(name: object, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", num_shards=2)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(CheckpointUnsafe):
        open_checkpoint(folder)


def test_a_link_cannot_lead_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    (folder / SINGLE).rename(outside)
    (folder / SINGLE).symlink_to(outside)
    with pytest.raises(CheckpointUnsafe, match="leads out"):
        open_checkpoint(folder)


def test_links_of_the_hugging_face_cache_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "models--someone--tiny"
    snapshot = make_checkpoint(root / "snapshots" / "abc")
    (root / "blobs").mkdir()
    for path in list(snapshot.iterdir()):
        path.rename(root / "blobs" / f"blob-{path.name}")
        path.symlink_to(Path("../../blobs") / f"blob-{path.name}")
    assert open_checkpoint(snapshot).read("model.norm.weight").shape == (32,)


# --- files that are damaged -----------------------------------------------------------------------


def with_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Rewrite the weight file's header in place of the sound one."""
    path = folder / SINGLE
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + length :])
    return folder


def entry(header: dict[str, Any], at: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = [value for key, value in header.items() if key != "__metadata__"][at]
    return found


def overlap(header: dict[str, Any]) -> None:
    by_place = sorted(
        (value for key, value in header.items() if key != "__metadata__"),
        key=lambda value: value["data_offsets"],
    )
    size = by_place[1]["data_offsets"][1] - by_place[1]["data_offsets"][0]
    by_place[1]["data_offsets"] = [0, size]


HEADERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "overlapping tensors": overlap,
    "a hole": lambda header: header.pop(next(key for key in header if key != "__metadata__")),
    "offsets beyond the file": lambda h: entry(h).update(data_offsets=[1 << 40, (1 << 40) + 128]),
    "offsets backwards": lambda h: entry(h).update(data_offsets=entry(h)["data_offsets"][::-1]),
    "negative offsets": lambda h: entry(h).update(data_offsets=[-128, 0]),
    "a shape that overflows": lambda h: entry(h).update(shape=[1 << 33, 1 << 33]),
    "a negative shape": lambda h: entry(h).update(shape=[-1, -32]),
    "a shape of text": lambda h: entry(h).update(shape=["32"]),
    "a shape of fractions": lambda h: entry(h).update(shape=[32.0]),
    "an unknown type": lambda h: entry(h).update(dtype="F4"),
    "a type that is no text": lambda h: entry(h).update(dtype=["F32"]),
    "an entry with more": lambda h: entry(h).update(code="import os"),
    "an entry that is no object": lambda h: h.update(x=7),
    "metadata of numbers": lambda h: h.update(__metadata__={"x": 1}),
    "metadata that is a list": lambda h: h.update(__metadata__=["x"]),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_break_the_rules(name: str, folder: Path) -> None:
    with_header(folder, HEADERS[name])
    with pytest.raises(CheckpointBroken, match=SINGLE):
        open_checkpoint(folder)


def test_a_truncated_file(folder: Path) -> None:
    content = (folder / SINGLE).read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
        (folder / SINGLE).write_bytes(content[:length])
        with pytest.raises(CheckpointBroken, match="download it again"):
            open_checkpoint(folder)


def test_a_file_with_something_behind(folder: Path) -> None:
    with (folder / SINGLE).open("ab") as file:
        file.write(b"#!/bin/sh\n")
    with pytest.raises(CheckpointBroken):
        open_checkpoint(folder)


@pytest.mark.parametrize("length", [MAX_HEADER_BYTES + 1, 1 << 62, (1 << 64) - 1])
def test_a_header_that_claims_to_be_huge_is_not_read(length: int, folder: Path) -> None:
    with (folder / SINGLE).open("r+b") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(MAX_HEADER_BYTES + 4096)  # sparse: the claim would fit the file
    with pytest.raises(CheckpointBroken, match="header claims"):
        open_checkpoint(folder)


def test_a_name_that_occurs_twice(tmp_path: Path) -> None:
    one = '"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}'
    header = f"{{{one}, {one}}}".encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\1")
    with pytest.raises(CheckpointBroken):
        read_header(tmp_path / "x.safetensors")


def test_a_file_that_shrinks_while_it_is_read(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    with (folder / SINGLE).open("r+b") as file:
        file.truncate(4000)
    with pytest.raises(CheckpointBroken, match="shorter"):
        for name in checkpoint.tensors:
            checkpoint.read(name)


def mutated(content: bytes, generator: random.Random) -> bytes:
    """Content with some bytes changed, removed or added, mostly in the header."""
    changed = bytearray(content)
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(8 + length if generator.random() < 0.9 else len(changed))
        match generator.randrange(4):
            case 0:
                changed[at] = generator.randrange(256)
            case 1:
                changed[at] ^= 1 << generator.randrange(8)
            case 2:
                del changed[at : at + generator.randint(1, 9)]
            case _:
                changed[at:at] = generator.randbytes(generator.randint(1, 9))
    return bytes(changed)


def check_mutations(folder: Path, seeds: range) -> None:
    """Whatever the reference refuses we refuse; what both read is the same."""
    path = folder / SINGLE
    content = path.read_bytes()
    refused = 0
    for seed in seeds:
        path.write_bytes(mutated(content, random.Random(seed)))
        try:
            checkpoint = open_checkpoint(folder)
        except CheckpointError as error:
            assert str(error).endswith((".", "again."))
            refused += 1
            continue
        with safe_open(path, "pt") as reference:  # must not refuse what we read
            assert set(reference.keys()) == checkpoint.tensors.keys()
            for name in reference.keys():  # noqa: SIM118 - no mapping
                ours = checkpoint.read(name).flatten().view(torch.uint8)
                theirs = reference.get_tensor(name).flatten().view(torch.uint8)
                assert torch.equal(ours, theirs)
    assert refused > len(seeds) // 2


def test_mutated_files_are_refused_or_read_exactly(folder: Path) -> None:
    check_mutations(folder, range(200))


@pytest.mark.full
def test_ten_thousand_mutated_files(folder: Path) -> None:
    check_mutations(folder, range(200, 10_200))
