"""Personal data by its form: what is found, and what only looks like it."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab_api import personalforms, secretforms

FOUND = [
    ("mail me at jane.doe+x@mail.example.co.uk, please", "mail me at <EMAIL_ADDRESS>, please"),
    ("card 4111 1111 1111 1111.", "card <CREDIT_CARD>."),
    ("card 4111-1111-1111-1111", "card <CREDIT_CARD>"),
    ("to DE89 3704 0044 0532 0130 00 today", "to <IBAN_CODE> today"),
    ("to GB82WEST12345698765432", "to <IBAN_CODE>"),
    ("from 192.168.10.44.", "from <IP_ADDRESS>."),
    ("from 2001:db8::8a2e:370:7334 on", "from <IP_ADDRESS> on"),
    ("mac 00:1b:44:11:3a:b7", "mac <MAC_ADDRESS>"),
    ("ssn 536-22-8726", "ssn <US_SSN>"),
    ("call +49 30 1234567 now", "call <PHONE_NUMBER> now"),
    ("call 030 / 123 45 67", "call <PHONE_NUMBER>"),
    ("call (415) 555-2671!", "call <PHONE_NUMBER>!"),
]
LEFT = [
    "version 1.2.3.4.5 of 2026-11-27 at 21:15:07",
    "order 4111 1111 1111 1112",
    "GB82WEST12345698765433",
    "a@b and user@localhost",
    "256.300.1.2 is no address, nor is ::",
    "between 1000 and 200000 of 3.14159",
    "def f(x: int) -> int: return x[1:2:3]",
    "ratio 16:9, 0.5 - 0.75, 2019-2024",
]


def redacted(text: str) -> str:
    return secretforms.masked(text, personalforms.found_in(text), None)


@pytest.mark.parametrize(("text", "expected"), FOUND, ids=[text for text, _ in FOUND])
def test_what_has_the_form_is_found(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_like_it_is_left(text: str) -> None:
    assert redacted(text) == text


@given(st.text(alphabet="0123456789 .:-+@abAB()/", max_size=400))
def test_finds_are_in_order_and_apart_whatever_the_text(text: str) -> None:
    spans = personalforms.found_in(text)
    assert all(one.end <= other.start for one, other in itertools.pairwise(spans))


@pytest.mark.parametrize(
    "text",
    ["1 " * 20_000, "a.b-" * 10_000 + "@", "0" * 40_000, "12:" * 13_000, "DE12 " + "ABCD " * 8_000],
    ids=["digits apart", "an endless name", "zeros", "colons", "an endless account"],
)
def test_hostile_texts_cost_no_more_than_their_length(text: str) -> None:
    began = time.perf_counter()
    personalforms.found_in(text)
    assert time.perf_counter() - began < 2
