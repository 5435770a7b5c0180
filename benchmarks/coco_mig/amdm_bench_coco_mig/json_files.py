"""Reading a JSON file that holds one object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amdm_framework.batch.plain_json import parse_object
from amdm_framework.errors import InputError, Problem


def read_json_object(path: Path, max_bytes: int) -> dict[str, Any]:
    """Read the object in a JSON file.

    Args:
        path: the file.
        max_bytes: a larger file is a mistake.

    Raises:
        InputError: there is no such file, it is too large, is not text, not JSON, no object, or has a key twice.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise InputError([Problem(f"is larger than {max_bytes} bytes, expected another file", file=str(path))])
        return parse_object(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError([Problem("no such file", file=str(path))]) from None
    except UnicodeDecodeError as error:
        raise InputError([Problem(f"cannot be read as text: {error}", file=str(path))]) from error
    except OSError as error:
        raise InputError([Problem(f"cannot be read: {error.strerror or error}", file=str(path))]) from error
    except InputError as error:
        raise InputError([Problem(one.message, one.key, one.file or str(path)) for one in error.problems]) from error
