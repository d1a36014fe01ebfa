"""Clients that nobody here wrote: `openai`, LangChain and EleutherAI's evaluation harness."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pydantic
import pytest

from app.api.keys import Keys
from app.site import build
from engine.local import LocalEngine
from engine.options import Options
from storage.records import OWNER_ID
from tests.app.api.house import House
from tests.app.api.running import served
from tests.app.fakes import TellingEngine, WordGuard
from tests.app.house import make_services, no_page
from tests.engine.checkpoints import make_checkpoint
from tests.engine.tool_template import TEMPLATE

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "assets" / "models" / "corral-chat"
# A Python that has `langchain-openai` and `lm-eval[api]` already; without it they are installed.
CLIENTS = "TEST_CLIENTS_PYTHON"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[openai.OpenAI]:
    house = House(tmp_path, engine=TellingEngine(["Hello there, friend."]))
    with served(house.site) as address:
        yield openai.OpenAI(base_url=address, api_key=house.key, max_retries=0)
    house.services.close()


def test_the_openai_package_chats_streams_and_judges(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Say hello."}]
    whole = client.chat.completions.create(model="corral", messages=messages)  # type: ignore[arg-type]
    assert whole.choices[0].message.content == "Hello there, friend."
    assert whole.usage is not None and whole.usage.total_tokens == 10
    stream = client.chat.completions.create(model="corral", messages=messages, stream=True)  # type: ignore[arg-type]
    parts = [chunk.choices[0] for chunk in stream]
    assert "".join(part.delta.content or "" for part in parts) == "Hello there, friend."
    assert parts[-1].finish_reason == "stop"
    text = client.completions.create(model="corral", prompt="Once", max_tokens=5)
    assert text.choices[0].text == "Hello there, friend."
    assert [model.id for model in client.models.list()] == ["teller"]
    judged = client.moderations.create(input=["good", "forbidden"])
    assert [result.flagged for result in judged.results] == [False, True]


def examples(language: str) -> list[str]:
    """The code blocks of docs/api.md in one language."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_the_documented_examples_work(
    client: openai.OpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    address, key = str(client.base_url).rstrip("/"), client.api_key
    python = next(each for each in examples("python") if "from openai" in each)
    assert '"http://127.0.0.1:7860/v1"' in python and '"corral-..."' in python
    exec(python.replace("http://127.0.0.1:7860/v1", address).replace("corral-...", key), {})
    assert capsys.readouterr().out == "Hello there, friend."
    curl = next(each for each in examples("sh") if "curl" in each).replace("\\\n", "")
    words = shlex.split(curl, comments=True)
    path = next(word for word in words if word.startswith("$CORRAL")).removeprefix("$CORRAL")
    answer = httpx.post(
        address + path,
        content=words[words.index("-d") + 1],
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    assert answer.json()["choices"][0]["message"]["content"] == "Hello there, friend."


def test_the_openai_package_knows_our_errors(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Say hello."}]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="corral", messages=messages, temperature=9)  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4o", messages=messages)  # type: ignore[arg-type]
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="corral-wrong").models.list()
    blocked = client.chat.completions.create(
        model="corral", messages=[{"role": "user", "content": "the forbidden"}]
    )
    assert blocked.choices[0].finish_reason == "content_filter"


class Animal(pydantic.BaseModel):
    """What a reply of random weights must look like."""

    name: str = pydantic.Field(max_length=6)
    count: int = pydantic.Field(ge=1, le=20)
    kind: Literal["llama", "alpaca"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and key of a Corral whose model is tiny, random, and told of tools."""
    place = tmp_path_factory.mktemp("tiny")
    folder = make_checkpoint(place / "model", max_position_embeddings=4096)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    house = House(place / "data", engine=LocalEngine(folder, Options(device="cpu", threads=1)))
    with served(house.site) as address:
        yield address, house.key
    house.services.close()


def test_the_openai_package_gets_the_form_it_asks_for(tiny: tuple[str, str]) -> None:
    client = openai.OpenAI(base_url=tiny[0], api_key=tiny[1], max_retries=0)
    question: Any = [{"role": "user", "content": "Which animal?"}]
    for seed in range(3):
        found = client.chat.completions.parse(
            model="corral", messages=question, response_format=Animal, seed=seed, max_tokens=150
        )
        assert isinstance(found.choices[0].message.parsed, Animal)
    with pytest.raises(openai.BadRequestError, match="cannot be followed"):
        client.chat.completions.create(
            model="corral",
            messages=question,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "animal"}},
            },
        )


def test_the_openai_package_gets_the_call_it_asks_for(tiny: tuple[str, str]) -> None:
    client = openai.OpenAI(base_url=tiny[0], api_key=tiny[1], max_retries=0)
    messages: list[Any] = [{"role": "user", "content": "Tell me of an animal."}]
    tool: Any = openai.pydantic_function_tool(Animal, name="tell")
    whole = client.chat.completions.create(
        model="corral", messages=messages, tools=[tool], tool_choice="required", max_tokens=200
    )
    assert whole.choices[0].finish_reason == "tool_calls"
    [call] = whole.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "tell"
    Animal.model_validate_json(call.function.arguments)
    messages += [
        whole.choices[0].message,
        {"role": "tool", "content": "ok", "tool_call_id": call.id},
    ]
    again = client.chat.completions.create(
        model="corral", messages=messages, tools=[tool], max_tokens=5
    )
    assert again.choices[0].finish_reason in ("length", "stop")
    with client.chat.completions.stream(
        model="corral",
        messages=messages[:1],
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "tell"}},
        max_tokens=200,
    ) as stream:
        final = stream.get_final_completion()
    [streamed] = final.choices[0].message.tool_calls or []
    assert isinstance(streamed.function.parsed_arguments, Animal)


LANGCHAIN_FORMS = """
import sys
from typing import Literal
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

class Animal(BaseModel):
    'An animal.'
    name: str = Field(max_length=6)
    count: int = Field(ge=1, le=20)
    kind: Literal["llama", "alpaca"]

model = ChatOpenAI(
    model="corral", base_url=sys.argv[1], api_key=sys.argv[2], temperature=0, max_tokens=200
)
for method in ("json_schema", "function_calling"):
    found = model.with_structured_output(Animal, method=method).invoke("Which animal?")
    assert isinstance(found, Animal), found
bound = model.bind_tools([Animal], tool_choice="any")
said = bound.invoke("Which animal?")
[call] = said.tool_calls
Animal(**call["args"])
answer = ToolMessage("noted", tool_call_id=call["id"])
print(type(model.bind_tools([Animal]).invoke([HumanMessage("Which?"), said, answer])).__name__)
"""
LANGCHAIN = """
import sys
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="corral", base_url=sys.argv[1], api_key=sys.argv[2], temperature=0)
print(repr(model.invoke("Say hello.").content))
print(repr("".join(chunk.content for chunk in model.stream("Say hello."))))
print(repr([reply.content for reply in model.batch(["One.", "Two."])]))
"""
TASK = """
task: corral_local
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}]
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    if given := os.environ.get(CLIENTS):
        return given
    folder = tmp_path_factory.mktemp("clients")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    found = str(folder / "bin" / "python")
    install = [found, "-m", "pip", "install", "-q", "langchain-openai", "lm-eval[api]"]
    install.append("transformers")  # reads the tokenizer
    if subprocess.run(install, check=False).returncode:
        pytest.skip("the clients cannot be installed here")
    return found


def output(command: list[str], **rest: Any) -> str:
    """What a program prints; it must end well."""
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, **rest)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


@pytest.mark.full
def test_langchain_chats(tmp_path: Path, python: str) -> None:
    house = House(tmp_path, engine=TellingEngine(["Hello there, friend."]))
    with served(house.site) as address:
        printed = output([python, "-c", LANGCHAIN, address, house.key])
    house.services.close()
    assert printed.splitlines() == [
        "'Hello there, friend.'",
        "'Hello there, friend.'",
        "['Hello there, friend.', 'Hello there, friend.']",
    ]


@pytest.mark.full
def test_langchain_gets_forms_and_calls(tiny: tuple[str, str], python: str) -> None:
    assert output([python, "-c", LANGCHAIN_FORMS, *tiny]).split() == ["AIMessage"]


def filled(example: str, address: str, key: str) -> str:
    """An example of the docs as a person would fill it in."""
    assert "http://127.0.0.1:7860/v1" in example and "corral-..." in example
    return example.replace("http://127.0.0.1:7860/v1", address).replace("corral-...", key)


@pytest.mark.full
def test_the_documented_examples_of_langchain_run_as_written(
    tiny: tuple[str, str], python: str
) -> None:
    written = [each for each in examples("python") if "langchain_openai" in each]
    assert len(written) == 2
    for example in written:
        assert output([python, "-c", filled(example, *tiny)]).strip()


@pytest.mark.full
def test_the_documented_call_of_the_evaluation_harness_runs_as_written(
    tmp_path: Path, python: str
) -> None:
    rows = {"question": "A llama is an", "choices": ["animal.", "of of of."], "answer": 0}
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows) + "\n")
    task = TASK.replace("DATA", str(tmp_path / "rows.jsonl")).replace("corral_local", "my_task")
    (tmp_path / "my_task.yaml").write_text(task)
    [written] = [each for each in examples("sh") if "lm_eval" in each]
    house = House(tmp_path / "data", engine=LocalEngine(MODEL, Options(device="cpu", threads=1)))
    places = os.pathsep.join([str(Path(python).parent), os.environ["PATH"]])
    with served(house.site) as address:
        script = filled(written, address, house.key).replace("TOKENIZER", str(MODEL))
        environment = {**os.environ, "PATH": places, "HF_HOME": str(tmp_path / "hub")}
        printed = output(["bash", "-e", "-c", script], cwd=tmp_path, env=environment)
    house.services.close()
    assert re.search(r"my_task.*\bacc\b.*1", printed), printed


@pytest.mark.full
def test_the_evaluation_harness_gets_what_the_engine_scores(tmp_path: Path, python: str) -> None:
    """Its choices by log-likelihood are those that the engine's own `score` makes."""
    rows = [
        {"question": "The capital of France is", "choices": ["Paris.", "seven."], "answer": 0},
        {"question": "Two and two make", "choices": ["green", "four"], "answer": 1},
        {"question": "A llama is an", "choices": ["animal.", "of of of."], "answer": 0},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = TASK.replace("DATA", str(tmp_path / "rows.jsonl"))
    (tmp_path / "corral_local.yaml").write_text(task)
    engine = LocalEngine(MODEL, Options(device="cpu", threads=1))
    services = make_services(tmp_path / "data", engine=engine, guard=WordGuard())
    services.load()
    site = build(services, no_page)
    site.app.api_on = True
    key = Keys(services.store.people).create(OWNER_ID, "evaluation")
    with served(site) as address:
        arguments = (
            f"model=corral,base_url={address}/completions,tokenizer={MODEL},num_concurrent=1"
        )
        output(
            [python, "-m", "lm_eval", "--model", "local-completions", "--model_args", arguments]
            + ["--tasks", "corral_local", "--include_path", str(tmp_path), "--log_samples"]
            + ["--output_path", str(tmp_path / "out")],
            env={**os.environ, "OPENAI_API_KEY": key, "HF_HOME": str(tmp_path / "hub")},
        )
    [found] = (tmp_path / "out").rglob("samples_*.jsonl")
    for line in found.read_text().splitlines():
        sample = json.loads(line)
        row = sample["doc"]
        for choice, (given, _) in zip(row["choices"], sample["filtered_resps"], strict=True):
            # The harness puts a space between, and no control token in front.
            ids = engine._view.tokenizer.encode(f"{row['question']} {choice}")
            head = len(engine._view.tokenizer.encode(row["question"]))
            own = sum(engine.score(ids).logprobs[head:])
            assert float(given) == pytest.approx(own, abs=0.05), (row, choice, sample)
    services.close()
