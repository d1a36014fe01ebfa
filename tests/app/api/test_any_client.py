"""Requests that schemathesis makes out of the API's own description: none breaks anything.

`test_malformed.py` has requests of our own making, for Gradio's routes too.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

from app.api.description import OPERATIONS, description
from app.rates import Rates
from app.routes import API
from tests.app.all_routes import all_routes
from tests.app.api.house import House
from tests.app.asgi import ask_async

SAMPLE = 25  # of each operation that takes a form
FULL = 2_000
HASTE = settings(
    database=None, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = House(tmp_path_factory.mktemp("data"))
    found.gateway.rates = Rates(burst=1e9)
    yield found
    found.services.close()


def test_the_description_is_of_what_there_is(house: House) -> None:
    told = house.get("/v1/openapi.json").json
    there = {path.replace(":path", "") for path in all_routes(house.gateway._app)}
    assert set(told["paths"]) == {path for path in there if path.startswith(API)}
    schemas = told["components"]["schemas"]
    assert schemas["ChatRequest"]["required"] == ["model", "messages"]
    assert schemas["ChatRequest"]["additionalProperties"] is False
    references = json.dumps(told).split('"$ref": "')[1:]
    for reference in references:
        assert reference.partition('"')[0].removeprefix("#/components/schemas/") in schemas


def malformed(house: House, per_operation: int) -> tuple[int, Counter[str]]:
    """Send that many of each operation that takes a form; how many, and what is wrong with them."""
    told = {**description(API), "security": []}  # every one shows a sound key
    schema = schemathesis.openapi.from_dict(told)
    wrong: Counter[str] = Counter()
    number = 0

    async def send(case: schemathesis.Case) -> None:
        nonlocal number
        body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
        headers = [
            ("authorization", f"Bearer {house.key}"),
            ("content-type", case.media_type or "application/json"),
        ]
        answer = await ask_async(house.gateway, "POST", case.path, headers=headers, body=body)
        assert answer.status < 500 and b"Traceback" not in answer.body, (case.body, answer.body)
        number += 1
        for mutation in case.meta.phase.data.mutations:
            words = " ".join((mutation.operator.value, *mutation.keywords))
            wrong[f"{case.path}: {words}"] += 1

    with asyncio.Runner() as runner:

        def every(case: schemathesis.Case) -> None:
            runner.run(send(case))

        for each in OPERATIONS:
            if each.form is not None:
                cases = schema[API + each.path][each.method].as_strategy(
                    generation_mode=schemathesis.GenerationMode.NEGATIVE
                )
                seed(8)(settings(HASTE, max_examples=per_operation)(given(cases)(every)))()
    assert house.chat().status == 200  # the same process, and it answers
    return number, wrong


def test_what_schemathesis_thinks_of_breaks_nothing(house: House) -> None:
    number, wrong = malformed(house, SAMPLE)
    assert number >= 3 * SAMPLE and len(wrong) >= 10


@pytest.mark.full
def test_what_schemathesis_thinks_of_breaks_nothing_full(house: House) -> None:
    number, wrong = malformed(house, FULL)
    print(f"{number} requests, {len(wrong)} kinds: {wrong}")
    assert number >= 3 * FULL and len(wrong) >= 25
