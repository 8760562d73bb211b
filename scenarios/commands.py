"""How commands end: what none of them deals with itself, with one line a fault and a status of its own."""

from __future__ import annotations

import os
import select
import sys
import traceback

import click

from reports.gates import GatesError
from reports.planning import PlanError
from reports.verdict import Exit

from .model import ScenarioError


class Commands(click.Group):
    """What no command deals with itself ends all of them alike: one line a fault, or a status of its own.

    A traceback would end with 1, which a pipeline reads as a failed gate.
    """

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (ScenarioError, GatesError, PlanError) as wrong:
            click.echo(str(wrong), err=True)
            sys.exit(Exit.USAGE)
        except KeyboardInterrupt:  # where a run no longer takes it, as while its report is made
            sys.exit(Exit.INTERRUPTED)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as wrong:
            if isinstance(wrong, BrokenPipeError) and _nobody_reads():
                sys.exit(Exit.INTERRUPTED)
            traceback.print_exc()
            click.echo("chatproof: internal error; the lines above say where. Please report them.", err=True)
            sys.exit(Exit.INTERNAL)


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that was closed, as by `| head`; what is left is then thrown away."""
    try:
        out = sys.stdout.fileno()
        poll = select.poll()
        poll.register(out, 0)
        closed = bool(poll.poll(0))  # with nothing asked for, only errors are told
    except OSError:  # no file, as in a test
        return False
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out)
    return closed
