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

import httpx
import openai
import pytest

from app.api.keys import Keys
from app.site import build
from engine.local import LocalEngine
from storage.records import OWNER_ID
from tests.app.api.running import served
from tests.app.api.test_api import House, plain
from tests.app.fakes import TellingEngine, WordGuard
from tests.app.house import make_services

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


@pytest.mark.full
def test_langchain_chats(tmp_path: Path, python: str) -> None:
    house = House(tmp_path, engine=TellingEngine(["Hello there, friend."]))
    with served(house.site) as address:
        run = subprocess.run(
            [python, "-c", LANGCHAIN, address, house.key],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    house.services.close()
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.splitlines() == [
        "'Hello there, friend.'",
        "'Hello there, friend.'",
        "['Hello there, friend.', 'Hello there, friend.']",
    ]


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
    engine = LocalEngine(MODEL, device="cpu", threads=1)
    services = make_services(tmp_path / "data", engine=engine, guard=WordGuard())
    services.load()
    site = build(services, plain)
    site.app.api_on = True
    key = Keys(services.store.people).create(OWNER_ID, "evaluation")
    with served(site) as address:
        arguments = (
            f"model=corral,base_url={address}/completions,tokenizer={MODEL},num_concurrent=1"
        )
        run = subprocess.run(
            [python, "-m", "lm_eval", "--model", "local-completions", "--model_args", arguments]
            + ["--tasks", "corral_local", "--include_path", str(tmp_path), "--log_samples"]
            + ["--output_path", str(tmp_path / "out")],
            env={**os.environ, "OPENAI_API_KEY": key, "HF_HOME": str(tmp_path / "hub")},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    found = next((tmp_path / "out").rglob("samples_*.jsonl"), None)
    assert found is not None, run.stderr[-3000:]
    for line in found.read_text().splitlines():
        sample = json.loads(line)
        row = sample["doc"]
        for choice, (given, _) in zip(row["choices"], sample["filtered_resps"], strict=True):
            # The harness puts a space between, and no control token in front.
            ids = engine._tokenizer.encode(f"{row['question']} {choice}")
            head = len(engine._tokenizer.encode(row["question"]))
            own = sum(engine.score(ids).logprobs[head:])
            assert float(given) == pytest.approx(own, abs=0.05), (row, choice, sample)
    services.close()
