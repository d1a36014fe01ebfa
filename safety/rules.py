"""Fixed rules for what no training row covers: sexual content about minors (S4).

The bundled classifier has never seen S4, so a strict list stands in its place. A text is hit if a
word for a minor and a sexual word stand close together, unless the sentence around them plainly
protects (prevention, law, education, medicine, news). Wanting it, or making it, outweighs that.
English and Chinese. Which words are here says nothing about anybody; it is a net with wide meshes.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from safety.base import Verdict
from safety.normalize import normalized

_MINOR = (
    r"child(?:ren)?(?!hood)|kid(?:s|dies)?|minors?|under-?aged?|pre-?teens?|toddlers?|infants?|"
    r"bab(?:y|ies)|school-?(?:girl|boy)s?|little (?:girl|boy|sister|brother)s?|"
    r"young (?:girl|boy)s?|(?:[1-9]|1[0-7]) ?(?:-| )?(?:year|yr)s?(?:-| )?olds?|"
    r"(?:age[ds]?|aged) (?:of )?(?:[1-9]|1[0-7])|(?:[1-9]|1[0-7]) ?y/?o|"
    r"(?:six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen)-year-old|"
    r"(?:third|fourth|fifth|sixth|seventh|eighth|ninth)[ -]graders?|"
    r"lol(?:i|icon|ita)s?|shota(?:con)?s?|teen(?:age)? (?:girl|boy)s?|(?:pre)?pubescents?"
)
_SEXUAL = (
    r"porn(?:o|ography|ographic)?|erotic(?:a|ally)?|nud(?:e|es|ity)|naked|sexual(?:ly|ized|ised)?|"
    r"sexy|sex(?! of\b)|seduc(?:e|es|ing|tive)|masturbat\w+|orgasms?|genitals?|penetrat\w+|hentai|"
    r"nsfw|fetish(?:es)?|molest(?:ed|ing)?|rap(?:e|ed|ing)|grop(?:e|ed|ing)|intercourse|horny|arous\w+|"
    r"lewd|undress(?:ed|ing)?|explicit (?:story|scene|images?|content|photos?)|strip(?:ping)? naked"
)
_HARD = (
    r"child ?porn(?:ography)?|kiddie ?porn|p[ae]edo(?:phile)? ?(?:porn|pics|ring|content|material)|"
    r"\bcsam\b|(?:child|minor)s? sexual abuse (?:material|images?|videos?)|"
    r"lolicon|shotacon|under-?age(?:d)? (?:porn|nudes?|sex)|jailbait|pre-?teen (?:porn|nudes?|sex)"
)
_WANTED = (
    r"\b(?:where (?:can|do|could|to)|how (?:can|do|could|to|would)|find|get|buy|download|watch|"
    r"sell|share|trade|make|produc\w+|creat\w+|generat\w+|draw|write|describ\w+|roleplay|role-play|"
    r"pretend|act as|want(?:s|ed)?|send|show|collect|access|lure|groom|seduce|convince|persuade)\b"
)
_PROTECTS = (
    r"\b(?:prevent\w*|protect\w*|report(?:ing|ed|s)?|detect\w*|combat\w*|fight(?:ing)? against|"
    r"stop|illegal|law(?:s|yer)?|legal|crim(?:e|es|inal)|convict\w*|arrest\w*|sentenc\w*|prosecut\w*|"
    r"polic(?:e|y)|victims?|surviv\w+|signs|warning|safe(?:ty|guard\w*)?|educat\w+|teach\w*|"
    r"curriculum|health|pediatric\w*|doctor|medical|puberty|explain|talk to|counsel\w*|therap\w+|"
    r"research|statistics|study|studies|history|awareness|harm(?:s|ful)?|wrong|"
    r"normal|bath\w*|diapers?|napp(?:y|ies)|potty|ultrasound|gender|"
    r"cannot|can't|won't|refuse|not (?:ok|okay|acceptable)|never|moderat\w+|filter|block\w*)\b"
)
_MINOR_ZH = (
    "儿童|孩子|小孩|幼女|幼童|女童|男童|未成年|小学生|初中生|萝莉|正太|小女孩|小男孩|婴儿|"
    "(?:[1-9]|1[0-7])岁"
)
_SEXUAL_ZH = "色情|裸照|裸体|性爱|性交|做爱|情色|淫|猥亵|强奸|性侵|性感|自慰|诱奸|A片|成人片|黄片"
_HARD_ZH = "儿童色情|幼女色情|未成年色情|幼交|恋童(?:癖)?(?:视频|资源|图片|内容)"
_WANTED_ZH = (
    "怎么|如何|哪里|哪儿|下载|购买|出售|制作|拍摄|写一|描写|生成|画一|想要|找到|资源|诱骗|引诱"
)
_PROTECTS_ZH = (
    "防止|预防|保护|举报|打击|违法|犯罪|法律|判|警|受害|教育|避免|识别|制止|心理|"
    "反对|危害|谴责|研究|拒绝|不能|不应|不得|禁止|严惩"
)

_NEAR = 60  # characters between a word for a minor and a sexual word
_NEAR_ZH = 16
_AROUND = 160  # characters on both sides in which protecting words count


@dataclass(frozen=True, slots=True)
class _Language:
    near: re.Pattern[str]
    hard: re.Pattern[str]
    wanted: re.Pattern[str]
    protects: re.Pattern[str]


def _near(first: str, second: str, gap: int, edge: str) -> re.Pattern[str]:
    one, two = rf"{edge}(?:{first}){edge}", rf"{edge}(?:{second}){edge}"
    return re.compile(f"{one}.{{0,{gap}}}?{two}|{two}.{{0,{gap}}}?{one}", re.DOTALL)


class RuleGuard:
    """A guard of fixed rules: P(unsafe) is 1 or 0. Nothing to load, nothing to train."""

    name = "rules"
    version = "1"

    def __init__(self) -> None:
        self._languages = (
            _Language(
                _near(_MINOR, _SEXUAL, _NEAR, r"\b"),
                re.compile(_HARD),
                re.compile(_WANTED),
                re.compile(_PROTECTS),
            ),
            _Language(
                _near(_MINOR_ZH, _SEXUAL_ZH, _NEAR_ZH, ""),
                re.compile(_HARD_ZH),
                re.compile(_WANTED_ZH),
                re.compile(_PROTECTS_ZH),
            ),
        )

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """Judge the reply if there is one, else the prompt."""
        started = time.perf_counter()
        plain = normalized(prompt if reply is None else reply)
        languages = self._languages[:1] if plain.isascii() else self._languages
        hit = any(_exploits(plain, language) for language in languages)
        scores = {"child_exploitation": 1.0} if hit else {}
        seconds = time.perf_counter() - started
        return Verdict(float(hit), scores, self.name, self.version, seconds)


def _exploits(plain: str, language: _Language) -> bool:
    for pattern in (language.hard, language.near):
        for match in pattern.finditer(plain):
            around = plain[max(0, match.start() - _AROUND) : match.end() + _AROUND]
            protects = len(language.protects.findall(around))
            wanted = len(language.wanted.findall(around))
            if protects == 0 or (pattern is language.hard and wanted > protects):
                return True
    return False
