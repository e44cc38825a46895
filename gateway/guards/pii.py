"""The `pii` guard: personal data, by their form and their check digits."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from gateway.guards.beginnings import PatternError
from gateway.guards.finder import Detector, Finder, Found
from gateway.settings.guards import PiiGuardSettings

_PATTERNS = {
    "iban": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
    "card": r"\b(?:\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}|3[47]\d{2}[ -]?\d{6}[ -]?\d{5}|\d{13,19})\b",
    "us_ssn": r"\b\d{3}-\d{2}-\d{4}\b",
    "ip": r"\b(?:\d{1,3}\.){3}\d{1,3}\b|(?:\b[0-9A-Fa-f]{1,4})?(?:::?[0-9A-Fa-f]{1,4}){1,7}\b",
    "secret": r"\b(?:(?:sk|pk|rk|pm)[-_]|gh[pousr]_|github_pat_|xox[abeoprs]-|AKIA|AIza)"
    r"[A-Za-z0-9_-]{12,200}",
    "email": r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,6}[A-Za-z]{2,24}",
    "phone": r"(?:\B[+(]|\b)\d(?:[ ().\-/]{0,3}\d){6,14}\b",
}
_DATE = re.compile(r"(?:19|20)\d\d[-/.](?:0\d|1[0-2])[-/.][0-3]\d")
PLACEHOLDER = rf"\[(?:{'|'.join(name.upper() for name in _PATTERNS)})_\d{{1,4}}\]"


@lru_cache(maxsize=64)
def pii_finder(entities: Sequence[str], regions: Sequence[str]) -> Finder:
    """Finds these entities. Patterns propose, libraries that know the check digits decide.

    Raises:
        PatternError: A region does not exist, or a library is not installed.
    """
    accept = _checks(regions)
    wanted = [name for name in _PATTERNS if name in entities]
    detectors = [Detector(name, _PATTERNS[name], accept.get(name)) for name in wanted]
    return Finder(detectors, streams=True)


class PiiGuard:
    """Finds personal data; see `Placeholders` for what takes its place."""

    def __init__(self, settings: PiiGuardSettings) -> None:
        self.settings = settings
        self.finder = pii_finder(settings.entities, settings.regions)

    def begin(self) -> Placeholders:
        """What is kept of one request."""
        return Placeholders()


class Placeholders:
    """The personal data of one request: the same datum has the same placeholder throughout."""

    def __init__(self) -> None:
        self._placeholders: dict[Found, str] = {}
        self._counts: dict[str, int] = {}

    def placeholder(self, found: Found) -> str:
        """`[EMAIL_1]`, `[PHONE_2]`, ..."""
        if found not in self._placeholders:
            count = self._counts[found.name] = self._counts.get(found.name, 0) + 1
            self._placeholders[found] = f"[{found.name.upper()}_{count}]"
        return self._placeholders[found]

    @property
    def originals(self) -> dict[str, str]:
        """What each placeholder given so far stands for."""
        return {placeholder: found.text for found, placeholder in self._placeholders.items()}


def _checks(regions: Sequence[str]) -> dict[str, Callable[[str], int]]:
    try:
        import phonenumbers
        import stdnum.iban
        import stdnum.luhn
        import stdnum.us.ssn
    except ImportError as error:
        raise PatternError("guards need the extra: pip install 'pointsman[guards]'") from error
    unknown = sorted(set(regions) - set(phonenumbers.SUPPORTED_REGIONS))
    if unknown:
        raise PatternError(f"regions: {', '.join(map(repr, unknown))} is no country's code")

    def card(text: str) -> int:
        return len(text) if stdnum.luhn.is_valid(_digits(text)) else 0

    def ssn(text: str) -> int:
        return len(text) if stdnum.us.ssn.is_valid(text) else 0

    def iban(text: str) -> int:
        # A word in capitals may follow, and the country says how long the number is.
        lengths = (n for n in range(len(text), 14, -1) if text[n - 1] != " ")
        return next((n for n in lengths if stdnum.iban.is_valid(text[:n])), 0)

    return {
        "card": card,
        "us_ssn": ssn,
        "iban": iban,
        "ip": _ip,
        "phone": partial(_phone, (None, *regions)),
    }


def _phone(regions: Sequence[str | None], text: str) -> int:
    import phonenumbers

    if _DATE.match(text):
        return 0
    for region in regions:
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            if match.start == 0:
                return int(match.end)
            break
    return 0


def _ip(text: str) -> int:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return 0
    # `a::b` is an address by the letter, and in most texts something else.
    return len(text) if text.count(":") == 0 or text.count(":") > 2 else 0


def _digits(text: str) -> str:
    return text.replace(" ", "").replace("-", "")
