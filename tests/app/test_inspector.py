"""The inspector tells the truth: every row of the architecture table, parts, plot, playground."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from app.page.figures import size
from app.page.inspector import Inspector
from app.page.servers import MAX_SERVERS, Servers
from app.page.templates import Templates
from app.services import Services
from app.strings import Strings
from engine.anatomy import cache_bytes, parts
from engine.config import parse_config
from engine.errors import ServerRefused
from engine.shapes import SHAPES, shape
from tests.engine.checkpoints import make_checkpoint
from tests.engine.openai_server import ServerState, serve
from tests.engine.published import ROWS, config_of


@pytest.fixture
def templates() -> Templates:
    return Templates(Strings.load("en"))


@pytest.fixture
def inspector(services: Services, templates: Templates) -> Inspector:
    return Inspector(services, templates)


def put(services: Services, name: str, config: dict[str, Any]) -> None:
    folder = services.settings.data / "models" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_told_as_it_is(services: Services, inspector: Inspector, row: Any) -> None:
    put(services, "model", config_of(row))
    html = str(inspector.value("model")["html"])
    facts = {
        "Layers": f"{row.layers}",
        "Width": f"{row.dim:,}",
        "Feed-forward": f"{row.ffn:,}",
        "Query heads × size": f"{row.heads} × {row.dim // row.heads}",
        "Key-value heads": f"{row.kv_heads}",
        "Vocabulary": f"{row.vocab:,} ({'one table' if row.tied else 'two tables'}",
        "Context": f"{row.context:,} tokens",
        "Rotary positions": f"θ {row.theta:,.0f}"
        + (f", llama3 × {row.factor:g}</dd>" if row.factor else "</dd>"),
    }
    for name, value in facts.items():
        assert f"<dt>{name}</dt><dd>{value}" in html, name
    assert f"{row.kib:g} KiB of keys and values" in html
    if row.kib != row.kib_if_mha:
        assert f"with keys and values for every head it would be {row.kib_if_mha:g} KiB" in html
    else:
        assert "every query head has its own" in html
    # The plot ends at the whole context, with and without sharing; its lines keep the proportion.
    whole = [size(kib * 1024 * row.context) for kib in (row.kib, row.kib_if_mha)]
    assert f">{whole[0]}</text>" in html
    top = re.search(r'class="line" d="M10 160L650 ([\d.]+)"', html)
    assert top is not None
    assert 160 - float(top[1]) == pytest.approx(150 * row.kib / row.kib_if_mha, abs=0.06)
    shares = row.kib != row.kib_if_mha
    assert ('<path class="other"' in html) is shares
    assert not shares or f">{whole[1]}</text>" in html


@pytest.mark.parametrize("name", SHAPES)
def test_the_parts_are_all_of_it(name: str) -> None:
    config = shape(name)
    assert sum(part.num_parameters for part in parts(config)) == config.num_parameters
    assert ("output" in [part.name for part in parts(config)]) is not config.tie_word_embeddings


def test_the_parts_count_biases() -> None:
    raw = config_of(ROWS[0]) | {"attention_bias": True, "mlp_bias": True}
    config = parse_config(raw)
    assert sum(part.num_parameters for part in parts(config)) == config.num_parameters
    assert cache_bytes(config, 10) == cache_bytes(config, 10, multi_head=True)


def test_the_playground_cuts_as_the_engine_does(services: Services, inspector: Inspector) -> None:
    make_checkpoint(services.settings.data / "models" / "tiny")
    told = inspector.play(json.dumps(["tiny", "Hi <|eot_id|> é\n<b>"]))
    html = str(told["html"])
    assert told["into"] == "played"
    assert "&lt;b&gt;" in html.replace("<i>", "").replace("</i>", "").replace("\n", "") or (
        "<b>" not in html
    )
    assert "<small>260</small>" not in html  # the control token is not among them
    assert "&lt;C3&gt;" in html and "⏎" in html  # half a character, and a line's end
    long = inspector.play(json.dumps(["tiny", "x" * 9_000]))
    assert "4,000 characters" in str(long["html"])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '["tiny"]', '["no such model", "x"]', "[1, 2, 3]"]
)
def test_what_the_page_never_sends_is_refused(inspector: Inspector, text: str) -> None:
    assert inspector.play(text)["tone"] == "error"
    assert inspector.value(text)["tone"] == "error"


def test_servers_are_kept_with_their_keys_and_forgotten_with_them(
    services: Services, templates: Templates
) -> None:
    servers = Servers(services, templates)
    one, two = "http://gpu:8000/v1#a", "http://gpu:8000/v1#b"
    for text in (one, two, one):
        assert servers.act("keep", json.dumps([text, "secret-key"]))[1] == "info"
    assert servers.addresses() == [two, one]
    assert services.credentials.get("http://gpu:8000/v1") == "secret-key"
    assert "secret-key" not in json.dumps(services.store.settings(1))
    assert [line.about for line in servers.values(runs=False)] == [
        "What you write is sent to gpu:8000. With a key."
    ] * 2
    with serve(ServerState(key="secret-key")) as address:
        servers.act("keep", json.dumps([address, "secret-key"]))
        place = address.removeprefix("http://").removesuffix("/v1")
        assert servers.act("try", address) == (f"{place} answers. It serves: tiny (512).", "info")
        assert servers.act("try", f"{address}#other")[1] == "error"
        servers.act("remove", address)
        with pytest.raises(ServerRefused, match="wants a key"):
            servers.act("try", address)
    servers.act("remove", one)
    assert services.credentials.get("http://gpu:8000/v1") == "secret-key"  # the other needs it
    servers.act("remove", two)
    assert services.credentials.get("http://gpu:8000/v1") == ""
    assert servers.act("keep", json.dumps([one, "two words"]))[1] == "error"
    for number in range(MAX_SERVERS):
        servers.act("keep", json.dumps([f"http://gpu:{number + 1}", ""]))
    assert servers.act("keep", json.dumps(["http://last", ""]))[1] == "error"
    for damaged in ("{", "7", '["ftp://x"]', "[null]"):
        services.store.set_setting(1, "servers", damaged)
        assert servers.addresses() == []
