"""Chat templates: Jinja2 programs that arrive with a checkpoint, run so that they can only make text.

A template finds here what transformers gives it (utils/chat_template_utils.py): an immutable sandbox, `trim_blocks`
and `lstrip_blocks`, loop controls, `{% generation %}`, `tojson`, `raise_exception`, `strftime_now`. The sandbox keeps
it away from Python, but not from looping forever or filling the memory. So all its work is counted: every block that is
entered, every item that is passed on, every comparison and every text that is built spends from one allowance, and what
would be large is refused before it is made. There are no clocks and no signals, so this holds in any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from warnings import warn

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError

from ...errors import InputError, InputWarning
from .allowance import TooMuchError
from .sandbox import RefusalError, Sandbox

LONGEST_TEMPLATE = 1 << 17  # characters


def render(
    template: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    bos_token: str = "",
    eos_token: str = "",
    **variables: Any,
) -> str:
    """The prompt that a chat template makes of a conversation.

    Args:
        template: the text of the template.
        messages: dicts with "role" and "content".
        tools: JSON schemas of functions, for templates that offer them to the model.
        add_generation_prompt: whether to end with the beginning of the assistant's answer.
        bos_token: text of the token that begins a sequence.
        eos_token: text of the token that ends a sequence.
        variables: whatever else the template knows, such as `enable_thinking`.

    Raises:
        InputError: the template is not valid, refuses the messages, oversteps its sandbox or does too much.
    """
    if len(template) > LONGEST_TEMPLATE:
        raise InputError(f"the chat template has {len(template):,} characters, more than {LONGEST_TEMPLATE:,}")
    given = {
        "messages": messages,
        "tools": tools,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
        "bos_token": bos_token,
        "eos_token": eos_token,
        **variables,
    }
    try:
        return Sandbox().run(template, plain(given))
    except RefusalError as error:
        problem = f"refuses these messages: {error}"
    except SecurityError as error:
        problem = f"oversteps its sandbox: {error}"
    except TooMuchError as error:
        problem = f"does too much: {error}"
    except RecursionError:
        problem = "does too much: it nests too deeply"
    except (TemplateError, SyntaxError) as error:
        problem = f"cannot be used: {error}"
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        problem = f"fails on these messages: {type(error).__name__}: {error}"
    raise InputError(f"the chat template {one_line(problem)}")


PROBE = "What 7 words does this message say?"


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with its variables, for messages whose content is text.

    What the template does with a text is found by trying: published templates expect either.
    """

    template: str
    variables: Mapping[str, Any]

    def render(self, messages: list[dict[str, Any]]) -> str:
        """The prompt; see `render`. No message's text is lost, or the template's own refusal is raised."""
        system = messages[0] if messages and messages[0].get("role") == "system" else None
        if system is None or self.says("system") or self.says("system", in_parts):
            return self._rendered(messages)
        asked = next((i for i, message in enumerate(messages) if message.get("role") == "user"), None)
        if asked is None or not all(isinstance(m.get("content"), str) for m in (system, messages[asked])):
            return self._rendered(messages)
        warn("the chat template has no system role: that message goes before the first user's", InputWarning, 4)
        joined = {**messages[asked], "content": f"{system['content']}\n\n{messages[asked]['content']}"}
        return self._rendered([*messages[1:asked], joined, *messages[asked + 1 :]])

    def _rendered(self, messages: list[dict[str, Any]]) -> str:
        texts = any(isinstance(message.get("content"), str) for message in messages)
        parts = texts and not self.says("user") and self.says("user", in_parts)
        return render(self.template, list(map(in_parts, messages)) if parts else messages, **self.variables)

    def says(self, role: str, form: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> bool:
        """Whether the template writes what a message of this role says. True where it refuses even a user's."""
        user = {"role": "user", "content": PROBE[::-1]}
        probe = [{"role": role, "content": PROBE}, *([user] if role != "user" else [])]
        try:
            return PROBE in render(self.template, list(map(form, probe)), **self.variables)
        except InputError:
            return role == "user" and form is dict


def in_parts(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose text is a list of one part."""
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def one_line(text: str) -> str:
    """`text` in one line of at most 300 characters."""
    line = " ".join(text[:1000].split())
    return line if len(line) <= 300 else f"{line[:299]}…"


def plain(value: Any) -> Any:
    """A copy made of dicts, lists and scalars only, so that a template reaches no method of a caller's object."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} cannot be given to a chat template, only what JSON can hold")
