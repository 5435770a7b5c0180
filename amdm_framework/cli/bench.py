"""`amdm bench`: the group to which packages add their benchmarks."""

from __future__ import annotations

import click


class BenchGroup(click.Group):
    """A group that is there even where no installed package adds to it, and then says so."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of benchmarks, or what is missing for one."""
        if self.commands:
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_text(
                "None: no installed package adds a benchmark. README.md of amdm-framework lists the distributions that "
                "add some under 'Install'."
            )


@click.group(cls=BenchGroup, short_help="Benchmarks of installed packages.")
def bench() -> None:
    """Measure models and aggregates of them by the benchmarks of installed packages."""
