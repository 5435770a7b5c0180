"""What a page is told of an error: the sentences, without the files of this machine that they are about."""

from __future__ import annotations

from ..errors import AMDMError, InputError


def message_of(error: AMDMError) -> str:
    """Return an error in words for the page, a line per problem, with the notes that it carries."""
    lines = [str(error)]
    if isinstance(error, InputError):
        lines = [f"{one.key}: {one.message}" if one.key else one.message for one in error.problems]
    return "\n".join([*lines, *getattr(error, "__notes__", ())])
