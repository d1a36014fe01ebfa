"""What is sent to another server: a prompt and a sampling as a body of OpenAI's protocol."""

from __future__ import annotations

import json
from typing import Any

from engine.base import Prompt, Sampling
from engine.errors import FormInvalid


def request_for(
    model: str, prompt: Prompt, sampling: Sampling, *, seed: int, room: int, standard_only: bool
) -> dict[str, Any]:
    """The body of one request for at most `room` tokens.

    Fields beside OpenAI's own are those of vLLM and llama.cpp; `standard_only` leaves them out.
    Raises `FormInvalid` for what cannot be asked of another server.
    """
    request: dict[str, Any] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": min(sampling.max_new_tokens, room),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p or 1.0,
        "seed": seed % (1 << 31),  # some servers read it as a signed 32-bit number
    }
    if sampling.stop:
        request["stop"] = list(sampling.stop)
    for name in ("presence_penalty", "frequency_penalty"):
        if value := getattr(sampling, name):
            request[name] = value
    if sampling.logit_bias:
        request["logit_bias"] = {str(id): bias for id, bias in sampling.logit_bias.items()}
    request |= _asked(prompt) | _form(sampling)
    if not standard_only:
        request["extra_body"] = _beyond_standard(sampling, continues=bool(prompt.reply_prefix))
    return request


def _asked(prompt: Prompt) -> dict[str, object]:
    """The prompt as a request says it: messages, or a text or ids to be completed."""
    if prompt.messages is None:
        return {"prompt": prompt.text if prompt.text is not None else list(prompt.ids or ())}
    said = [{"role": each["role"], "content": each["content"]} for each in prompt.messages]
    if prompt.reply_prefix:
        said.append({"role": "assistant", "content": prompt.reply_prefix})
    return {"messages": said}


def _form(sampling: Sampling) -> dict[str, object]:
    """The form that the reply must have, as OpenAI's API asks for it.

    Raises `FormInvalid` for a grammar, of which the protocol knows nothing.
    """
    if sampling.grammar:
        raise FormInvalid("Other servers take a JSON schema, but no grammar.")
    if not sampling.json_schema:
        return {}
    schema = {"name": "answer", "schema": json.loads(sampling.json_schema), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _beyond_standard(sampling: Sampling, *, continues: bool) -> dict[str, object]:
    """Fields that OpenAI does not have.

    Said also where they change nothing, because servers have defaults of their own:
    llama-cpp-python's penalizes repetition by 1.1.
    """
    penalty = sampling.repetition_penalty
    fields: dict[str, object] = {
        "min_p": sampling.min_p,
        "repetition_penalty": penalty,  # vLLM, SGLang
        "repeat_penalty": penalty,  # llama.cpp
    }
    if sampling.top_k:  # servers do not agree on how to say "all": 0 or -1
        fields["top_k"] = sampling.top_k
    if continues:
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
    return fields
