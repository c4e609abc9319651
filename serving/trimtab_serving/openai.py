"""OpenAI's error bodies: the one form in which users hear what went wrong."""

import json

from trimtab_serving.asgi import Headers

JSON: Headers = [(b"content-type", b"application/json")]


class ApiError(Exception):
    """A refusal in OpenAI's words; raised anywhere, rendered at the edge."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 - OpenAI's word
        param: str | None = None,
        code: str | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers: Headers = headers or []
        # The version that is to blame, where one is.
        self.version = ""

    def body(self) -> bytes:
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return json.dumps({"error": error}).encode()

    def wire_headers(self) -> Headers:
        return [*JSON, *self.headers]


def unknown_path(method: str, path: str) -> ApiError:
    return ApiError(404, f"Unknown request URL: {method} {path}.", code="unknown_url")


def wrong_method(method: str, path: str, allowed: str) -> ApiError:
    return ApiError(
        405,
        f"Not allowed to {method} on {path}; use {allowed}.",
        code="method_not_supported",
        headers=[(b"allow", allowed.encode())],
    )


def missing_key() -> ApiError:
    return ApiError(
        401,
        "You didn't provide an API key. Send it in a header: Authorization: Bearer YOUR_KEY.",
        headers=[(b"www-authenticate", b"Bearer")],
    )


def wrong_key() -> ApiError:
    return ApiError(
        401,
        "Incorrect API key provided.",
        code="invalid_api_key",
        headers=[(b"www-authenticate", b"Bearer")],
    )


def unknown_model(model: str) -> ApiError:
    shown = model if len(model) <= 128 else f"{model[:128]}..."
    return ApiError(
        404, f"The model `{shown}` does not exist.", param="model", code="model_not_found"
    )


def no_json(reason: str) -> ApiError:
    return ApiError(400, f"The body of the request is no valid JSON: {reason}")


def bad_field(field_name: str, expected: str) -> ApiError:
    return ApiError(
        400,
        f"Invalid type for '{field_name}': expected {expected}.",
        param=field_name,
        code="invalid_type",
    )


def missing_field(field_name: str) -> ApiError:
    return ApiError(
        400,
        f"Missing required parameter: '{field_name}'.",
        param=field_name,
        code="missing_required_parameter",
    )


def unsupported(field_name: str, circumstance: str = "") -> ApiError:
    return ApiError(
        400,
        f"Unsupported parameter: '{field_name}'{circumstance} is not supported here.",
        param=field_name,
        code="unsupported_parameter",
    )


def body_too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        f"The body of the request is larger than the {limit} bytes that are allowed.",
        code="request_too_large",
        headers=[(b"connection", b"close")],
    )


def no_engine(message: str) -> ApiError:
    """Nothing can answer now; it will pass, so the client is told to come again."""
    return ApiError(
        503,
        message,
        type="server_error",
        code="no_engine_available",
        headers=[(b"retry-after", b"2")],
    )


def too_many_requests(per_minute: int, seconds: int) -> ApiError:
    """One key asks for more than it may; another would be answered."""
    return ApiError(
        429,
        f"Rate limit reached: {per_minute} requests a minute from one key. Please try again in {seconds}s.",
        type="rate_limit_error",
        code="rate_limit_exceeded",
        headers=[(b"retry-after", b"%d" % seconds)],
    )


def engine_failed(message: str) -> ApiError:
    return ApiError(502, message, type="server_error", code="engine_failed")
