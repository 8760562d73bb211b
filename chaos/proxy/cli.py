"""The ``proxy`` command."""

import sys

import click

from chaos.proxy.address import AddressError
from chaos.proxy.frame_view import BadView, load_view


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Host of the HTTP API.")
@click.option(
    "--port", default=8474, show_default=True, type=click.IntRange(0, 65535), help="Its port; 0 picks one."
)
@click.option("--seed", default=0, show_default=True, help="What every random draw depends on.")
@click.option("--allow-listen", multiple=True, metavar="HOST", help="Listen there too. Repeatable.")
@click.option("--allow-target", multiple=True, metavar="HOST", help="Dial there too. Repeatable.")
@click.option(
    "--frame-view",
    default="",
    metavar="MODULE:ATTRIBUTE",
    help="How toxics read the server's frames; chatd's is loadgen.drivers.chatd_view:FRAME_VIEW.",
)
def proxy(
    host: str,
    port: int,
    seed: int,
    allow_listen: tuple[str, ...],
    allow_target: tuple[str, ...],
    frame_view: str,
) -> None:
    """Run the embedded fault proxy, which any Toxiproxy client can drive.

    The API, and what proxies listen on and dial, are on loopback unless allowed.
    The first line on standard output says where the API listens.

    \b
    Exit status: 0 told to end; 2 the API's address or the frame view cannot be used.
    """
    import uvloop

    from chaos.proxy.server import Settings, serve

    try:
        view = load_view(frame_view) if frame_view else None
        uvloop.run(serve(Settings(host, port, seed, allow_listen, allow_target, view)))
    except (AddressError, BadView) as error:
        click.echo(f"proxy: {error}", err=True)
        sys.exit(2)
