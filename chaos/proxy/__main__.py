"""``python -m chaos.proxy``."""

from chaos.proxy.cli import proxy

if __name__ == "__main__":
    proxy(prog_name="python -m chaos.proxy")
