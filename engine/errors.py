"""What an engine raises on purpose: one family, each error named after what happened.

All are raised before the first chunk unless noted::

    EngineError
    ├── CheckpointError
    │   ├── CheckpointMissing      no such folder, or a file that its own index names is absent
    │   │   ├── CheckpointGated    its owner wants a yes to the licence, and a token, first
    │   │   ├── RepositoryHidden   the hub shows none of that name to us
    │   │   ├── QuantizationUnchosen   a repository holds one model many times
    │   │   └── DiskRefused        there is no room for a download, or no right to write it
    │   ├── CheckpointBroken       truncated, contradictory or unreadable files
    │   │   └── DownloadDamaged    what arrived is not what the hub names
    │   ├── CheckpointUnsafe       pickles, code, `auto_map`, paths that leave the folder
    │   └── ModelUnsupported       a sound checkpoint of an architecture that this engine cannot run
    ├── DeviceAbsent               the chosen device does not exist on this machine
    ├── DeviceOutOfMemory          (also in mid-stream) no room for the weights or this row
    ├── PromptEmpty                nothing to read
    ├── ContextFull                the prompt alone is longer than the context
    ├── SamplingInvalid            a sampling value outside its range
    │   └── FormInvalid            (also in mid-stream) a schema or grammar that cannot be followed
    ├── ToolsRefused               the model's chat format knows no tools, or not as they were used
    ├── ServerUnreachable          (also in mid-stream) a remote engine does not answer
    │   └── HubUnreachable         the model hub does not answer, or went away in the middle
    ├── ServerRefused              a remote engine answers, but not to this: a key, a model's name
    └── EngineClosed               (also in mid-stream) the engine was shut down
"""

from __future__ import annotations

from collections.abc import Sequence


class EngineError(Exception):
    """Base of everything an engine raises on purpose. `str(error)` is one plain sentence."""


class CheckpointError(EngineError):
    """The weights, config or tokenizer on disk cannot be used."""


class CheckpointMissing(CheckpointError):
    """A folder or a file that must be there is not."""


class CheckpointGated(CheckpointMissing):
    """The model hub gives these weights only to accounts that accepted their licence."""


class RepositoryHidden(CheckpointMissing):
    """The model hub shows no repository of that name to us: it is not there, or private."""


class QuantizationUnchosen(CheckpointMissing):
    """A repository holds one model in several quantizations, and none of them was chosen.

    `choices`: (name, bytes) of those that this engine reads, the smallest first.
    """

    def __init__(self, text: str, choices: Sequence[tuple[str, int]] = ()) -> None:
        super().__init__(text)
        self.choices = tuple(choices)


class DiskRefused(CheckpointMissing):
    """The disk has no room for a download, or its folder cannot be written to."""


class CheckpointBroken(CheckpointError):
    """A file is truncated, unreadable or contradicts another."""


class DownloadDamaged(CheckpointBroken):
    """A downloaded file does not have the hash that the hub names for it."""


class CheckpointUnsafe(CheckpointError):
    """The folder could run code when loaded: pickles, `auto_map`, paths outside of it."""


class ModelUnsupported(CheckpointError):
    """A sound checkpoint of an architecture or variant that this engine cannot run."""


class DeviceAbsent(EngineError):
    """The chosen device is not present on this machine."""


class DeviceOutOfMemory(EngineError):
    """The device has no room for the weights or for one more row."""


class PromptEmpty(EngineError):
    """The prompt holds no token to read."""


class ContextFull(EngineError):
    """The prompt alone does not fit the context."""

    def __init__(self, num_prompt: int, context_length: int) -> None:
        super().__init__(f"The prompt has {num_prompt} tokens; the context holds {context_length}.")
        self.num_prompt = num_prompt
        self.context_length = context_length


class SamplingInvalid(EngineError, ValueError):
    """A sampling value lies outside its range."""


class FormInvalid(SamplingInvalid):
    """The reply cannot be held to the JSON schema or grammar that was asked for."""


class ToolsRefused(EngineError):
    """The model knows no tools, or a conversation uses them as its template does not allow."""


class ServerUnreachable(EngineError):
    """A remote engine does not answer."""


class HubUnreachable(ServerUnreachable):
    """The model hub does not answer, or the connection to it was lost."""


class ServerRefused(EngineError):
    """A remote engine answers, but refuses: it wants a key, or does not know the model."""


class EngineClosed(EngineError):
    """The engine was shut down while, or before, it was asked."""
