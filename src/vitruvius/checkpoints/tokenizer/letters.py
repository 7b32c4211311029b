"""GPT-2 writes bytes as letters: printable ones as themselves, the other 68 as U+0100 and on (openai/gpt-2,
encoder.py)."""

from __future__ import annotations

PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
BYTE_OF = {chr(byte): byte for byte in PRINTABLE} | {chr(0x100 + i): byte for i, byte in enumerate(OTHERS)}
_LETTER_OF = {byte: letter for letter, byte in BYTE_OF.items()}


def letters(token: bytes) -> str:
    """Bytes as letters."""
    return "".join(map(_LETTER_OF.__getitem__, token))


def byte_level(token: str) -> bytes:
    """The bytes that GPT-2's letters stand for; tokens with other letters were added as they are."""
    try:
        return bytes(map(BYTE_OF.__getitem__, token))
    except KeyError:
        return token.encode()
