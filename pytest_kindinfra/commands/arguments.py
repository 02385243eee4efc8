"""What the `kindinfra` command accepts: its commands and their arguments. Pure.

Each command has the attribute `command`; what is done for it is in `cli.py`.
"""

from __future__ import annotations

import argparse
from typing import Any

from pytest_kindinfra.plan.options import expand_path, find_option

DESCRIPTION = "Plan, build, deploy and inspect the services of a test run, without running tests."


SHELLS = ("bash", "zsh", "fish")


_OLD_IMAGES_DAYS = 7.0


_LOG_LINES = 100


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="kindinfra", description=DESCRIPTION)
    parser.add_argument("--version", action="store_true", help="Show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_stages(commands)
    _add_lasting(commands)
    _add_inside(commands)
    _add_snapshot(commands)
    _add_general(commands)
    return parser


def _workers(text: str) -> int:
    """Return a number of workers; argparse reports the error."""
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


_workers.__name__ = "number of workers"  # as argparse calls it: invalid number of workers value


def _add_stages(commands: Any) -> None:
    commands.add_parser(
        "init", help="Write kindinfra.toml and a first test from the files in this folder"
    )
    build = commands.add_parser("build", help="Build the images, without a cluster")
    _add_services(build)
    build.add_argument("--no-cache", action="store_true", help="Build without any cache")
    build.add_argument(
        "--save",
        type=expand_path,
        metavar="DIR",
        help="Also save the images in DIR, for --kindinfra-images=DIR",
    )
    plan = commands.add_parser("plan", parents=[_json()], help="Show what a run would do")
    _add_services(plan)
    plan.add_argument(
        "--workers",
        type=_workers,
        default=0,
        metavar="N",
        help="Show the copies of services per worker for pytest -n N",
    )
    pull = commands.add_parser(
        "pull", help="Fetch the images and charts that a run needs from elsewhere"
    )
    _add_services(pull)
    pull.add_argument("--save", type=expand_path, metavar="DIR", help="Write them to a folder too")


def _add_lasting(commands: Any) -> None:
    """Add the commands about the cluster that runs with --kindinfra-reuse share."""
    named = _named()
    up = commands.add_parser(
        "up", parents=[named], help="Deploy services to the reused cluster (--kindinfra-reuse)"
    )
    _add_services(up)
    dev = commands.add_parser(
        "dev",
        parents=[named],
        usage="kindinfra dev [-h] [--cluster-name NAME] [SERVICE ...] [-- CMD ...]",
        help="Deploy services again after each change, then run the tests",
        epilog="After --: the command to run after each change, in the folder of the declaration "
        "(default: pytest --lf --kindinfra-reuse). Ctrl-C ends it; the services stay.",
    )
    _add_services(dev)
    commands.add_parser("down", parents=[named], help="Delete the reused cluster")
    commands.add_parser("status", parents=[named, _json()], help="Show which services are ready")
    logs = commands.add_parser("logs", parents=[named], help="Show the logs of the services")
    logs.add_argument("service", nargs="?", metavar="SERVICE", help="default: all")
    logs.add_argument(
        "--lines", type=int, default=_LOG_LINES, metavar="N", help="default: %(default)s"
    )
    logs.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="Follow the logs, also of new pods, until Ctrl-C",
    )


def _add_inside(commands: Any) -> None:
    """Add the commands that reach into the services of that cluster."""
    named = _named()
    url = commands.add_parser("url", parents=[named], help="Show the URL of an endpoint")
    url.add_argument("service", metavar="SERVICE")
    url.add_argument("endpoint", nargs="?", metavar="ENDPOINT", help="default: the first declared")
    execute = commands.add_parser(
        "exec",
        parents=[named],
        usage="kindinfra exec [-h] [--cluster-name NAME] [-c CONTAINER] [-i] SERVICE -- CMD ...",
        help="Run a command in a ready pod of a service",
    )
    execute.add_argument("-c", "--container", metavar="CONTAINER", help="default: the first one")
    execute.add_argument(
        "-i", "--stdin", action="store_true", help="Pass standard input on to the command"
    )
    execute.add_argument("service", metavar="SERVICE")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD", help="after --")
    restart = commands.add_parser(
        "restart", parents=[named], help="Restart the pods of services, and wait until ready"
    )
    restart.add_argument("services", nargs="+", metavar="SERVICE")
    kubectl = commands.add_parser(
        "kubectl",
        parents=[named],
        usage="kindinfra kubectl [-h] [--cluster-name NAME] ...",
        help="Call kubectl with the kubeconfig and the namespace of the services",
    )
    kubectl.add_argument("words", nargs=argparse.REMAINDER, metavar="...")


def _add_snapshot(commands: Any) -> None:
    """Add the commands about the snapshots that clusters boot from."""
    snapshot = commands.add_parser(
        "snapshot", help="List, make, push, pull or remove snapshots of clusters"
    )
    actions = snapshot.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", parents=[_json()], help="Say which snapshots the engine has")
    make = actions.add_parser(
        "make", parents=[_json()], help="Make one that has the images of services"
    )
    _add_services(make)
    make.add_argument(
        "--save", type=expand_path, metavar="FILE", help="Also write it to FILE, for docker load"
    )
    for action, does in (("push", "Push the one of this folder to"), ("pull", "Pull one from")):
        move = actions.add_parser(action, parents=[_json()], help=f"{does} a registry")
        move.add_argument("reference", metavar="REF", help="its name there: HOST/NAME:TAG")
    actions.add_parser("remove", help="Remove all snapshots that no cluster uses")


def _add_general(commands: Any) -> None:
    commands.add_parser(
        "doctor", parents=[_json()], help="Check this machine: what is missing, and warnings"
    )
    gc = commands.add_parser(
        "gc", parents=[_json()], help="Delete the clusters of runs that were killed"
    )
    gc.add_argument(
        "--images", action="store_true", help="Also delete old images that this plugin built"
    )
    gc.add_argument(
        "--older-than",
        type=_days,
        default=_OLD_IMAGES_DAYS,
        metavar="DAYS",
        help="With --images: unused for at least so many days (default: %(default)s)",
    )
    gc.add_argument(
        "--kubeconfig",
        type=expand_path,
        metavar="FILE",
        help="Also delete what has expired in the existing cluster of this kubeconfig",
    )
    gc.add_argument(
        "--context", metavar="NAME", help="Which context of it, or of the files of kubectl"
    )
    commands.add_parser("schema", help="Print the JSON Schema of kindinfra.toml, for editors")
    completion = commands.add_parser("completion", help="Print a completion script for a shell")
    completion.add_argument("shell", choices=SHELLS)


def _add_services(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("services", nargs="*", metavar="SERVICE", help="default: all services")


def _named() -> argparse.ArgumentParser:
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument(
        "--cluster-name",
        metavar=find_option("cluster_name").metavar,
        help="Name of the cluster, if not the default",
    )
    return named


def _json() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", action="store_true", help="Print JSON, for other programs")
    return parser


def _days(text: str) -> float:
    if not (days := float(text)) >= 0:
        raise ValueError
    return days
