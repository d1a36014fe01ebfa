"""Secrets, personal numbers and known attacks in a text, by rules.

Numbers count only with a right check digit, so that an order number is no card. The match itself is
never kept or shown: a verdict holds scores alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from safety.base import Verdict
from safety.normalize import normalized

# Forms as their issuers document them.
_SECRETS = re.compile(
    r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY(?: BLOCK)?-----"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{50,}"  # GitHub
    r"|\bglpat-[A-Za-z0-9_-]{20,}"  # GitLab
    r"|\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}|\bhf_[A-Za-z]{30,}\b"  # model hosts
    r"|\bxox[abprs]-[A-Za-z0-9-]{20,}"  # Slack
    r"|\bAIza[0-9A-Za-z_-]{35}\b"  # Google
    r"|\b[rs]k_live_[0-9A-Za-z]{20,}"  # Stripe
    r"|\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{20,}"  # JSON web tokens
    r"|\b[a-z][a-z0-9+]{2,12}://[^\s:@/]{1,64}:[^\s:@/]{4,64}@[\w.-]+"  # a password in an address
)
_SECRET_MARKS = (
    "-----BEGIN", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-",
    "sk-", "hf_", "xox", "AIza", "k_live_", "eyJ", "://",
)  # fmt: skip
"""Each secret holds one of these; plain strings are looked for first because that is fast."""
_DIGIT = re.compile(r"\d")
_CARD = re.compile(r"(?<![\d.])(?:\d[ -]?){12,18}\d(?![\d.])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_US_NUMBER = re.compile(r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b")
_CHINESE_ID = re.compile(r"(?<!\d)\d{17}[\dXx](?!\d)")
# Openings of attacks that were passed around: "DAN" and its kin.
_ATTACKS = re.compile(
    r"\b(?:you are|act as|become|going to be) (?:now )?(?:a )?dan\b.{0,60}\bno rules"
    r"|\bdo anything now\b|\bdeveloper mode (?:enabled|output)\b"
    r"|\bstay in character as (?:dan|aim|stan|dude)\b|\bignore (?:all )?(?:safety|content) polic"
    r"|\b(?:evil|unfiltered|amoral) (?:confidant|assistant|chatbot) (?:that|who|with) (?:has )?no "
    r"|现在你是一个没有任何限制的"
)
_CHINESE_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643-1999


class PrivateDataGuard:
    """The rules as a guard: it gives categories of ours, and no P(unsafe)."""

    name = "data-rules"
    version = "1"

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """Judge the reply if there is one, else the prompt."""
        started = time.perf_counter()
        scores = found(prompt if reply is None else reply, is_reply=reply is not None)
        return Verdict(0.0, scores, self.name, self.version, time.perf_counter() - started)


def found(text: str, *, is_reply: bool = False) -> Mapping[str, float]:
    """Category → certainty of what the rules see in `text`."""
    scores: dict[str, float] = {}
    if any(mark in text for mark in _SECRET_MARKS) and _SECRETS.search(text):
        scores["secrets"] = 0.95
    if _has_number(text) or any(is_iban(m[0]) for m in _IBAN.finditer(text)):
        scores["personal_data"] = 0.9
    if not is_reply and _ATTACKS.search(normalized(text)):
        scores["prompt_injection"] = 0.8
    return scores


def _has_number(text: str) -> bool:
    """Whether a card's, a resident's or a social security number stands in `text`."""
    if len(_DIGIT.findall(text)) < 9:  # the shortest of them
        return False
    return (
        any(is_card(m[0]) for m in _CARD.finditer(text))
        or any(is_chinese_id(m[0]) for m in _CHINESE_ID.finditer(text))
        or _US_NUMBER.search(text) is not None
    )


def is_card(text: str) -> bool:
    """Whether the digits of `text` are a card's: its length, first digit and Luhn's check digit."""
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(digits[::-1])]
    known = 13 <= len(digits) <= 19 and digits[0] in (3, 4, 5, 6) and len(set(digits)) > 3
    return known and sum(doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether `text` is an account number by ISO 13616: the rest of its number by 97 is 1."""
    plain = text.replace(" ", "")
    turned = "".join(str(int(c, 36)) for c in plain[4:] + plain[:4])
    return 15 <= len(plain) <= 34 and int(turned) % 97 == 1


def is_chinese_id(text: str) -> bool:
    """Whether `text` is a resident's number, by its check character."""
    total = sum(int(d) * w for d, w in zip(text[:17], _CHINESE_WEIGHTS, strict=True))
    return "10X98765432"[total % 11] == text[17].upper()
