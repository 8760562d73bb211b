"""The ``proxy`` command."""

import sys

import click

from chaos.proxy.address import AddressError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Host of the HTTP API.")
@click.option(
    "--port", default=8474, show_default=True, type=click.IntRange(0, 65535), help="Its port; 0 picks one."
)
@click.option("--seed", default=0, show_default=True, help="What every random draw depends on.")
@click.option("--allow-listen", multiple=True, metavar="HOST", help="Listen there too. Repeatable.")
@click.option("--allow-target", multiple=True, metavar="HOST", help="Dial there too. Repeatable.")
def proxy(
    host: str, port: int, seed: int, allow_listen: tuple[str, ...], allow_target: tuple[str, ...]
) -> None:
    """Run the embedded fault proxy, which any Toxiproxy client can drive.

    The API, and what proxies listen on and dial, are on loopback unless allowed.
    The first line on standard output says where the API listens.

    \b
    Exit status: 0 told to end; 2 the API's address cannot be used.
    """
    import uvloop

    from chaos.proxy.server import Settings, serve

    try:
        uvloop.run(serve(Settings(host, port, seed, allow_listen, allow_target)))
    except AddressError as error:
        click.echo(f"proxy: {error}", err=True)
        sys.exit(2)
