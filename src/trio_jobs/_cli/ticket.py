"""`trio-jobs ticket create | revoke`: tickets with which anybody can follow one job."""

from __future__ import annotations

import argparse

from trio_jobs._cli.commands import print_answer
from trio_jobs._client.client import Client

__all__ = ["ticket"]


async def ticket(client: Client, arguments: argparse.Namespace) -> int:
    """Make a ticket and print it, or revoke all tickets."""
    if arguments.action == "revoke":
        await client.revoke_tickets()
        print_answer({"revoked": True}, arguments.json, "all tickets are revoked")
        return 0
    job = arguments.job
    if arguments.by_key:
        job = (await client.find(arguments.kind, job)).id
    made = await client.create_ticket(job, seconds=arguments.days * 86_400, show=arguments.show)
    print_answer({"ticket": made}, arguments.json, made)
    return 0
