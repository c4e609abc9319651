"""The short form of a result, for the container's termination message.

The kubelet keeps 4 KiB. A longer document loses what can be read elsewhere first; the failure,
which decides what becomes of the job, is lost never.
"""

import json
from typing import Any

from trimtab_api import names
from trimtab_api.model import ApiModel


def termination_message(result: ApiModel, limit: int = names.TERMINATION_MESSAGE_BYTES) -> bytes:
    """The document, at most `limit` bytes long and valid JSON in any case.

    A document that knows the field `shortened` says whether something is missing.
    """
    wire = dict(result.to_wire())
    if len(_encode(wire)) > limit and "shortened" in wire:
        wire["shortened"] = True
    while len(message := _encode(wire)) > limit:
        lists = {key: value for key, value in wire.items() if isinstance(value, list) and value}
        if lists:
            longest = max(lists, key=lambda key: len(_encode(lists[key])))
            wire[longest] = lists[longest][: len(lists[longest]) // 2]
            continue
        rest = [key for key in wire if key != "failure"]
        if not rest:
            return _shortened(wire["failure"], limit)
        del wire[max(rest, key=lambda key: len(_encode(wire[key])))]
    return message


def _shortened(failure: Any, limit: int) -> bytes:
    message = str(failure["message"])
    while True:
        message = message[: len(message) * 3 // 4]
        short = _encode({"failure": {"reason": failure["reason"], "message": message + "…"}})
        if len(short) <= limit:
            return short


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
