"""Personal data that has a form, for programs that must be small and quick. Pure.

What a Dataset's preparation looks for goes by presidio and knows more kinds; here are those that
have few look-alikes, under the same names. Names and places have no form and are not found.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Final

from trimtab_api.secretforms import Span, without_overlaps

_EMAIL: Final = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
_CARD: Final = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
_IBAN: Final = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_IPV4: Final = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)")
_IPV6: Final = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_MAC: Final = re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![\w:-])")
_SSN: Final = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
# With a country's code, with a leading zero, or grouped as in North America.
_PHONE: Final = re.compile(
    r"(?<![\w.+/-])(?:"
    r"\+\d{1,3}(?:[ ()./-]{0,2}\d){6,13}"
    r"|\(?0\d{1,4}\)?[ ./-]{1,3}\d{2,}(?:[ ./-]?\d{2,}){0,4}"
    r"|(?:1[ .-])?\(?[2-9]\d{2}\)?[ .-]\d{3}[ .-]\d{4}"
    r")(?![\w-])"
)
_LEAST_PHONE_DIGITS: Final = 7


def found_in(text: str) -> list[Span]:
    """Finds in their order; they do not overlap."""
    return without_overlaps(
        [
            Span(match.start(), match.end(), kind)
            for kind, hint, pattern, is_one in _KINDS
            if hint is None or hint in text
            for match in pattern.finditer(text)
            if is_one(match[0])
        ]
    )


def _anything(_: str) -> bool:
    return True


def _is_card(text: str) -> bool:
    """Luhn's checksum over the digits."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = (d * 2 - 9 * (d > 4) for d in digits[-2::-2])
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 7064 over the number with its head moved to the end."""
    packed = text.replace(" ", "")
    moved = packed[4:] + packed[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _is_address(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False


def _is_phone(text: str) -> bool:
    return sum(character.isdigit() for character in text) >= _LEAST_PHONE_DIGITS


_KINDS: Final[tuple[tuple[str, str | None, re.Pattern[str], Callable[[str], bool]], ...]] = (
    ("EMAIL_ADDRESS", "@", _EMAIL, _anything),
    ("CREDIT_CARD", None, _CARD, _is_card),
    ("IBAN_CODE", None, _IBAN, _is_iban),
    ("IP_ADDRESS", ".", _IPV4, _is_address),
    ("IP_ADDRESS", ":", _IPV6, _is_address),
    ("MAC_ADDRESS", None, _MAC, _anything),
    ("US_SSN", "-", _SSN, _anything),
    ("PHONE_NUMBER", None, _PHONE, _is_phone),
)
