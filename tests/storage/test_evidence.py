"""Token ids in a compact form, and evidence that damage made unreadable."""

import math

import pytest

from storage.evidence import pack_ids, unpack_ids
from storage.records import OWNER_ID, BlockRecord, CodeFinding, VerdictRecord
from storage.store import Store
from tests.storage import make


@pytest.mark.parametrize("ids", [(), (0,), (1, 128_255, 2**32 - 1), tuple(range(5000))])
def test_token_ids_come_back(ids: tuple[int, ...]) -> None:
    packed = pack_ids(ids)
    assert unpack_ids(packed) == ids
    assert len(packed) <= 4 * len(ids) + 12


@pytest.mark.parametrize("ids", [[-1], [2**32], [1.5], ["1"]])
def test_what_is_no_token_id_is_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        pack_ids(ids)


@pytest.mark.parametrize(
    ("column", "value"),
    [("token_ids", b"\xff\x00"), ("sampling", '{"temper'), ("sampling", "5"), ("seed", "12x")],
)
def test_a_message_is_read_without_what_is_unreadable_behind_it(
    store: Store, column: str, value: object
) -> None:
    key = store.create_conversation(OWNER_ID).key
    make.turn(store, key, "Hello", "Hi")
    store._writer.call(lambda db: db.execute(f"UPDATE generation SET {column} = ?", (value,)))
    reply = store.path(OWNER_ID, key)[-1]
    assert reply.content == "Hi"
    (generation,) = reply.generations
    assert generation.model == "tiny"
    assert not getattr(generation, column)


@pytest.mark.parametrize("damaged", ["[{", "5", '[{"digest": 1}]', '[{"findings": [5]}]', "{}"])
def test_a_verdict_on_code_has_its_blocks_unless_they_are_damaged(
    store: Store, damaged: str
) -> None:
    finding = CodeFinding("rule", 78, "high", 3, "It \ud800 runs.")
    blocks = (BlockRecord("00ff", "flagged", "", (finding,)), BlockRecord("ff00", "checked"))
    key = store.create_conversation(OWNER_ID).key
    turn = make.turn(store, key, "Hello", None)
    store.add_verdict(turn.prompt.id, VerdictRecord("code", "g", "1", "warn", 0.7, blocks=blocks))

    def kept() -> VerdictRecord:
        return store.message(OWNER_ID, key, turn.prompt.id).verdicts[0]

    assert kept().blocks[1] == blocks[1]
    assert kept().blocks[0].findings[0].cwe == 78
    store._writer.call(lambda db: db.execute("UPDATE verdict SET blocks = ?", (damaged,)))
    assert kept().blocks == ()
    assert kept().score == 0.7


def test_a_score_that_is_no_number_counts_as_unsafe(store: Store) -> None:
    key = store.create_conversation(OWNER_ID).key
    turn = make.turn(store, key, "Hello", None)
    store.add_verdict(turn.prompt.id, VerdictRecord("prompt", "g", "1", "block", math.nan))
    (verdict,) = store.message(OWNER_ID, key, turn.prompt.id).verdicts
    assert verdict.score == 1.0
