"""Install a chart as a release of helm's, and end at once when one of its hooks cannot work.

helm renders the chart again; `deploy/postrenderer.py` puts this run's images in. Hooks that helm 3
does not pass to a post-renderer are frozen into a copy of the chart (docs/decisions/0025).
"""

from __future__ import annotations

import json
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.deploy.postrenderer import Rules, post_render, to_stream
from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.kube.objects import flattened, image_fields, is_hook, parse_objects
from pytest_kindinfra.kube.rewrite import rewrite, runs_images_of
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.plan.charts import HELM_ENVIRONMENT
from pytest_kindinfra.plan.helm import values_options
from pytest_kindinfra.references import stand_in
from pytest_kindinfra.system.files import write_private
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_kindinfra.model import KubeObject, Release
    from pytest_kindinfra.system.runner import Runner


_MADE = "made.json"
"""What helm made of the chart's objects."""


_COPIED = ("apiVersion", "name", "version", "appVersion", "description", "type", "icon")


def _hooks_need_us(release: Release, rules: Rules) -> bool:
    """Whether a hook would run another image, or pull one of the engine's, as the chart has it."""
    return any(_needs_us(obj, release, rules) for obj in release.objects if is_hook(obj))


def _freeze(answer: str, described: str, *, rules: Rules, crds: str, into: Path) -> None:
    """Write a chart of what helm would install.

    Args:
        answer: What `helm upgrade --install --dry-run=server --output json` printed.
        described: The Chart.yaml of the chart itself.
        rules: What becomes of its objects.
        crds: Its CRDs, which helm installs first and as they are.
        into: The folder of the new chart; made.

    Raises:
        KindInfraError: The answer cannot be read.
    """
    about = next(iter(load_documents(described)))
    chart = {key: about[key] for key in _COPIED if key in about}
    objects = post_render(_documents(answer), rules)
    (into / "templates").mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(into / "Chart.yaml", json.dumps(chart))
    write_private(into / "templates" / "all.yaml", _escaped(to_stream(objects)))
    write_private(into.parent / _MADE, json.dumps(objects, default=str))
    if crds.strip():
        (into / "crds").mkdir(exist_ok=True, mode=0o700)
        write_private(into / "crds" / "all.yaml", crds)


def _needs_us(hook: KubeObject, release: Release, rules: Rules) -> bool:
    # These are the reference itself when helm renders them with this run's values.
    stand_ins = {stand_in(name) for name in release.mentions}
    plain = rewrite(hook, images={}, namespace=None, labels={})
    with_us = rewrite(
        hook,
        images={one: ref for one, ref in rules.images.items() if one not in stand_ins},
        pin=rules.pin,
        placeholders=rules.placeholders,
        namespace=None,
        labels={},
    )
    pulled = any(
        field.table.get(field.key) in stand_ins and field.table.get(field.policy or "") == "Always"
        for field in image_fields(hook)
    )
    return pulled or _is_private(hook, rules) or with_us != plain


def _is_private(hook: KubeObject, rules: Rules) -> bool:
    """Whether pods of a hook need the Secret for the registry of images."""
    made = rewrite(
        hook, images=rules.images, placeholders=rules.placeholders, namespace=None, labels={}
    )
    return rules.pull_secret is not None and runs_images_of(made, rules.pull_secret.registry)


def _documents(answer: str) -> str:
    """Return manifest and hooks of a release as one stream."""
    try:
        release: dict[str, Any] = json.loads(answer)
        hooks: Sequence[dict[str, Any]] = release.get("hooks") or ()
        texts = [str(release.get("manifest", "")), *(str(hook["manifest"]) for hook in hooks)]
    except (ValueError, KeyError, AttributeError) as error:
        msg = f"helm's answer to --dry-run=server --output json cannot be read: {error!r}"
        raise KindInfraError(msg) from error
    return "\n---\n".join(texts)


def _escaped(stream: str) -> str:
    """Return JSON in which helm finds no template: two braces are in strings only."""
    return stream.replace("{{", "\\u007b\\u007b")


_LOOK_EVERY = 0.25


_PLUGIN = "kindinfra"


_PROGRAM = "post-render"


_SCRIPT = """\
#!/bin/sh
export PYTHONPATH={package}${{PYTHONPATH:+:$PYTHONPATH}}
exec {python} -P -m pytest_kindinfra.deploy.postrenderer {rules}
"""


_PLUGIN_YAML = """\
apiVersion: v1
type: postrenderer/v1
name: {name}
version: 0.1.0
runtime: subprocess
runtimeConfig:
  platformCommand:
  - command: ${{HELM_PLUGIN_DIR}}/{program}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Helming:
    """How a release is installed.

    Attributes:
        runner: Runs helm.
        kubeconfig: Of the cluster.
        folder: Gets what helm is given: values, the post-renderer.
        deadline: When to stop.
        labels: Of the release's own record in the cluster.
    """

    runner: Runner
    kubeconfig: Path
    folder: Path
    deadline: Deadline
    labels: Mapping[str, str] = field(default_factory=dict)


def install_release(
    release: Release,
    *,
    rules: Mapping[str, Any],
    how: Helming,
    watch: Callable[[], None] = lambda: None,
) -> tuple[KubeObject, ...]:
    """Install a release or upgrade it, and return its objects without hooks, as applied.

    Args:
        release: What to install.
        rules: What becomes of its objects: the fields of `postrenderer.Rules` but `made`.
        how: With what.
        watch: Called again and again while helm runs; what it raises ends helm.

    Raises:
        CommandError: helm failed.
        CancelledError: The run is ending.
    """
    how.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = how.folder / _MADE
    made.unlink(missing_ok=True)
    everything = Rules(**rules, made=str(made))
    values = values_options(release, everything.placeholders, how.folder)
    environment: dict[str, str] = {}
    if _takes_plugins(release):
        environment = _plugins(how)
        argv = _command(release, [*values, *_post_renderer(_PLUGIN, everything, how)], how)
    elif _hooks_need_us(release, everything):
        frozen = replace(release, chart=_frozen(release, values, everything, how))
        argv = _command(frozen, values, how)
    else:
        script = str(how.folder / _PLUGIN / _PROGRAM)
        argv = _command(release, [*values, *_post_renderer(script, everything, how)], how)
    try:
        _run(argv, release, how, environment, watch)
    except CommandError as error:
        raise _pasteable(error, environment, release) from error
    objects = json.loads(made.read_text("utf-8")) if made.exists() else []
    return tuple(obj for one in objects for obj in flattened(one) if not is_hook(obj))


def recorded_objects(release: Release, *, how: Helming) -> tuple[KubeObject, ...]:
    """Return the objects of an installed release, without hooks, as they were applied.

    Raises:
        CommandError: helm has no such release.
    """
    argv = [
        *("helm", "get", "manifest", release.name),
        *("--namespace", release.namespace, "--kubeconfig", str(how.kubeconfig)),
    ]
    what = f'reading release "{release.name}"'
    done = how.runner.run(argv, deadline=how.deadline, what=what, env=HELM_ENVIRONMENT)
    objects, _ = parse_objects(done.stdout, source=release.name)
    return tuple(objects)


def _command(release: Release, options: Sequence[str], how: Helming) -> list[str]:
    return [
        *("helm", "upgrade", "--install", release.name, str(release.chart)),
        *("--namespace", release.namespace, "--create-namespace"),
        *("--kubeconfig", str(how.kubeconfig)),
        *(f"--labels={key}={value}" for key, value in how.labels.items()),
        *options,
        # A little less than is left, so that helm says what it waited for.
        *("--timeout", f"{max(1, int(how.deadline.left) - 2)}s"),
    ]


def _frozen(release: Release, values: Sequence[str], rules: Rules, how: Helming) -> Path:
    """Return a chart of what helm would install; see `deploy/release.py`."""
    shown = [*_command(release, values, how), "--dry-run=server", "--output", "json"]
    what = f'asking helm for release "{release.name}"'
    chart = str(release.chart)

    def ask(*argv: str) -> str:
        done = how.runner.run(argv, deadline=how.deadline, what=what, env=HELM_ENVIRONMENT)
        return done.stdout

    described, crds = ask("helm", "show", "chart", chart), ask("helm", "show", "crds", chart)
    folder = how.folder / release.name
    _freeze(ask(*shown), described, rules=rules, crds=crds, into=folder)
    return folder


def _takes_plugins(release: Release) -> bool:
    """Whether helm takes a plugin's name for a post-renderer, as from 4 on, and no program's."""
    return not release.version.startswith("3.")


def _post_renderer(name: str, rules: Rules, how: Helming) -> tuple[str, ...]:
    """Write the rules, and a plugin whose program helm 3 takes as it is; return the option."""
    folder, plugin = how.folder, how.folder / _PLUGIN
    plugin.mkdir(exist_ok=True, mode=0o700)
    write_private(folder / "rules.json", rules.to_json())
    write_private(plugin / "plugin.yaml", _PLUGIN_YAML.format(name=_PLUGIN, program=_PROGRAM))
    script = _SCRIPT.format(
        package=shlex.quote(str(Path(__file__).parents[2])),
        python=shlex.quote(sys.executable),
        rules=shlex.quote(str(folder / "rules.json")),
    )
    write_private(plugin / _PROGRAM, script)
    (plugin / _PROGRAM).chmod(0o700)
    return "--post-renderer", name


def _plugins(how: Helming) -> dict[str, str]:
    """Return helm 4's folders of plugins: those of this plugin and of the user."""
    asked = how.runner.run(["helm", "env", "HELM_PLUGINS"], deadline=how.deadline)
    users = asked.stdout.strip()
    return {"HELM_PLUGINS": f"{how.folder}:{users}" if users else str(how.folder)}


def _run(
    argv: Sequence[str],
    release: Release,
    how: Helming,
    environment: Mapping[str, str],
    watch: Callable[[], None],
) -> None:
    """Run helm to its end, or until `watch` raises."""
    ended = Event()
    what = f'installing release "{release.name}"'
    with ThreadPoolExecutor(1, thread_name_prefix="kindinfra-helm") as pool:
        running = pool.submit(
            how.runner.run,
            argv,
            deadline=Deadline(how.deadline.at, ended),
            what=what,
            env={**HELM_ENVIRONMENT, **environment},
        )
        try:
            while not wait_for([running], timeout=_LOOK_EVERY).done:
                how.deadline.check()
                watch()
        except BaseException:
            ended.set()
            raise
    running.result()


def _pasteable(
    error: CommandError, environment: Mapping[str, str], release: Release
) -> CommandError:
    """Return the error with what a person must set before the command."""
    words = [f"{name}={value}" for name, value in environment.items()]
    return CommandError(
        [*words, *error.argv],
        exit_code=error.exit_code,
        output=error.output,
        what=f'installing release "{release.name}"',
        limit=error.limit,
    )
