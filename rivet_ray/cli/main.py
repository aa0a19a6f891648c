"""The commands, and the one place where their errors become one line."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated, NoReturn

try:
    import typer
except ImportError as error:
    raise SystemExit(
        "rivet-ray: the server's packages are missing; pip install 'rivet-ray[server]'"
    ) from error

from rivet_ray.cli.arguments import hide_password
from rivet_ray.cli.checks import CommandError
from rivet_ray.cli.dev import serve_dev
from rivet_ray.cli.doctor import GROWTH, MOST_ACTORS, ActorsOf, examine_store
from rivet_ray.cli.host import serve_host
from rivet_ray.cli.serve import CLUSTER_GRACE, LEAST_GRACE, serve_ray
from rivet_ray.ids import DEFAULT_NAMESPACE
from rivet_ray.loading import NotLoadable
from rivet_ray.loading import load as load_registries
from rivet_ray.registry import DEFAULT_STORE
from rivet_ray.shutdown import GRACE
from rivet_ray.store import STORE_VARIABLE


class Topology(str, Enum):
    """How many actors share a host."""

    COORDINATE = "coordinate"
    PARTITION = "partition"


CorsOrigin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ORIGIN",
        help="Let pages of this origin call, like http://localhost:5173, whatever the registries "
        "say of CORS; may be repeated.",
    ),
]

AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A further name of this server, like app.internal: requests that name another are "
        "refused; may be repeated.",
    ),
]

Grace = Annotated[
    float,
    typer.Option(
        min=0.1,
        metavar="SECONDS",
        help="After SIGTERM or Ctrl-C the process ends within this time.",
    ),
]

application = typer.Typer(
    name="rivet-ray",
    help="Stateful actors: serve them, look at them, look after them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@application.command()
def dev(
    registries: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:CLASS...", help="Registries to serve, as one."),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 chooses a free one.")] = 8080,
    store: Annotated[
        str, typer.Option(metavar="URL", envvar=STORE_VARIABLE, help="Where state is kept.")
    ] = DEFAULT_STORE,
    reload: Annotated[bool, typer.Option(help="Start again when a source file changes.")] = False,
    cors_origin: CorsOrigin = None,
    allow_host: AllowHost = None,
    grace: Grace = GRACE,
) -> None:
    """Serve actors in this process, for development.

    Actor types without `on_auth` are open to everybody here, with a warning. Pages of this
    machine may use them, whatever their port; others only if an option or the registry says so.
    """
    serve_dev(
        registries,
        host=host,
        port=port,
        store=store,
        reload=reload,
        cors_origins=cors_origin or (),
        allow_hosts=allow_host or (),
        grace=grace,
    )


@application.command()
def host(
    registries: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:CLASS...", help="Registries whose actors live here."),
    ],
    store: Annotated[
        str,
        typer.Option(metavar="URL", envvar=STORE_VARIABLE, help="The store of the whole cluster."),
    ],
    listen: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 chooses a free one.")] = 0,
    grace: Grace = GRACE,
) -> None:
    """Run a host of actors in this process, for gateways elsewhere.

    RIVET_CLUSTER_SECRET has to be the same here and at the gateways.
    """
    serve_host(registries, store=store, listen=listen, port=port, grace=grace)


@application.command()
def serve(
    registries: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:CLASS...", help="Registries to serve, as one."),
    ],
    store: Annotated[
        str,
        typer.Option(metavar="URL", envvar=STORE_VARIABLE, help="The store that all hosts share."),
    ],
    ray: Annotated[
        bool, typer.Option("--ray", help="On a Ray cluster of this machine; so far the only way.")
    ] = False,
    topology: Annotated[
        Topology,
        typer.Option(help="coordinate: one host for all actors. partition: one for each."),
    ] = Topology.PARTITION,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 chooses a free one.")] = 8080,
    replicas: Annotated[int, typer.Option(min=1, help="How many gateways.")] = 1,
    spare_workers: Annotated[
        int, typer.Option(min=0, help="Processes kept ready for new hosts, 100 MB each.")
    ] = 2,
    open: Annotated[
        bool, typer.Option("--open", help="Let everybody use actor types without on_auth.")
    ] = False,
    cors_origin: CorsOrigin = None,
    grace: Annotated[
        float,
        typer.Option(
            min=LEAST_GRACE,
            metavar="SECONDS",
            help="After SIGTERM or Ctrl-C all processes of the cluster end within this time.",
        ),
    ] = CLUSTER_GRACE,
) -> None:
    """Serve actors on Ray: hosts that Ray supervises, and Ray Serve in front of them."""
    if not ray:
        raise CommandError("Say --ray; one process without Ray is served by `rivet-ray dev`.")
    serve_ray(
        registries,
        host=host,
        port=port,
        store=store,
        topology=topology.value,
        replicas=replicas,
        spare_workers=spare_workers,
        open=open,
        cors_origins=cors_origin or (),
        grace=grace,
    )


@application.command()
def doctor(
    store: Annotated[
        str, typer.Option(metavar="URL", envvar=STORE_VARIABLE, help="The store to look at.")
    ],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    registry: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:CLASS",
            help="List the actors that the code of this registry cannot load; may be repeated.",
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Of the actors to look at.")] = DEFAULT_NAMESPACE,
    actors: Annotated[
        int, typer.Option(min=1, help="Look at this many actors at the most.")
    ] = MOST_ACTORS,
    growth: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=86_400,
            metavar="SECONDS",
            help="Look at the sizes again after this time, and say what has grown; 0 does not. "
            f"{GROWTH:g} if the store is a shared one.",
        ),
    ] = None,
) -> None:
    """Say what a store keeps over which fault, and what of its settings is dangerous.

    Prints actors and bytes by type, how fast they grow, the largest actors, and the hosts.

    With a registry, list the actors that its code cannot load, and the scheduled entries that
    it cannot run. Input, state (through migrate), connections and schedule are read as when
    an actor starts. Nothing is claimed, saved or changed.

    Exits with 0 if there is nothing to mend, with 1 otherwise.
    """
    looked = (
        ActorsOf(load_registries(registry).definitions(), namespace, actors) if registry else None
    )
    if not examine_store(store, as_json=json, actors=looked, growth=growth, most=actors):
        raise typer.Exit(1)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 a fault, 2 wrong usage."""
    hide_password()
    try:
        application()
    except (CommandError, NotLoadable) as error:
        print(f"rivet-ray: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
