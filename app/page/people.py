"""The dialog People: passwords, invitations, who is signed in, keys of the API, and the links.

Everybody sees their own part; accounts, invitations, links and the switch of the API are the
owner's, and only on this machine: over a link nothing of it is shown or done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime

from markupsafe import Markup

from app.api.keys import SCOPES, KeysFull
from app.doors import Doors
from app.page.payload import PayloadInvalid
from app.page.templates import Templates
from app.passwords import MIN_CHARS
from app.services import Services
from app.share import LinkView
from storage.records import OWNER_ID, Conflict

KIND = "people"
MAX_QUOTA = 1_000_000_000
Value = dict[str, object]


class PeoplePanel:
    """Values of the dialog, and what its buttons do. Blocks; safe to call from any thread."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say
        self._own: dict[str, Callable[[Doors, int, str], str]] = {
            "password": self._password,
            "key": self._key,
            "revoke-key": self._revoke_key,
            "sign-out": self._sign_out,
        }
        self._owners: dict[str, Callable[[Doors, str], str]] = {
            "invite-user": lambda doors, note: self._invited(doors.invite("user", note)),
            "invite-guest": lambda doors, note: self._invited(doors.invite("guest", note)),
            "withdraw": self._withdraw,
            "disable": lambda doors, text: self._account(doors.lock_out, text),
            "enable": lambda doors, text: self._account(
                lambda user_id: doors.store.people.set_disabled(user_id, False), text
            ),
            "remove": lambda doors, text: self._account(
                lambda user_id: doors.lock_out(user_id, remove=True), text
            ),
            "quota": self._quota,
            "api-on": lambda doors, _: self._api(doors, True),
            "api-off": lambda doors, _: self._api(doors, False),
            "share-on": self._share,
            "share-off": lambda doors, _: self._ended(doors.share.stop),
            "lan-on": self._lan,
            "lan-off": lambda doors, _: self._ended(doors.lan.stop),
        }

    def value(self, user_id: int, *, away: bool, said: str = "", tone: str = "info") -> Value:
        """The dialog as this user may see it."""
        doors = self._doors()
        html = self._templates.render(
            "panel_people", **self._mine(doors, user_id), **self._all(doors, user_id, away)
        )
        return {"kind": KIND, "html": html, "said": said, "tone": tone}

    def act(self, user_id: int, mode: str, text: str, *, away: bool) -> Value:
        """Do what a button asks. Raises `PayloadInvalid`, `ShareError`, `StorageError`."""
        doors = self._doors()
        try:
            if mode in self._own and not doors.store.people.is_guest(user_id):
                said = self._own[mode](doors, user_id, text)
            elif mode in self._owners and user_id == OWNER_ID and not away:
                said = self._owners[mode](doors, text)
            else:
                said = self._say("people.not_yours")
                return {"kind": KIND, "said": said, "tone": "error"}
        except KeysFull:
            return {"kind": KIND, "said": self._say("people.keys_full"), "tone": "error"}
        except Conflict:
            return {"kind": KIND, "said": self._say("people.stays"), "tone": "error"}
        if not said:
            said = self._say("people.short", least=MIN_CHARS)
            return {"kind": KIND, "said": said, "tone": "error"}
        return self.value(user_id, away=away, said=said)

    # What is shown

    def _doors(self) -> Doors:
        if self._services.doors is None:
            raise PermissionError("this page runs without a server of its own")
        return self._services.doors

    def _mine(self, doors: Doors, user_id: int) -> dict[str, object]:
        people = doors.store.people
        idle = doors.accounts.idle_milliseconds
        me = next(person for person in people.everybody() if person.id == user_id)
        return {
            "me": me,
            "least": MIN_CHARS,
            "tokens_left": people.tokens_left(user_id),
            "sessions": [
                {"id": each.id, "agent": _browser(each.agent), "seen": _when(each.seen_at)}
                for each in people.sessions(user_id, idle_milliseconds=idle)
            ],
            "keys": people.keys(user_id),
            "scopes": SCOPES,
            "api_on": doors.gateway.api_on,
            "api_address": f"{doors.address()}/v1",
        }

    def _all(self, doors: Doors, user_id: int, away: bool) -> dict[str, object]:
        """The owner's part; nothing of it for others, and nothing over a link."""
        if user_id != OWNER_ID or away:
            return {"owner": False}
        people, settings = doors.store.people, self._services.settings
        return {
            "owner": True,
            "people": people.everybody(),
            "invitations": [
                {"each": each, "until": _when(each.expires_at)} for each in people.invitations()
            ],
            "share": self._link(doors.share.view()),
            "lan": self._link(doors.lan.view()),
            "lan_encrypted": doors.lan.encrypted,
            "own_server": settings.share_server,
        }

    def _link(self, link: LinkView | None) -> dict[str, object] | None:
        if link is None:
            return None
        return {
            "address": link.address,
            "qr": Markup(link.qr()),  # shapes that segno drew: no text of anybody
            "until": _when(int(link.expires_at * 1000)) if link.expires_at else "",
            "visitors": link.num_visitors,
        }

    # What is done: each gives the sentence to show, "" for a password that does not do

    def _password(self, doors: Doors, user_id: int, password: str) -> str:
        try:
            doors.set_password(user_id, password)
        except ValueError:
            return ""
        return self._say("people.password_set")

    def _key(self, doors: Doors, user_id: int, text: str) -> str:
        given = _listed(text)
        scopes = [given[1]] if len(given) > 1 and given[1] in SCOPES else list(SCOPES)
        return self._say(
            "people.key_made", secret=doors.keys.create(user_id, given[0][:80], scopes)
        )

    def _revoke_key(self, doors: Doors, user_id: int, text: str) -> str:
        doors.keys.revoke(user_id, _number(text))
        return self._say("people.key_revoked")

    def _sign_out(self, doors: Doors, user_id: int, text: str) -> str:
        doors.store.people.end_session(user_id, _digest(text))
        doors.accounts.forget()
        return self._say("people.signed_out")

    def _invited(self, address: str) -> str:
        return self._say("people.invited", address=address)

    def _withdraw(self, doors: Doors, text: str) -> str:
        doors.store.people.withdraw(_digest(text))
        return self._say("people.withdrawn")

    def _account(self, change: Callable[[int], object], text: str) -> str:
        change(_number(text))
        return self._say("people.changed")

    def _quota(self, doors: Doors, text: str) -> str:
        user_id, tokens = _listed(text)[:2]
        limit = _number(tokens) if tokens else None
        doors.store.people.set_quota(_number(user_id), limit)
        return self._say("people.changed")

    def _api(self, doors: Doors, on: bool) -> str:
        doors.switch_api(on)
        return self._say("people.api_on" if on else "people.api_off")

    def _share(self, doors: Doors, text: str) -> str:
        hours = _number(text) if text else self._services.settings.share_hours
        link = doors.share.start(doors.port, hours=hours)
        return self._say("people.shared", address=link.address)

    def _lan(self, doors: Doors, text: str) -> str:
        return self._say("people.shared", address=doors.lan.start(doors.port).address)

    def _ended(self, stop: Callable[[], None]) -> str:
        stop()
        return self._say("people.ended")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:12]) <= MAX_QUOTA):
        raise PayloadInvalid("number")
    return int(text)


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise PayloadInvalid("digest") from error


def _listed(text: str) -> list[str]:
    """One field as it is, several as a JSON list."""
    if not text.startswith("["):
        return [text]
    try:
        found = json.loads(text)
    except ValueError as error:
        raise PayloadInvalid("list") from error
    if not found or not all(isinstance(each, str) for each in found):
        raise PayloadInvalid("list")
    return found  # type: ignore[no-any-return]  # strings, as was just checked


def _when(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000)
    today = time.strftime("%Y-%m-%d") == moment.strftime("%Y-%m-%d")
    return moment.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")


def _browser(agent: str) -> str:
    """The browser's and the system's name out of a User-Agent, which is the client's word."""
    names = (
        ("Edg/", "Edge"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    )
    systems = ("Windows", "Android", "iPhone", "iPad", "Mac OS", "Linux")
    name = next((name for mark, name in names if mark in agent), "")
    system = next((system for system in systems if system in agent), "")
    return ", ".join(filter(None, (name, system))) or agent[:40]
