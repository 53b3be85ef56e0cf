"""`raysal index serve` and `stop`: start and end processes that hold a pool for several sessions."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from raysal.cli.garbage import look_now
from raysal.cli.options import Address, place
from raysal.cli.output import Debug, Json, Outcome
from raysal.cli.progress import progress

Name = Annotated[str, Option("--name", metavar="NAME", help="The name of the service.")]


def serve(
    pool: Annotated[
        str,
        Argument(
            parser=place,
            metavar="POOL",
            help="The pool: a directory, under a path that every node sees, or s3://BUCKET/POOL.",
        ),
    ],
    name: Name,
    partitions: Annotated[int, Option(min=0, help="Processes. (Default: one per CPU.)", show_default=False)] = 0,
    threads: Annotated[
        int, Option(min=0, help="CPU threads of each process. (Default: an even share.)", show_default=False)
    ] = 0,
    device: Annotated[str, Option(help="cpu, or cuda for a GPU in each process.")] = "cpu",
    address: Address = None,
    json: Json = False,
    debug: Debug = False,
) -> Outcome:
    r"""Start processes on a running Ray cluster that hold a pool for several sessions, and return.

    A run uses them if its config has service = "NAME" under \[fleet]; `raysal index search` uses them with --service.

    They run until `raysal index stop`.
    """
    del json, debug
    with progress("starting"):
        from raysal.config import FleetConfig
        from raysal.fleet.service import start_service
        from raysal.pool import open_pool

        look_now()

        config = FleetConfig(service=name, partitions=partitions, threads=threads, device=device, address=address)
        started, specs = start_service(open_pool(pool), config)
    data = {"pool": str(pool), "name": name, "partitions": len(specs), "threads": specs[0].threads, "started": started}
    state = "runs" if started else "runs already"
    view = (
        f'{name}: {state}, {len(specs)} partitions of {specs[0].threads} threads; use it with service = "{name}" '
        f"under [fleet], end it with `raysal index stop --name {name}`"
    )
    return Outcome(data=data, view=view)


def stop(name: Name, address: Address = None, json: Json = False, debug: Debug = False) -> Outcome:
    """End a service. Runs that still use it stop at their next step and lose nothing."""
    del json, debug
    from raysal.fleet.service import stop_service

    count = stop_service(name, address)
    return Outcome(data={"name": name, "partitions": count}, view=f"{name}: ended, {count} partitions")
