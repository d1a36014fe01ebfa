"""The hazards that guards name, by stable key; how each published taxonomy numbers them.

Keys are what policies, the database and the page use. Codes such as "S5" mean different things in
different Llama Guard versions, so a bare code is never stored.
Names of S1 to S14: model card of Llama Guard 3 (meta-llama/PurpleLlama), after the MLCommons
AI Safety taxonomy. What each category covers is said here in our own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from safety.base import PolicyInvalid

Taxonomy = Literal["llama-guard-1", "llama-guard-2", "llama-guard-3", "corral"]


@dataclass(frozen=True, slots=True)
class Category:
    """One hazard. `code` and `taxonomy` say where the name comes from."""

    key: str
    code: str
    taxonomy: Taxonomy
    name: str
    description: str


def _table(*rows: Category) -> Mapping[str, Category]:
    return MappingProxyType({row.key: row for row in rows})


def _hazard(code: str, key: str, name: str, description: str) -> Category:
    return Category(key, code, "llama-guard-3", name, description)


def _own(code: str, key: str, name: str, description: str) -> Category:
    return Category(key, code, "corral", name, description)


CATEGORIES: Mapping[str, Category] = _table(
    _hazard("S1", "violent_crimes", "Violent Crimes",
            "Help with or praise of violence against people or animals, terrorism included."),
    _hazard("S2", "non_violent_crimes", "Non-Violent Crimes",
            "Fraud, theft, drugs, illegal weapons trade, hacking and similar crimes."),
    _hazard("S3", "sex_crimes", "Sex-Related Crimes",
            "Sexual assault, trafficking, harassment, forced prostitution."),
    _hazard("S4", "child_exploitation", "Child Sexual Exploitation",
            "Anything that sexualizes minors or helps to abuse them."),
    _hazard("S5", "defamation", "Defamation",
            "Statements about a real person that are false and likely to harm their name."),
    _hazard("S6", "specialized_advice", "Specialized Advice",
            "Medical, legal or financial advice that should come from a professional, "
            "or calling dangerous things safe."),
    _hazard("S7", "privacy", "Privacy",
            "Private facts about a person that could be used to harm them."),
    _hazard("S8", "intellectual_property", "Intellectual Property",
            "Help with violating somebody's copyright, patent or trademark."),
    _hazard("S9", "indiscriminate_weapons", "Indiscriminate Weapons",
            "Making chemical, biological, radiological, nuclear or high-yield explosive weapons."),
    _hazard("S10", "hate", "Hate",
            "Demeaning people for race, religion, sex, disability and other protected traits."),
    _hazard("S11", "self_harm", "Suicide & Self-Harm",
            "Encouraging or enabling suicide, self-injury or disordered eating."),
    _hazard("S12", "sexual_content", "Sexual Content", "Erotica."),
    _hazard("S13", "elections", "Elections",
            "Factually wrong statements about how, when or where to vote."),
    _hazard("S14", "code_interpreter_abuse", "Code Interpreter Abuse",
            "Breaking out of, attacking or draining the machine that runs the code."),
    _own("C1", "prompt_injection", "Prompt Injection",
         "Text that gives orders to the model from inside a document, or hides from the reader."),
    _own("C2", "secrets", "Secrets",
         "Passwords, private keys and access tokens."),
    _own("C3", "personal_data", "Personal Data",
         "Card, bank, passport and social security numbers."),
    _own("C4", "insecure_code", "Insecure Code",
         "Program code with a known weakness."),
)  # fmt: skip

OWN_KEY = re.compile(r"own_[a-z0-9_]{1,40}")
"""How the key of an owner's own category looks."""


@dataclass(frozen=True, slots=True)
class OwnCategory:
    """A hazard that the owner described, for guards that read their policy."""

    key: str
    name: str
    description: str

    def __post_init__(self) -> None:
        if not OWN_KEY.fullmatch(self.key) or not self.name.strip() or len(self.name) > 60:
            raise PolicyInvalid("A category of your own needs a name of at most 60 characters.")
        if len(self.description) > 600:
            raise PolicyInvalid("The description of a category takes at most 600 characters.")


def is_category(key: object) -> bool:
    """Whether a guard may name this key: one of `CATEGORIES`, or an owner's own."""
    return isinstance(key, str) and (key in CATEGORIES or OWN_KEY.fullmatch(key) is not None)


HAZARDS: tuple[str, ...] = tuple(
    key for key, category in CATEGORIES.items() if category.taxonomy == "llama-guard-3"
)
"""The keys of S1 to S14, in this order: the order of every 14-vector in safety/."""

_LLAMA_GUARD_3 = {CATEGORIES[key].code: key for key in HAZARDS}

# Llama Guard 2 (11 categories) leaves out Defamation, Elections and code abuse and counts on.
_LLAMA_GUARD_2 = {
    "S1": "violent_crimes", "S2": "non_violent_crimes", "S3": "sex_crimes",
    "S4": "child_exploitation", "S5": "specialized_advice", "S6": "privacy",
    "S7": "intellectual_property", "S8": "indiscriminate_weapons", "S9": "hate",
    "S10": "self_harm", "S11": "sexual_content",
}  # fmt: skip

# Llama Guard 1 (6 categories) cuts differently: each goes to the nearest of ours.
_LLAMA_GUARD_1 = {
    "O1": "hate",  # Violence and Hate
    "O2": "sexual_content",
    "O3": "non_violent_crimes",  # Criminal Planning
    "O4": "violent_crimes",  # Guns and Illegal Weapons
    "O5": "non_violent_crimes",  # Regulated or Controlled Substances
    "O6": "self_harm",
}

TAXONOMIES: Mapping[Taxonomy, Mapping[str, str]] = MappingProxyType(
    {
        "llama-guard-1": MappingProxyType(_LLAMA_GUARD_1),
        "llama-guard-2": MappingProxyType(_LLAMA_GUARD_2),
        "llama-guard-3": MappingProxyType(_LLAMA_GUARD_3),
    }
)
"""Code → key, for each published taxonomy."""
