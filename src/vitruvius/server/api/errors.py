"""Why a request is not answered, in the forms that OpenAI's and Anthropic's clients know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    421: "permission_error",
    429: "rate_limit_error",
    500: "api_error",
    501: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
LONGEST = 500  # characters of a message


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: one line: what is wrong, the value, and what to do.
        param: the field that it is about.
        code: a word for programs.
        retry: seconds after which it may be tried again.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, retry: int | None = None
    ) -> None:
        text = " ".join(message.split())
        super().__init__(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")
        self.status, self.param, self.code, self.retry = status, param, code, retry

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of the answer."""
        found = {} if self.retry is None else {"retry-after": str(self.retry)}
        return found | ({"www-authenticate": "Bearer"} if self.status == 401 else {})

    def openai(self) -> dict[str, Any]:
        """As OpenAI's clients expect it."""
        return {
            "error": {"message": str(self), "type": TYPES[self.status], "param": self.param, "code": self.code},
        }

    def anthropic(self) -> dict[str, Any]:
        """As Anthropic's clients expect it."""
        return {"type": "error", "error": {"type": TYPES[self.status], "message": str(self)}}
