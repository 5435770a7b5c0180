"""The browser of the tests: the machine's own Chromium. As a script, installs one from Debian's packages if there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VARIABLE = "AMDM_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome")
# Without a font, pages have no text.
PACKAGES = ("chromium", "fonts-dejavu-core")


def find_chromium() -> Path | None:
    """Return the program that AMDM_CHROMIUM names, or the first that is on PATH; None where there is none.

    Raises:
        FileNotFoundError: AMDM_CHROMIUM names something else than a program.
    """
    chosen = os.environ.get(VARIABLE)
    found = next(filter(None, map(shutil.which, [chosen] if chosen else NAMES)), None)
    if chosen and not found:
        raise FileNotFoundError(f"{VARIABLE} is {chosen!r}, which is no program that can be run")
    return Path(found) if found else None


def install_chromium() -> None:
    """Install Chromium and a font by apt-get, through sudo for users other than root.

    Raises:
        FileNotFoundError: there is no apt-get, or no sudo where it is needed; says what to install.
        subprocess.CalledProcessError: apt-get failed.
    """
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    if not all(map(shutil.which, [*as_root, "apt-get"])):
        raise FileNotFoundError(
            "the tests in the browser need Chromium or Chrome, which cannot be installed from here: install it by hand so "
            f"that {', '.join(NAMES[:-1])} or {NAMES[-1]} is on PATH, or set {VARIABLE} to its path"
        )
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        subprocess.run([*as_root, "apt-get", *arguments], check=True)


if __name__ == "__main__":
    try:
        if find_chromium() is None:
            install_chromium()
        print(f"the browser is {find_chromium()}")
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(f"make: {error}")
