"""Pictures that came through the page: limited, decoded, and written anew, so that nothing of the file itself is kept."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from ..picture_files import prepare_folder, replace_file, require_space
from ..scene import as_rgb

MAX_PIXELS = 2**25
"""Largest picture that is decoded, 33 megapixels."""

FORMATS = ("PNG", "JPEG", "WEBP")

STORED_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}-[0-9a-f]{12}\.png")


class UploadFolder:
    """Keeps reference pictures under names that say what they hold.

    A name ends in the first digits of the digest of the pixels, so equal pictures of one name are kept once and nothing
    is ever overwritten by something else.

    Args:
        folder: where they are kept; it is made.

    Raises:
        InputError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        prepare_folder(folder)
        self.folder = folder.resolve()

    def add(self, file: Path, name: str) -> str:
        """Decode a picture that came over the network and keep it as PNG, without whatever else the file held.

        Args:
            file: the picture.
            name: what its owner calls it.

        Returns:
            The name under which it is kept.

        Raises:
            InputError: it is no picture of a format that is taken, too large, or damaged; or the disk is full.
        """
        return self.keep(_decoded(file, Path(name).name[:80] or "the file"), name)

    def keep(self, picture: Image.Image, name: str) -> str:
        """Keep a picture as PNG, and return the name under which it is kept.

        Args:
            picture: RGB.
            name: what its owner calls it.

        Raises:
            InputError: the disk is full.
        """
        digest = hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()
        # A picture that comes back under its stored name keeps it.
        stem = re.sub(r"-[0-9a-f]{12}$", "", Path(name).stem.lower())
        stem = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40].strip("-") or "picture"
        stored = f"{stem}-{digest[:12]}.png"
        if not (self.folder / stored).exists():
            require_space(self.folder, 1, picture.height, picture.width)
            content = io.BytesIO()
            # A colour profile would be written again.
            picture.info = {}
            picture.save(content, format="PNG")
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
            return as_rgb(picture, name)
    except UnidentifiedImageError:
        # Its message names the file as it lies here.
        raise InputError(f"{name} is no picture of the formats {', '.join(FORMATS)}") from None
    except InputError:
        raise
    except Exception as error:
        # Decoders fail in many ways at what is damaged.
        raise InputError(f"{name} is a damaged picture: {error}") from error
