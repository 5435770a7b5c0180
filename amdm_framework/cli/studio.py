"""`amdm studio`: a page in the browser."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import warnings
from pathlib import Path

import click

from ..errors import InputError
from ..plugins import PluginRegistry
from .request import device_option, dtype_option

PASSWORD_VARIABLE = "AMDM_STUDIO_PASSWORD"
SHORTEST_PASSWORD = 10


@click.command(short_help="Draw scenes and compose models in the browser.")
@click.argument("composition", type=click.Path(path_type=Path), required=False)
@click.option("--scene", type=click.Path(path_type=Path), help="YAML file of the scene to begin with.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to bind to. One that other machines reach needs a password, which is asked for, or taken from the "
    f"environment variable {PASSWORD_VARIABLE}.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 takes a free one.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("studio"),
    show_default=True,
    help="Folder for the pictures; those in it are the gallery. It is made where it is not there.",
)
@click.option(
    "--models",
    "folders",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    multiple=True,
    help="Folder of weights that compositions may name, beside hf:// references and what COMPOSITION names. Repeatable.",
)
@device_option
@dtype_option
@click.option("--open", "open_browser", is_flag=True, help="Open the page in the browser of this machine.")
@click.pass_obj
def studio(
    plugins: PluginRegistry,
    composition: Path | None,
    scene: Path | None,
    host: str,
    port: int,
    output: Path,
    folders: tuple[Path, ...],
    device: str,
    dtype: str,
    open_browser: bool,
) -> None:
    """Draw scenes, compose models and look at the results on a page in the browser.

    Begins with COMPOSITION (a YAML file), or with an example of an installed plugin. The page can read the files that
    COMPOSITION names, the pictures that are dropped onto it, and the folders of --models, nothing else of this machine.

    Runs until it is interrupted. Pictures carry their settings, as those of `amdm run` do.
    """
    if importlib.util.find_spec("gradio") is None:
        raise InputError("the studio's page is served by gradio: pip install 'amdm-framework[ui]'")
    from ..devices import choose_device
    from ..record import UPLOADS
    from ..studio.app import is_loopback, make_app, open_socket, serve
    from ..studio.containment import ReadableFiles
    from ..studio.drafts import DraftChecker
    from ..studio.drawing import JobDrawer
    from ..studio.gallery import Gallery
    from ..studio.incoming import IncomingFolder
    from ..studio.jobs import JobQueue
    from ..studio.service import StudioService
    from ..studio.start import starting_points
    from ..studio.uploads import UploadFolder
    from ..trace_plot import require_matplotlib

    if scene is not None and composition is None:
        raise InputError("--scene goes with COMPOSITION")
    require_matplotlib()
    # One that is not here is told before anything is made.
    choose_device(device)
    password = None if is_loopback(host) and PASSWORD_VARIABLE not in os.environ else _password(host)
    drawer = JobDrawer(plugins, device, dtype, output)
    # What arrives is decoded and written anew at once; this folder is gone with the studio.
    with tempfile.TemporaryDirectory(prefix="amdm-studio-") as temporary:
        incoming = IncomingFolder(Path(temporary))
        uploads = UploadFolder(output / UPLOADS)
        starts = starting_points(composition, scene, plugins, uploads)
        files = ReadableFiles(
            uploads,
            [folder.resolve() for folder in folders],
            [file for start in starts for file in start.files],
        )
        listening = open_socket(host, port)
        jobs = JobQueue(drawer)
        service = StudioService(
            plugins,
            starts,
            DraftChecker(plugins, files, device, dtype),
            jobs,
            Gallery(output),
            uploads,
            incoming,
            device,
        )
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"

        def ready() -> None:
            click.echo(f"studio: {address}")
            if open_browser:
                click.launch(address)

        try:
            with warnings.catch_warnings():
                # Pages are told what runs warn of. Set here for all threads: none can have filters of its own.
                warnings.simplefilter("ignore", UserWarning)
                serve(make_app(service, incoming, host, password), listening, ready)
        finally:
            service.close()


def _password(host: str) -> str:
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is None:
        if not sys.stdin.isatty():
            raise InputError(
                f"--host {host} lets other machines in, which needs a password: set {PASSWORD_VARIABLE}, or keep to "
                "127.0.0.1"
            )
        password = str(click.prompt("password for the studio", hide_input=True, confirmation_prompt=True, err=True))
    if len(password) < SHORTEST_PASSWORD:
        raise InputError(f"the studio's password has {len(password)} characters, expected {SHORTEST_PASSWORD} at least")
    return password
