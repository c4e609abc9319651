"""The short form of a result, for the container's termination message.

The kubelet keeps 4 KiB. A longer document loses what can be read elsewhere first; the failure,
which decides what becomes of the job, is lost never.
"""

import json
from typing import Any

from trimtab_api import names
from trimtab_api.model import ApiModel

# What a failure's message may take when nothing else is left.
_MESSAGE_BYTES = 3000


def termination_message(result: ApiModel, limit: int = names.TERMINATION_MESSAGE_BYTES) -> bytes:
    """The document, at most `limit` bytes long and valid JSON in any case."""
    wire = dict(result.to_wire())
    while len(message := _encode(wire)) > limit:
        lists = [key for key, value in wire.items() if isinstance(value, list) and value]
        if lists:
            longest = max(lists, key=lambda key: len(_encode(wire[key])))
            wire[longest] = wire[longest][: len(wire[longest]) // 2]  # type: ignore[index]  # a list
            continue
        rest = [key for key in wire if key != "failure"]
        if not rest:
            return _encode({"failure": _shortened(wire["failure"], limit)})
        del wire[max(rest, key=lambda key: len(_encode(wire[key])))]
    return message


def _shortened(failure: Any, limit: int) -> dict[str, str]:
    message = str(failure["message"]).encode()[: min(_MESSAGE_BYTES, limit // 2)]
    return {"reason": failure["reason"], "message": message.decode(errors="ignore") + "…"}


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
