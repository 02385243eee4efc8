"""Read text files as kubectl does: a byte order mark says the encoding, else it is UTF-8.

Editors on Windows write UTF-8 with a mark, and PowerShell's `>` writes UTF-16.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """Return the text of a file without its byte order mark, with LF as the end of each line.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not in its encoding.
    """
    return decoded(path.read_bytes())


def decoded(content: bytes) -> str:
    """Return the text of a file's content; see `read_text`.

    Raises:
        ValueError: It is not in its encoding.
    """
    encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8")
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
