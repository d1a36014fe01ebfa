"""The dialog People: passwords, invitations, who is signed in, keys of the API, and the links.

Everybody sees their own part; accounts, invitations, links and the switch of the API are the
owner's, and only on this machine: over a link nothing of it is shown or done. Who is not at the
machine shows the password before changing it or making a key: a browser left open, or a stolen
session, must not be enough for what outlives it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import gradio as gr
from markupsafe import Markup

from app.api.keys import SCOPES, KeysFull
from app.doors import Doors
from app.page.payload import PayloadInvalid, is_away, session_of, user_of
from app.page.templates import Templates
from app.passwords import MIN_CHARS, PasswordRefused
from app.services import Services
from app.share import LinkView
from storage.people import Person
from storage.records import OWNER_ID, Conflict

KIND = "people"
MAX_QUOTA = 1_000_000_000
LINK_HOURS = (1, 8, 24, 72, 168)
Value = dict[str, object]


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at the dialog, with which session, and whether over a link or the network."""

    user_id: int
    away: bool
    session: bytes

    @classmethod
    def of(cls, request: gr.Request) -> Viewer:
        """As the gateway has found it. Raises `PermissionError`."""
        return cls(user_of(request), is_away(request), session_of(request))

    @property
    def at_the_machine(self) -> bool:
        """Whether this is the owner, on this machine."""
        return self.user_id == OWNER_ID and not self.away


class PeoplePanel:
    """Values of the dialog, and what its buttons do. Blocks; safe to call from any thread."""

    def __init__(self, services: Services, templates: Templates) -> None:
        self._services = services
        self._templates = templates
        self._say = templates.strings.say
        self._own: dict[str, Callable[[Doors, Viewer, str], str]] = {
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

    def value(self, viewer: Viewer, *, said: str = "") -> Value:
        """The dialog as this user may see it."""
        doors = self._doors()
        html = self._templates.render(
            "panel_people", **self._mine(doors, viewer), **self._all(doors, viewer)
        )
        return {"kind": KIND, "html": html, "said": said, "tone": "info"}

    def act(self, viewer: Viewer, mode: str, text: str) -> Value:
        """Do what a button asks. Raises `PayloadInvalid`, `ShareError`, `StorageError`."""
        doors = self._doors()
        try:
            if mode in self._own and not doors.store.people.is_guest(viewer.user_id):
                said = self._own[mode](doors, viewer, text)
            elif mode in self._owners and viewer.at_the_machine:
                said = self._owners[mode](doors, text)
            else:
                return self._wrong("people.not_yours")
        except KeysFull:
            return self._wrong("people.keys_full")
        except Conflict:
            return self._wrong("people.stays")
        except PasswordRefused as error:
            return self._wrong(f"people.current_{error.code}")
        if not said:
            return self._wrong("people.short", least=MIN_CHARS)
        return self.value(viewer, said=said)

    def _wrong(self, key: str, **values: object) -> Value:
        return {"kind": KIND, "said": self._say(key, **values), "tone": "error"}

    # What is shown

    def _doors(self) -> Doors:
        if self._services.doors is None:
            raise PermissionError("this page runs without a server of its own")
        return self._services.doors

    def _mine(self, doors: Doors, viewer: Viewer) -> dict[str, object]:
        people = doors.store.people
        idle = doors.accounts.idle_milliseconds
        me = self._me(doors, viewer)
        return {
            "me": me,
            "least": MIN_CHARS,
            "asks_current": not viewer.at_the_machine,
            "tokens_left": people.tokens_left(me.id),
            "sessions": [
                {
                    "id": each.id,
                    "agent": _browser(each.agent),
                    "seen": _when(each.seen_at),
                    "this": each.id == viewer.session.hex(),
                }
                for each in people.sessions(me.id, idle_milliseconds=idle)
            ],
            "keys": people.keys(me.id),
            "scopes": SCOPES,
            "api_on": doors.gateway.api_on,
            "api_address": f"{doors.address()}/v1",
        }

    def _me(self, doors: Doors, viewer: Viewer) -> Person:
        everybody = doors.store.people.everybody()
        return next(person for person in everybody if person.id == viewer.user_id)

    def _all(self, doors: Doors, viewer: Viewer) -> dict[str, object]:
        """The owner's part; nothing of it for others, and nothing over a link."""
        if not viewer.at_the_machine:
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
            "hours": settings.share_hours,
            "link_hours": sorted({*LINK_HOURS, settings.share_hours}),
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

    def _password(self, doors: Doors, viewer: Viewer, text: str) -> str:
        (password,) = self._shown(doors, viewer, text, 1)
        try:
            doors.set_password(viewer.user_id, password, session=viewer.session)
        except ValueError:
            return ""
        return self._say("people.password_set")

    def _shown(self, doors: Doors, viewer: Viewer, text: str, num: int) -> list[str]:
        """The values of `num` fields, once the password before them has been found right.

        At the machine the owner is not asked for one. Raises `PasswordRefused`, `PayloadInvalid`.
        """
        if viewer.at_the_machine:
            return [text] if num == 1 else _listed(text, num)
        current, *values = _listed(text, num + 1)
        doors.check_password(self._me(doors, viewer).name, current)
        return values

    def _key(self, doors: Doors, viewer: Viewer, text: str) -> str:
        name, scope = self._shown(doors, viewer, text, 2)
        scopes = [scope] if scope in SCOPES else list(SCOPES)
        secret = doors.keys.create(viewer.user_id, name[:80], scopes)
        return self._say("people.key_made", secret=secret)

    def _revoke_key(self, doors: Doors, viewer: Viewer, text: str) -> str:
        doors.keys.revoke(viewer.user_id, _number(text))
        return self._say("people.key_revoked")

    def _sign_out(self, doors: Doors, viewer: Viewer, text: str) -> str:
        doors.store.people.end_session(viewer.user_id, _digest(text))
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
        user_id, tokens = _listed(text, 2)
        limit = _number(tokens) if tokens else None
        doors.store.people.set_quota(_number(user_id), limit)
        return self._say("people.changed")

    def _api(self, doors: Doors, on: bool) -> str:
        doors.switch_api(on)
        return self._say("people.api_on" if on else "people.api_off")

    def _share(self, doors: Doors, text: str) -> str:
        hours = _number(text) if text else self._services.settings.share_hours
        link = doors.share.start(hours=hours)
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


def _listed(text: str, num: int) -> list[str]:
    """The values of `num` fields, which come as a JSON list."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PayloadInvalid("list") from error
    if not isinstance(found, list) or len(found) != num:
        raise PayloadInvalid("list")
    if not all(isinstance(each, str) for each in found):
        raise PayloadInvalid("list")
    return found  # strings, as was just checked


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
