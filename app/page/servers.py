"""The part "Another server" of the dialog Models: addresses that were kept, and their keys.

Keeping an address asks nobody; the server is asked when the owner tries or chooses it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from app.credentials import CredentialInvalid
from app.page.templates import Templates
from app.services import Services
from engine.endpoint import Address, ask
from engine.errors import EngineError
from storage.records import OWNER_ID

SETTING = "servers"
MAX_SERVERS = 20
MAX_ADDRESS_CHARS = 500
MAX_NAMED = 8  # models of a server that is tried


@dataclass(frozen=True, slots=True)
class _Server:
    """One line of the list."""

    address: str
    about: str
    used: bool


class Servers:
    """Keeps and lists the owner's servers. Reads the store: not on the event loop."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._say = templates.strings.say

    def addresses(self) -> list[str]:
        """The kept ones, in the order in which they were kept."""
        kept = self._services.store.setting(OWNER_ID, SETTING)
        try:
            known = [str(Address.parse(text)) for text in json.loads(kept or "[]")]
        except (EngineError, ValueError, TypeError, AttributeError):
            known = []  # written by another version; it can be kept anew
        return known

    def values(self, *, runs: bool) -> list[_Server]:
        """The lines for the template. `runs`: whether the chosen model answers."""
        return [
            _Server(
                text, self._about(Address.parse(text)), runs and text == self._services.running.name
            )
            for text in self.addresses()
        ]

    def act(self, mode: str, text: str) -> tuple[str, str]:
        """Keep (a JSON list of address and key), try or remove one → what to say, and its tone.

        Raises `CheckpointMissing` for what is no address, and what `engine.endpoint.ask` does.
        """
        if mode == "remove":
            return self._remove(text)
        if mode == "try":
            return self._try(Address.parse(text))
        given, key = (str(part) for part in json.loads(text))
        address = Address.parse(given[:MAX_ADDRESS_CHARS])
        known = self.addresses()
        if len(known) >= MAX_SERVERS:
            return self._say("panels.servers.full"), "error"
        if key.strip():
            try:
                self._services.credentials.put(address.base_url, key)
            except CredentialInvalid:
                return self._say("panels.fetch.token_wrong"), "error"
        self._keep([*(each for each in known if each != str(address)), str(address)])
        return self._say("panels.servers.kept", place=address.place), "info"

    def _try(self, address: Address) -> tuple[str, str]:
        """Ask the server what it serves; nothing of any conversation is sent. Blocks."""
        served = ask(address, self._services.credentials.get(address.base_url))
        names = ", ".join(
            f"{each.name} ({each.context_length:,})" if each.context_length else each.name
            for each in served[:MAX_NAMED]
        )
        if address.model and served and address.model not in {each.name for each in served}:
            key = "panels.servers.other"
            return self._say(key, place=address.place, name=address.model, names=names), "error"
        key = "panels.servers.answers" if served else "panels.servers.answers_unnamed"
        return self._say(key, place=address.place, names=names), "info"

    def _remove(self, text: str) -> tuple[str, str]:
        address = Address.parse(text)
        left = [each for each in self.addresses() if each != str(address)]
        self._keep(left)
        if not any(Address.parse(each).base_url == address.base_url for each in left):
            self._services.credentials.forget(address.base_url)
        return self._say("panels.servers.removed", place=address.place), "info"

    def _keep(self, addresses: list[str]) -> None:
        self._services.store.set_setting(OWNER_ID, SETTING, json.dumps(addresses))

    def _about(self, address: Address) -> str:
        key = bool(self._services.credentials.get(address.base_url))
        where = "here" if address.is_this_machine else "away"
        told = [self._say(f"panels.servers.{where}", place=address.place)]
        if key:
            told.append(self._say("panels.servers.with_key"))
        return " ".join(told)
