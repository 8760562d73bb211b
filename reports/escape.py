"""Names come from a run directory that anybody may have written: what each output must not let through.

A name is text and nothing else: it opens no tag, no table cell, no mention and no escape sequence.
"""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Bidirectional controls turn a line around; they show a reader something else than what is there.
_BIDI: Final = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]#|~])")
_PLAIN: Final = re.compile(r"[\w.:,/+=%()-]+(?: [\w.:,/+=%()-]+)*")
_XML_ILLEGAL: Final = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def for_html(text: str) -> str:
    """Text for an HTML element or a quoted attribute."""
    return html.escape(_visible(text), quote=True)


def for_markdown(text: str) -> str:
    """Text for a Markdown paragraph or table cell: no markup, mention, tag or line break in it."""
    one_line = " ".join(_visible(text).split("\n"))
    escaped = _MARKDOWN.sub(r"\\\1", one_line)
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Forges look for mentions in the rendered text, so neither a backslash nor an entity helps.
    return escaped.replace("@", "@\u200b")


def code_for_markdown(text: str) -> str:
    """A name as a Markdown code span; one with characters that could end it, as escaped text instead."""
    return f"`{text}`" if _PLAIN.fullmatch(text) else for_markdown(text)


def for_xml(text: str) -> str:
    """Text for XML 1.0, with the characters that it cannot hold made visible."""
    return html.escape(_XML_ILLEGAL.sub("\ufffd", _visible(text)), quote=True)


def for_terminal(text: str) -> str:
    """Text for a terminal: no control character but the line break."""
    return _visible(text)


def _visible(text: str) -> str:
    """Control and direction-changing characters as \\x1b-style escapes; tab and line break stay."""
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    text = _BIDI.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    # Lone surrogates cannot be encoded.
    return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) == "Cs" else c for c in text)
