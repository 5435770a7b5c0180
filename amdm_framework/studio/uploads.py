"""Pictures that came through the page: limited, decoded, and written anew, so that nothing of the file itself is kept."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

from PIL import Image, ImageOps

from ..errors import InputError
from ..picture_files import prepare_folder, replace_file
from ..scene import Reference

MAX_UPLOAD_BYTES = 20 * 2**20
"""Largest file that is taken from a page."""

MAX_PIXELS = 2**25
"""Largest picture that is decoded, 33 megapixels."""

FORMATS = ("PNG", "JPEG", "WEBP")

STORED_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}-[0-9a-f]{12}\.png")


class UploadFolder:
    """Keeps reference pictures under names that say what they hold.

    A name ends in the first digits of the digest of the pixels, so equal pictures are kept once and nothing is ever
    overwritten by something else.

    Args:
        folder: where they are kept; it is made.
        incoming: where the web server puts what it received; files there are read and removed, no others.

    Raises:
        InputError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, incoming: Path) -> None:
        prepare_folder(folder)
        self.folder = folder.resolve()
        self._incoming = incoming.resolve()

    def received(self, path: str) -> Path:
        """Return the file that the web server has just received.

        Raises:
            InputError: it is not in the folder for such files, or too large.
        """
        try:
            received = Path(path).resolve()
            usable = received.is_relative_to(self._incoming) and received.is_file()
        except (OSError, ValueError):
            usable = False
        if not usable:
            raise InputError("this is no file that was just uploaded")
        if received.stat().st_size > MAX_UPLOAD_BYTES:
            raise InputError(f"the file is larger than {MAX_UPLOAD_BYTES // 2**20} MiB")
        return received

    def add(self, file: Path, name: str) -> str:
        """Decode a picture and keep it as PNG, without whatever else the file held.

        Args:
            file: the picture.
            name: what its owner calls it.

        Returns:
            The name under which it is kept.

        Raises:
            InputError: it is no picture of a format that is taken, too large, or damaged.
        """
        picture = _decoded(file, name)
        content = io.BytesIO()
        picture.save(content, format="PNG")
        stem = re.sub(r"[^a-z0-9]+", "-", Path(name).stem.lower()).strip("-")[:40].strip("-") or "picture"
        digest = hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()
        # A picture that comes back under its stored name keeps it.
        stem = re.sub(r"-[0-9a-f]{12}$", "", stem)
        stored = f"{stem}-{digest[:12]}.png"
        if not (self.folder / stored).exists():
            replace_file(self.folder / stored, lambda out: out.write(content.getvalue()))
        return stored

    def find(self, name: str) -> Path | None:
        """Return the file kept under a name, None where there is none."""
        if not STORED_NAME.fullmatch(name):
            return None
        path = self.folder / name
        return path if path.is_file() and not path.is_symlink() else None


def _decoded(file: Path, name: str) -> Image.Image:
    try:
        # Only these decoders: others hand files to programs outside.
        with Image.open(file, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(
                    f"{name} has {picture.width}x{picture.height} pixels, expected {MAX_PIXELS} at most: scale it down"
                )
            upright = ImageOps.exif_transpose(picture)
            return Reference(role="upload", image=upright).open()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} is not a {', '.join(FORMATS)} picture that can be read: {error}") from error
