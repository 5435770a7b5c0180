"""The group behind `amdm`: adds the plugins' commands, and turns errors and warnings into lines for people."""

from __future__ import annotations

import copy
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO, TypeVar

import click

from ..errors import AMDMError
from ..plugins import PluginRegistry, discover
from .results import printable

Group = TypeVar("Group", bound=click.Group)


class AmdmGroup(click.Group):
    """Runs commands for people: errors of the input without a traceback, warnings in one line, exit codes."""

    interrupts: Sequence[int] = ()
    """The interruptions that came while a command ran."""

    def with_commands_of(self, plugins: PluginRegistry) -> AmdmGroup:
        """Return a copy of this group, and of the groups in it, to which the plugins have added their commands.

        Plugins may come and go between two calls in one process, so this group itself stays as it is.
        """
        group = copy_group(self)
        plugins.add_commands(group)
        return group

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with warnings_in_one_line(), _noting_interrupts() as interrupts:
                try:
                    plugins = discover()
                    group = self.with_commands_of(plugins)
                    group.interrupts = interrupts
                    return click.Group.main(group, *args, obj=plugins, **kwargs)
                except SystemExit as end:
                    # Click says 1 of an interruption that comes while it reads the arguments.
                    if interrupts and end.code == 1:
                        sys.exit(130)
                    raise
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)

    def invoke(self, ctx: click.Context) -> Any:
        debug = bool(ctx.params["debug"])
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                traceback.print_exc()
            # Native code may turn an interruption into an error of its own.
            if isinstance(error, KeyboardInterrupt) or self.interrupts:
                click.echo("interrupted", err=True)
                ctx.exit(130)
            if not isinstance(error, AMDMError):
                raise
            message = printable("\n".join([str(error), *getattr(error, "__notes__", ())]))
            click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
            ctx.exit(2)
        finally:
            if debug:
                for failure in ctx.find_object(PluginRegistry).failures:  # type: ignore[union-attr]
                    click.echo(f"{failure}\n{failure.trace}", err=True)


def copy_group(group: Group) -> Group:
    """Return a copy of a group and of the groups in it; the commands themselves are shared."""
    copied = copy.copy(group)
    copied.commands = {
        name: copy_group(command) if isinstance(command, click.Group) else command
        for name, command in group.commands.items()
    }
    return copied


@contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """Collect the interruptions that come meanwhile; each still raises `KeyboardInterrupt`."""
    interrupts: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    # Whoever handles or ignores interruptions already keeps doing so.
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show Python warnings as `warning: ...` on standard error."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = printable(" ".join(str(message).split()))
        click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {text}", err=True, color=_color())

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _color() -> bool | None:
    return False if os.environ.get("NO_COLOR") or not sys.stderr.isatty() else None
