"""`trio-jobs login`: a link with which a person logs in to the page of a server."""

from __future__ import annotations

import argparse

from trio_jobs._cli.commands import print_answer
from trio_jobs._cli.output import print_error
from trio_jobs._client.client import Client

__all__ = ["login"]


async def login(client: Client, arguments: argparse.Namespace) -> int:
    """Print the link, or open it."""
    address = await client.login_link()
    if arguments.open:
        import webbrowser  # only where it is needed

        if webbrowser.open(address):
            print_error("the page is open in a browser")
            return 0
        print_error("no browser can be opened here; open the link where there is one")
    print_answer({"url": address, "expires_in": 300}, arguments.json, address)
    return 0
