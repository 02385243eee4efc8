"""`docker`, `podman` and `kind` as far as the plugin can tell them from the real ones.

All keep their state in one folder: `calls.jsonl` (each call's start and end), `images/` (one
file for each reference, with what the image holds), `clusters/NAME/NODE/` (the references that a
kind node has). How a call is to go otherwise is in `behaviour.json`, by what it does (helm is a
file apart):

    {"build api": {"seconds": 0.5, "until": "gate", "exit": 1, "times": 1, "says": "no space"}}

The cluster itself is the test's (fake_clusters.py), asked over a socket. This is started some
hundred times, with `python -SE`, so nothing slow is imported.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GATE_LIMIT = 120.0
TOLD = ("BUILDKIT_PROGRESS", "KIND_EXPERIMENTAL_PROVIDER", "KUBECONFIG")


class Failure(Exception):  # noqa: N818 - no error of ours, but one that is played
    """The program prints something and ends with that exit code."""

    def __init__(self, says: str, code: int = 1) -> None:
        super().__init__(says)
        self.code = code


def run(program: str, folder: str) -> None:
    """Be `program` with this process's arguments."""
    words = sys.argv[1:]
    what = what_it_is(program, words)
    call = f"{os.getpid()}-{time.monotonic_ns()}"
    told = (*TOLD, *values(words, "--build-arg"))  # without a value it is a variable's name
    environment = {name: os.environ[name] for name in told if name in os.environ}
    note(folder, {"call": call, "what": f"{what} {subject(words)}".strip(),
                  "argv": [program, *words], "env": environment, "start": time.time()})  # fmt: skip
    code = 0
    try:
        acts = _acts(program)
        act = acts.get(f"{program} {what}") or acts.get(what) or refuse
        act(folder, words)
    except Failure as failure:
        print(failure, file=sys.stderr)  # noqa: T201
        code = failure.code
    note(folder, {"call": call, "exit": code, "end": time.time()})
    sys.exit(code)


def _acts(program: str) -> dict[str, Callable[[str, list[str]], None]]:
    if program in {"helm", "kubectl"}:
        from importlib import import_module  # beside this file

        acts: dict[str, Callable[[str, list[str]], None]] = import_module("fake_helm").ACTS
        return acts
    return ACTS


def what_it_is(program: str, words: list[str]) -> str:
    """Return the words by which tests know such a call."""
    first = words[0]
    if program in {"helm", "kubectl"}:
        return f"{program} {first}"
    if first == "version":
        return f"{program} version"
    if first == "exec":
        at = words.index("k8s.io")
        return "blobs" if words[at + 1] == "content" else words[at + 2]
    if words[:2] in (["buildx", "inspect"], ["context", "inspect"]):
        return f"which {'builder' if first == 'buildx' else 'context'}"
    if first in {"image", "get"} or words[:2] == ["buildx", "version"]:
        return " ".join(words[:2])
    build = "cache" if "--output=type=cacheonly" in words else "build"
    return build if first == "buildx" else first


def subject(words: list[str]) -> str:
    """Return the declared image that is built."""
    return value(words, "--label").partition("=")[2] if "--label" in words else ""


def refuse(_folder: str, words: list[str]) -> None:
    """Fail, since the real one would do something that is not faked."""
    msg = f"this is not faked: {' '.join(words)}"
    raise Failure(msg, 98)


def note(folder: str, record: dict[str, Any]) -> None:
    """Append a record in one write, so that those of several processes do not mix."""
    line = json.dumps(record).encode() + b"\n"
    handle = os.open(f"{folder}/calls.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line)
    os.close(handle)


def behaviour(folder: str, what: str) -> dict[str, Any]:
    """Return what the test wants of such a call."""
    try:
        with open(f"{folder}/behaviour.json") as file:  # noqa: PTH123 - pathlib is slow to import
            how: dict[str, Any] = json.load(file).get(what, {})
            return how
    except FileNotFoundError:
        return {}


def behave(folder: str, what: str) -> None:
    """Take the time that the test wants, and fail if it wants that."""
    how = behaviour(folder, what)
    if how.get("says"):
        print(how["says"], flush=True)  # noqa: T201
    time.sleep(how.get("seconds", 0))
    if "until" in how:
        wait_for_gate(folder, how["until"])
    if how.get("exit") and still(folder, what, how.get("times")):
        raise Failure(how.get("complains", ""), how["exit"])


def still(folder: str, what: str, times: int | None) -> bool:
    """Whether a failure that happens so many times happens again."""
    for number in range(times or 0):
        path = f"{folder}/gates/failure-{number}-{what}"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return True
    return times is None


def wait_for_gate(folder: str, gate: str) -> None:
    """Return when somebody opened the gate."""
    late = time.monotonic() + GATE_LIMIT
    while not os.path.exists(f"{folder}/gates/{gate}"):  # noqa: PTH110
        if time.monotonic() > late:
            msg = f'nobody opened the gate "{gate}"'
            raise Failure(msg, 97)
        time.sleep(0.01)


# -- docker ----------------------------------------------------------------------------------------


def docker_version(folder: str, _words: list[str]) -> None:
    """Print the server's version."""
    behave(folder, "docker version")
    print("28.0.0")  # noqa: T201


def buildx_version(_folder: str, _words: list[str]) -> None:
    """Print the version of the plugin that builds."""
    print("github.com/docker/buildx v0.29.1 a1b2c3")  # noqa: T201


def buildx_inspect(folder: str, words: list[str]) -> None:
    """Print a builder: the engine's own, or the one that BUILDX_BUILDER names."""
    behave(folder, "which builder")
    name = words[2] if len(words) > 2 else os.environ.get("BUILDX_BUILDER", "default")
    driver = "docker" if name == "default" else "docker-container"
    print(f"Name:          {name}\nDriver:        {driver}\n\nNodes:\nName: {name}0")  # noqa: T201


def context_inspect(folder: str, _words: list[str]) -> None:
    """Print the name of the context in use."""
    behave(folder, "which context")
    print("default")  # noqa: T201


def ps(folder: str, words: list[str]) -> None:
    """Print the ids of all containers, or one cluster's: the names of the kind nodes."""
    behave(folder, "ps")
    if not any(word.startswith("label=io.x-k8s.kind") for word in words):
        return  # a registry's container: there is none
    _, _, wanted = value(words, "--filter").removeprefix("label=").partition("=")
    for cluster in [wanted] if wanted else listed(f"{folder}/clusters"):
        print("\n".join(nodes(folder, cluster)))  # noqa: T201


def inspect(folder: str, words: list[str]) -> None:
    """Print a kind node's address, or a line of JSON for each kind node."""
    behave(folder, "inspect")
    if "Running" in words[2]:
        print("true" if node(folder, words[3]) else "")  # noqa: T201
        return
    if words[2] != "{{json .}}":
        print(read(node(folder, words[3]), "address"))  # noqa: T201
        return
    for name in words[3:]:
        path = node(folder, name)
        labels = {"io.x-k8s.kind.cluster": path.split("/")[-2]}
        state = {"Running": not os.path.exists(f"{path}/stopped")}  # noqa: PTH110
        mounts, ports = (json.loads(read(path, what)) for what in ("mounts", "ports"))
        binds = [f"{one['Source']}:{one['Destination']}:ro" for one in mounts]
        for one in mounts:  # an engine in a virtual machine shows its own paths here
            one["Source"] = behaviour(folder, "inspect").get("machine", "") + one["Source"]
        host = {"Binds": binds, "PortBindings": ports}
        shown = {"Name": f"/{name}", "State": state, "Config": {"Labels": labels},
                 "Mounts": mounts, "HostConfig": host}  # fmt: skip
        print(json.dumps(shown))  # noqa: T201


def wait(folder: str, words: list[str]) -> None:
    """Return when a kind node is gone, or the engine."""
    while True:
        try:
            node(folder, words[1])
        except Failure:
            break
        if behaviour(folder, "docker version").get("exit"):
            msg = "error waiting for container: unexpected EOF"
            raise Failure(msg)
        time.sleep(0.05)
    print(137)  # noqa: T201


def inspect_images(folder: str, words: list[str]) -> None:
    """Print a line of JSON for each image that is there; exit code 1 if one is not."""
    behave(folder, "image inspect")
    missing = []
    for reference in words[4:]:
        if reference in listed(f"{folder}/images"):
            print(json.dumps(image(folder, reference)))  # noqa: T201
        else:
            missing.append(reference)
    if missing:
        raise Failure("\n".join(f"Error: No such image: {one}" for one in missing))


def image(folder: str, reference: str) -> dict[str, Any]:
    """Return what the engine says of an image; those called localhost/NAME were built by us."""
    path = f"{folder}/images/{reference.replace('/', '%2F')}"
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(os.path.getmtime(path)))  # noqa: PTH204
    name = reference.partition(":")[0].removeprefix("localhost/")
    labels = {"dev.kindinfra.image": name} if reference.startswith("localhost/") else {}
    holds = held(folder, reference)
    names = [one for one in listed(f"{folder}/images") if held(folder, one) == holds]
    return {"Id": f"sha256:{holds}", "RepoTags": names, "Created": made,
            "Size": 1000, "RootFS": {"Layers": [holds]}, "Config": {"Labels": labels}}  # fmt: skip


def held(folder: str, reference: str) -> str:
    """Return what an image holds: what a build put into it, else the name that it came with."""
    try:
        return read(f"{folder}/images", reference.replace("/", "%2F")) or reference
    except FileNotFoundError:  # somebody has just removed it
        return reference


def list_own_images(folder: str, _words: list[str]) -> None:
    """Print what inspects the images that were built by us."""
    behave(folder, "image ls")
    own = [one for one in listed(f"{folder}/images") if one.startswith("localhost/")]
    print("\n".join({held(folder, one): one for one in own}.values()))  # noqa: T201 - by their ids


def remove_image(folder: str, words: list[str]) -> None:
    """Remove an image."""
    behave(folder, "image rm")
    os.unlink(f"{folder}/images/{words[2].replace('/', '%2F')}")  # noqa: PTH108


def build(folder: str, words: list[str]) -> None:
    """Make an image appear under its tag, as far as its base is there."""
    for path in (value(words, "--file"), words[-1]):
        if not os.path.exists(path):  # noqa: PTH110
            msg = f"ERROR: unable to prepare context: {path} not found"
            raise Failure(msg)
    for context in values(words, "--build-context"):
        base = context.partition("docker-image://")[2]
        if base and base not in listed(f"{folder}/images"):
            msg = f"ERROR: {base}: not found"
            raise Failure(msg)
    finish_build(folder, words)


def finish_build(folder: str, words: list[str]) -> None:
    """Have a built image, which holds all that it was built from unless a test says otherwise."""
    name, tag = subject(words), value(words, "--tag")
    behave(folder, f"build {name}")
    holds = behaviour(folder, f"build {name}").get("holds")
    put(f"{folder}/images", tag, f"{name} {holds}" if holds else tag.rpartition("-")[0])


def export_cache(folder: str, words: list[str]) -> None:
    """Do nothing, for as long as the test wants."""
    behave(folder, f"cache {subject(words)}")


def save(folder: str, words: list[str]) -> None:
    """Print an archive, or write it: here just the names of what is in it."""
    behave(folder, "save")
    file = value(words, "--output") if "--output" in words else ""
    references = words[3:] if file else words[1:]
    for reference in references:
        if reference not in listed(f"{folder}/images"):
            msg = f"Error response from daemon: reference does not exist: {reference}"
            raise Failure(msg)
    import tarfile

    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for reference in words[1:]:
            archive.addfile(tarfile.TarInfo(reference))
    if file:
        write(file, "\n".join(f"{one} {held(folder, one)}" for one in references))
    else:
        print("\n".join(references))  # noqa: T201


def load(folder: str, words: list[str]) -> None:
    """Have the images of an archive."""
    behave(folder, "load")
    path, _, name = value(words, "--input").rpartition("/")
    for line in read(path, name).splitlines():
        reference, _, holds = line.partition(" ")
        put(f"{folder}/images", reference, holds)
        print(f"Loaded image: {reference}")  # noqa: T201


def tag(folder: str, words: list[str]) -> None:
    """Have an image under another name too."""
    behave(folder, "tag")
    if words[1] not in listed(f"{folder}/images"):
        msg = f"Error response from daemon: No such image: {words[1]}"
        raise Failure(msg)
    put(f"{folder}/images", words[2], held(folder, words[1]))


def list_images(folder: str, words: list[str]) -> None:
    """Print the full names of the images in a kind node."""
    behave(folder, "list")
    print("\n".join(listed(f"{node(folder, words[1])}/images")))  # noqa: T201


def import_images(folder: str, words: list[str]) -> None:
    """Read an archive, and have its images in a kind node under their full names."""
    import tarfile

    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        references = archive.getnames()
    behave(folder, "import")
    for reference in references:
        put(f"{node(folder, words[3])}/images", full_name(reference))


def list_blobs(folder: str, _words: list[str]) -> None:
    """Print the digests in a kind node's content store: none."""
    behave(folder, "blobs")


def remove_images(folder: str, words: list[str]) -> None:
    """Have a kind node no longer list these images."""
    behave(folder, "remove")
    for reference in words[words.index("remove") + 1 :]:
        path = f"{node(folder, words[1])}/images/{reference.replace('/', '%2F')}"
        if os.path.exists(path):  # noqa: PTH110
            os.unlink(path)  # noqa: PTH108


def full_name(reference: str) -> str:
    """Return `docker.io/library/redis:7` for `redis:7`, as containerd lists it."""
    domain = reference.partition("/")[0]
    if domain == "localhost" or "." in domain.partition(":")[0]:
        return reference
    return f"docker.io/{reference}" if "/" in reference else f"docker.io/library/{reference}"


def node(folder: str, name: str) -> str:
    """Return the folder of a kind node's container."""
    for cluster in listed(f"{folder}/clusters"):
        if name in nodes(folder, cluster):
            return f"{folder}/clusters/{cluster}/{name}"
    msg = f"Error response from daemon: No such container: {name}"
    raise Failure(msg)


# -- podman: as docker, but for what it prints and how it names images (podman 4.3.1) -------------


def podman_version(folder: str, _words: list[str]) -> None:
    """Print the version; there is no server that could be down."""
    behave(folder, "podman version")
    print("4.3.1")  # noqa: T201


def podman_inspect(folder: str, words: list[str]) -> None:
    """Print as docker, but where that prints lines of JSON, one array over many lines."""
    if words[2] != "{{json .}}":
        inspect(folder, words)
        return
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as lines:
        inspect(folder, words)
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    print(json.dumps(found, indent=5))  # noqa: T201


def podman_inspect_images(folder: str, words: list[str]) -> None:
    """Print an array of those that are there; names are full ones, ids lack `sha256:`."""
    behave(folder, "image inspect")
    by_name = {full_name(one): one for one in listed(f"{folder}/images")}
    found = []
    for name in (one for one in words[2:] if one in by_name):
        told = image(folder, by_name[name])
        names = [full_name(one) for one in told["RepoTags"]]
        found.append({**told, "Id": told["Id"].partition(":")[2], "RepoTags": names})
    print(json.dumps(found, indent=5))  # noqa: T201
    missing = [one for one in words[2:] if one not in by_name]
    if missing:
        msg = f"Error: inspecting object: {missing[0]}: image not known"
        raise Failure(msg, 125)


def podman_build(folder: str, words: list[str]) -> None:
    """Make an image appear under its tag, as far as its base is there."""
    for path in (value(words, "--file"), value(words, "--ignorefile"), words[-1]):
        if not os.path.exists(path):  # noqa: PTH110
            msg = f"Error: stat {path}: no such file or directory"
            raise Failure(msg, 125)
    there = {full_name(one) for one in listed(f"{folder}/images")}
    for context in values(words, "--build-context"):
        base = context.partition("container-image://")[2]
        if base not in there:
            msg = f"Error: creating build container: initializing source docker://{base}"
            raise Failure(msg, 125)
    finish_build(folder, words)


def podman_save(folder: str, words: list[str]) -> None:
    """Print an archive: the names of what would be in it."""
    behave(folder, "save")
    if "--multi-image-archive" not in words:
        msg = "Error: this is not faked: podman save of one image"
        raise Failure(msg, 98)
    references = words[words.index("--multi-image-archive") + 1 :]
    by_name = {full_name(one) for one in listed(f"{folder}/images")}
    for reference in references:
        if reference not in by_name:
            msg = f"Error: {reference}: image not known"
            raise Failure(msg, 125)
    import tarfile

    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for reference in references:
            archive.addfile(tarfile.TarInfo(reference))


def podman_kill(folder: str, _words: list[str]) -> None:
    """Say nothing: who is killed is deleted next."""
    behave(folder, "kill")


# -- kind ------------------------------------------------------------------------------------------


def kind_version(folder: str, _words: list[str]) -> None:
    """Print the version."""
    behave(folder, "kind version")
    print("0.30.0")  # noqa: T201


def get_clusters(folder: str, _words: list[str]) -> None:
    """Print the names of all clusters."""
    behave(folder, "get clusters")
    print("\n".join(listed(f"{folder}/clusters")))  # noqa: T201


def get_nodes(folder: str, words: list[str]) -> None:
    """Print the names of a cluster's containers."""
    behave(folder, "get nodes")
    print("\n".join(nodes(folder, value(words, "--name"))))  # noqa: T201


def create(folder: str, words: list[str]) -> None:
    """Make containers first and then a cluster of them: a failure leaves the containers."""
    name, cluster = value(words, "--name"), f"{folder}/clusters/{value(words, '--name')}"
    if os.path.exists(cluster):  # noqa: PTH110
        msg = f'ERROR: node(s) already exist for a cluster with the name "{name}"'
        raise Failure(msg)
    with open(value(words, "--config")) as file:  # noqa: PTH123
        config = json.load(file)
    made = ask(folder, {"do": "create", "name": name, "config": config})
    for number, spec in enumerate(config.get("nodes") or [{}], start=1):
        tail = f"{spec.get('role', 'control-plane')}{number if number > 1 else ''}"
        os.makedirs(f"{cluster}/{name}-{tail}/images")  # noqa: PTH103
        write(f"{cluster}/{name}-{tail}/address", made["address"])
        mounts = [{"Source": mount["hostPath"], "Destination": mount["containerPath"]}
                  for mount in spec.get("extraMounts", ())]  # fmt: skip
        write(f"{cluster}/{name}-{tail}/mounts", json.dumps(mounts))
        ports = {f"{one['containerPort']}/tcp": [{"HostPort": str(one["hostPort"])}]
                 for one in spec.get("extraPortMappings") or ()}  # fmt: skip
        write(f"{cluster}/{name}-{tail}/ports", json.dumps(ports))
        for reference in behaviour(folder, "create").get("images", ()):
            put(f"{cluster}/{name}-{tail}/images", reference)
    behave(folder, "create")
    write(value(words, "--kubeconfig"), made["kubeconfig"])
    if behaviour(folder, "create").get("prints"):
        print(made["kubeconfig"])  # noqa: T201


def delete(folder: str, words: list[str]) -> None:
    """Delete the containers; there being none is fine."""
    behave(folder, "delete")
    name = value(words, "--name")
    ask(folder, {"do": "delete", "name": name})
    cluster = f"{folder}/clusters/{name}"
    for path, folders, files in os.walk(cluster, topdown=False):
        for one in files:
            os.unlink(f"{path}/{one}")  # noqa: PTH108
        for one in folders:
            os.rmdir(f"{path}/{one}")  # noqa: PTH106
    if os.path.exists(cluster):  # noqa: PTH110
        os.rmdir(cluster)  # noqa: PTH106


def export(folder: str, words: list[str]) -> None:
    """Write a log as if from a kind node."""
    behave(folder, "export")
    os.makedirs(words[2], exist_ok=True)  # noqa: PTH103
    journal = behaviour(folder, "export").get("journal", "kubelet: started\n")
    write(f"{words[2]}/journal.log", journal)


def nodes(folder: str, cluster: str) -> list[str]:
    """Return the names of a cluster's containers."""
    return listed(f"{folder}/clusters/{cluster}")


def ask(folder: str, what: dict[str, Any]) -> dict[str, Any]:
    """Have the test's process do what a container would."""
    import socket

    port = int(read(folder, "port"))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(json.dumps(what).encode() + b"\n")
        with connection.makefile("rb") as file:
            reply: dict[str, Any] = json.loads(file.readline())
    if "error" in reply:
        raise Failure(reply["error"])
    return reply


# -- words and files -------------------------------------------------------------------------------


def value(words: list[str], flag: str) -> str:
    """Return the word after the flag."""
    return words[words.index(flag) + 1]


def values(words: list[str], flag: str) -> Iterator[str]:
    """Give the word after each such flag."""
    yield from (words[at + 1] for at, word in enumerate(words) if word == flag)


def listed(folder: str) -> list[str]:
    """Return the names in a folder; a slash is written as %2F."""
    try:
        return sorted(name.replace("%2F", "/") for name in os.listdir(folder))  # noqa: PTH208
    except FileNotFoundError:
        return []


def put(folder: str, name: str, text: str = "") -> None:
    """Have a name in a folder; others see the text whole."""
    aside = f"{os.path.dirname(folder)}/.put-{os.getpid()}"  # noqa: PTH120
    write(aside, text)
    os.replace(aside, f"{folder}/{name.replace('/', '%2F')}")  # noqa: PTH105


def read(folder: str, name: str) -> str:
    """Return a file's text."""
    with open(f"{folder}/{name}") as file:  # noqa: PTH123
        return file.read()


def write(path: str, text: str) -> None:
    """Write a file."""
    with open(path, "w") as file:  # noqa: PTH123
        file.write(text)


ACTS: dict[str, Callable[[str, list[str]], None]] = {
    "docker version": docker_version,
    "podman version": podman_version,
    "podman image inspect": podman_inspect_images,
    "podman inspect": podman_inspect,
    "podman build": podman_build,
    "podman save": podman_save,
    "podman kill": podman_kill,
    "buildx version": buildx_version,
    "which builder": buildx_inspect,
    "which context": context_inspect,
    "image inspect": inspect_images,
    "image ls": list_own_images,
    "image rm": remove_image,
    "build": build,
    "cache": export_cache,
    "save": save,
    "load": load,
    "tag": tag,
    "list": list_images,
    "import": import_images,
    "blobs": list_blobs,
    "remove": remove_images,
    "ps": ps,
    "wait": wait,
    "inspect": inspect,
    "kind version": kind_version,
    "get clusters": get_clusters,
    "get nodes": get_nodes,
    "create": create,
    "delete": delete,
    "export": export,
}
