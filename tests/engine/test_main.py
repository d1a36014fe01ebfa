"""The commands: stdout has the result alone, notes go to stderr, mistakes are one sentence."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from engine.__main__ import main
from engine.base import Prompt, Sampling
from engine.local import LocalEngine
from engine.options import Options
from tests.engine.checkpoints import make_checkpoint
from tests.engine.hub_server import HubState, serve


@dataclass(frozen=True)
class Ran:
    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], folder: Path) -> Run:
    def run(*arguments: str, model: str | None = None) -> Ran:
        chosen = ["--model", model or str(folder), "--device", "cpu", "--threads", "1"]
        try:
            status = main([*arguments, *chosen])
        except SystemExit as exit:
            status = int(exit.code or 0)
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


def reply(folder: Path, prompt: Prompt, sampling: Sampling) -> str:
    engine = LocalEngine(folder, Options(device="cpu", threads=1))
    try:
        stream = engine.stream(prompt, sampling, cancel=Event(), scope="")
        return "".join(chunk.text for chunk in stream)
    finally:
        engine.close()


GREEDY = Sampling(temperature=0.0, max_new_tokens=12)


def test_generate_writes_the_reply_and_nothing_else(run: Run, folder: Path) -> None:
    ran = run("generate", "--prompt", "Hello", "--greedy", "--max-new-tokens", "12")
    expected = reply(folder, Prompt(messages=[{"role": "user", "content": "Hello"}]), GREEDY)
    assert (ran.status, ran.out) == (0, expected + "\n")
    assert "tiny-chat: 0.0 million parameters, fp32 on " in ran.err
    assert " new; first after " in ran.err
    assert "ended by " in ran.err


def test_generate_raw_continues_the_text(run: Run, folder: Path) -> None:
    ran = run("generate", "--prompt", "Once upon", "--raw", "--greedy", "--max-new-tokens", "12")
    assert ran.out == reply(folder, Prompt(text="Once upon"), GREEDY) + "\n"


def test_generate_from_a_file_of_messages(run: Run, folder: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi th"}]
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(messages))
    ran = run("generate", "--messages", str(file), "--greedy", "--max-new-tokens", "12")
    prompt = Prompt(messages=[{"role": "user", "content": "Hello"}], reply_prefix="Hi th")
    assert ran.out == reply(folder, prompt, GREEDY) + "\n"


def test_a_seed_repeats_a_reply(run: Run) -> None:
    arguments = ("generate", "--prompt", "Hi", "--max-new-tokens", "20", "--seed")
    first, second, other = (run(*arguments, seed) for seed in ("5", "5", "6"))
    assert first.out == second.out != other.out
    assert "seed 5." in first.err


def test_a_prompt_from_stdin(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given = run("generate", "--prompt", "Hello", "--greedy", "--max-new-tokens", "5")
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello"))
    assert run("generate", "--prompt", "-", "--greedy", "--max-new-tokens", "5").out == given.out


def test_score_gives_a_line_per_file(run: Run, folder: Path, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hé!"}]
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    files[0].write_text(json.dumps({"messages": talk}) + "\n")
    files[1].write_text((json.dumps({"messages": talk}) + "\n") * 3)
    ran = run("score", *map(str, files))
    assert ran.status == 0
    lines = [line.split(" ") for line in ran.out.splitlines()]
    assert [(line[0], line[2]) for line in lines] == [(str(files[0]), "4"), (str(files[1]), "12")]
    assert lines[0][1] == lines[1][1]
    assert 0.5 < float(lines[0][1]) < 40
    assert "3 replies" in ran.err


def test_bench_gives_one_object(run: Run) -> None:
    ran = run("bench", "--json", "--num-prompt", "40", "--num-new", "4")
    measured = json.loads(ran.out)
    assert ran.status == 0
    assert measured["model"] == "tiny-chat"
    assert (measured["precision"], measured["threads"]) == ("fp32", 1)
    for name in ("decode_tokens_per_second", "prefill_tokens_per_second", "peak_bytes"):
        assert measured[name] > 0
    lines = run("bench", "--num-prompt", "8", "--num-new", "2").out.splitlines()
    assert {line.split(":")[0] for line in lines} == measured.keys()


def test_inspect_tells_what_a_folder_holds(run: Run) -> None:
    ran = run("inspect")
    assert ran.status == 0
    assert "tiny" in ran.out
    assert "261 tokens, 5 of them special. Chat format llama-3; a reply ends with" in ran.out
    assert "<|end_of_text|>, <|eot_id|>." in ran.out
    assert ran.err == ""


def test_inspect_knows_shapes_without_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--shape", "llama-3.1-8b", "--device", "cpu"]) == 0
    assert "128" in capsys.readouterr().out
    assert main(["inspect", "--known", "--device", "cpu"]) == 0
    assert "llama-3.2-1b" in capsys.readouterr().out
    assert main(["inspect", "--shape", "llama-9"]) == 1
    assert "There is no shape 'llama-9'" in capsys.readouterr().err


def cases() -> Sequence[tuple[Sequence[str], str]]:
    return (
        (("generate", "--prompt", "  "), "The prompt is empty"),
        (("generate", "--messages", "none.json"), "none.json cannot be read"),
        (("generate",), "One of the arguments --prompt --messages is required"),
        (("generate", "--prompt", "x", "--temperature", "9"), "temperature is 9.0"),
        (("generate", "--prompt", "x", "--precision", "int3"), "invalid choice: 'int3'"),
        (("generate", "--prompt", "x" * 300), "The prompt has 323 tokens; the context holds 256."),
        (("generate", "--messages", "x.json", "--raw"), "give it with --prompt"),
        (("score", "none.jsonl"), "none.jsonl cannot be read"),
        (("score",), "FILE.jsonl"),
        (("bench", "--num-new", "1"), "--num-new must be at least 2"),
        (("bench", "--shape", "llama-3.2-1b"), "not allowed with argument"),
        (("gnerate",), "invalid choice: 'gnerate'"),
    )


@pytest.mark.parametrize(("arguments", "sentence"), cases(), ids=lambda value: str(value)[:30])
def test_a_mistake_is_one_sentence_and_a_status(
    run: Run, arguments: Sequence[str], sentence: str
) -> None:
    ran = run(*arguments)
    assert ran.status != 0
    assert ran.out == ""
    assert sentence in ran.err
    assert "Traceback" not in ran.err
    notes = [line for line in ran.err.splitlines() if "million parameters" not in line]
    assert len(notes) == 1


def test_an_unknown_model_is_said_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from engine.__main__ import main;"
        "status = main(['generate', '--prompt', 'x', '--model', 'bilt-in']);"
        "print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
    assert "Did you mean built-in?" in done.stderr


def test_models_are_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = tmp_path / "models" / "Mine"
    make_checkpoint(own)
    assert main(["models", "--models", str(tmp_path / "models")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("built-in")
    assert lines[-1].split() == ["mine", str(own)]
    assert any("llama-3.1-8b-instruct" in line and "16.1 GB  gated" in line for line in lines)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[HubState, str]]:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    files = {"config.json": b"{}", "model.safetensors": b"x" * 300_000}
    state = HubState(files=files, token="hf_right", gated=True)
    with serve(state) as address:
        yield state, address
    huggingface_hub.close_session()


@pytest.mark.parametrize("as_json", [False, True])
def test_download_fetches_and_names_the_folder(
    as_json: bool,
    hub: tuple[HubState, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    token = tmp_path / "token"
    token.write_text("hf_right\n")
    where = ("--models", str(tmp_path / "models"), "--endpoint", hub[1])
    assert main(["download", "tiny/Model", *where]) == 1
    assert "is gated" in capsys.readouterr().err
    more = ["--json"] if as_json else []
    assert main(["download", "tiny/Model", "--token-file", str(token), *where, *more]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'models' / 'tiny/Model'}\n"
    if as_json:
        last, end = map(json.loads, captured.err.splitlines()[-2:])
        assert end == {"path": str(tmp_path / "models" / "tiny/Model")}
        assert last["num_done_bytes"] == last["num_total_bytes"] == 300_002
    else:
        assert "0.00 of 0.00 GB" in captured.err


def test_download_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in (
        (["nonsense"], "There is no known model 'nonsense'"),
        (["a/b", "--token-file", str(tmp_path / "none")], "cannot be read"),
    ):
        assert main(["download", *arguments, "--models", str(tmp_path)]) == 1
        assert sentence in capsys.readouterr().err
