"""Search over titles and every message, in English and Chinese."""

import pytest

from storage.records import OWNER_ID, Hit
from storage.search import match_string
from storage.store import Store
from storage.text import SPLIT, search_body
from tests.storage import make


@pytest.fixture
def key(store: Store) -> str:
    return store.create_conversation(OWNER_ID, title="Animals").key


def _marked(hit: Hit) -> list[str]:
    return [hit.snippet[start:end] for start, end in hit.marks]


def test_words_beginnings_and_accents(store: Store, key: str) -> None:
    turn = make.turn(store, key, "Où est la bibliothèque?", "Over there.")
    for words in ("bibliotheque", "BIBLIOTHÈQUE", "biblio", "la biblio", "ou est"):
        (hit,) = store.search(OWNER_ID, words)
        assert hit.message_id == turn.prompt.id
        assert hit.role == "user"
        assert hit.conversation_key == key
    assert _marked(store.search(OWNER_ID, "la biblio")[0]) == ["la", "bibliothèque"]
    assert store.search(OWNER_ID, "biblio la") == [], "only the last word is a beginning"
    assert store.search(OWNER_ID, "est nowhere") == []


def test_chinese_words_of_one_two_and_three_characters(store: Store, key: str) -> None:
    turn = make.turn(store, key, "我在学习机器学习 with Python，很有意思。", "好")
    for words, marks in (
        ("学", ["学", "学"]),
        ("学习", ["学习", "学习"]),
        ("机器学习", ["机器学习"]),
        ("习机", ["习机"]),
        ("python 学习", ["学习", "学习", "Python"]),
    ):
        (hit,) = store.search(OWNER_ID, words)
        assert hit.message_id == turn.prompt.id
        assert sorted(_marked(hit)) == sorted(marks)
        assert "机器学习 with Python，" in hit.snippet
    assert store.search(OWNER_ID, "习学") == []
    assert store.search(OWNER_ID, "器机") == []


def test_mixed_words_and_japanese(store: Store, key: str) -> None:
    make.turn(store, key, "GPU显存不够", "ラマはどこですか")
    assert len(store.search(OWNER_ID, "gpu显存")) == 1
    assert len(store.search(OWNER_ID, "ラマ")) == 1
    assert len(store.search(OWNER_ID, "はどこ")) == 1


def test_newest_first_with_titles_and_other_branches(store: Store, key: str) -> None:
    old = make.turn(store, key, "llama one", "x")
    other = make.turn(store, key, "llama two", "a llama reply")
    store.rename(OWNER_ID, key, "About a llama")
    store.select_version(OWNER_ID, key, old.prompt.id)
    hits = store.search(OWNER_ID, "llama")
    assert [hit.message_id for hit in hits] == [
        None,
        other.reply.id,
        other.prompt.id,
        old.prompt.id,
    ]
    assert hits[0].role is None
    assert {hit.conversation_title for hit in hits} == {"About a llama"}
    assert store.search(OWNER_ID, "Animals") == [], "the old title is gone from the index"
    assert len(store.search(OWNER_ID, "llama", limit=2)) == 2


def test_trashed_conversations_are_left_out(store: Store, key: str) -> None:
    make.turn(store, key, "llama", "x")
    store.trash(OWNER_ID, key)
    assert store.search(OWNER_ID, "llama") == []
    store.restore(OWNER_ID, key)
    assert len(store.search(OWNER_ID, "llama")) == 1


def test_a_reply_is_found_once_it_is_finished_with_all_its_text(store: Store, key: str) -> None:
    turn = make.turn(store, key, "x", None)
    store.append(turn.reply.id, "alpha")
    make.flush(store)
    assert store.search(OWNER_ID, "alpha") == []
    make.finish(store, turn.reply.id, " beta", status="stopped")
    assert len(store.search(OWNER_ID, "alpha beta")) == 1
    store.resume_reply(OWNER_ID, key, reply_id=turn.reply.id)
    make.finish(store, turn.reply.id, " gamma")
    assert len(store.search(OWNER_ID, "alpha beta gamma")) == 1


HOSTILE = [
    '"', '""', "'", "*", "-x", "OR", "AND", "NOT", "NEAR(a b)", "(", ")", "a OR b", 'a" OR "b',
    '" OR scope : "u2', 'x" AND {scope} : "u2"', "scope:u2", "{body scope} : u2", "^a", "a*b*",
    ":", "col:x", "\x00", "a\x00b", "\x1f", "\x02a\x03", "\ud800", "…", "🦙", "%", "_", "--", ";",
    "\\", "𝔘𝔫𝔦", "a" * 100_000, "w " * 10_000, "学" * 1000, "", " \t\n",
]  # fmt: skip


@pytest.mark.parametrize("words", HOSTILE, ids=lambda text: repr(text[:16]))
def test_whatever_is_typed_searches_words_and_stays_in_its_scope(
    store: Store, key: str, words: str
) -> None:
    stranger = make.add_user(store, "stranger")
    theirs = store.create_conversation(stranger).key
    make.turn(store, theirs, "a b x u2 OR NOT col body scope 学", "a b", user_id=stranger)
    assert store.search(OWNER_ID, words) == []
    assert all(hit.conversation_key == theirs for hit in store.search(stranger, words))


def test_operators_are_words(store: Store, key: str) -> None:
    make.turn(store, key, "this OR that", "either")
    assert len(store.search(OWNER_ID, "this OR that")) == 1
    assert store.search(OWNER_ID, "this AND that") == []
    assert store.search(OWNER_ID, "this OR either") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("hi", '{body} : ("hi" *) AND {scope} : "u7"'),
        ("say hi", '{body} : ("say" AND "hi" *) AND {scope} : "u7"'),
        ("a", '{body} : ("a") AND {scope} : "u7"'),
        ('x"y', '{body} : ("x""y" *) AND {scope} : "u7"'),
        ("机器", f'{{body}} : ("{SPLIT}机{SPLIT}器{SPLIT}") AND {{scope}} : "u7"'),
        ("-- hi --", '{body} : ("hi" *) AND {scope} : "u7"'),
        ("?!", ""),
    ],
)
def test_match_strings(words: str, expected: str) -> None:
    assert match_string(7, words) == expected


def test_the_search_body_only_adds_splits() -> None:
    text = "a学习b\n\x1f🦙かな\x00"
    body = search_body(text)
    assert body == f"a{SPLIT}学{SPLIT}习{SPLIT}b  🦙{SPLIT}か{SPLIT}な{SPLIT} "
    assert body.replace(SPLIT, "") == "a学习b  🦙かな "


def test_a_hit_deep_in_a_long_text_shows_its_surroundings(store: Store, key: str) -> None:
    make.turn(store, key, "start " + "filler " * 5000 + "needle in hay " + "filler " * 5000, "x")
    (hit,) = store.search(OWNER_ID, "needle")
    assert "needle in hay" in hit.snippet
    assert _marked(hit) == ["needle"]
    assert len(hit.snippet) < 400
