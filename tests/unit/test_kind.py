"""What is asked of `kind`, and what is made of its answers."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from pytest_kindinfra.clusters.config import RUN_MOUNT
from pytest_kindinfra.clusters.kind import KindProvider
from pytest_kindinfra.errors import ClusterError, CommandError, PortTakenError, ToolMissingError
from pytest_kindinfra.system.getting import how_to_get
from pytest_kindinfra.system.runner import Completed
from pytest_kindinfra.system.timeline import Deadline
from tests.fakes import Argv, FakeRunner


def answering(**answers: str | Completed) -> FakeRunner:
    """Return a runner that knows the answer to a command by one of its words."""

    def handler(argv: Argv) -> str | Completed:
        return next((text for word, text in answers.items() if word in argv), "")

    return FakeRunner(handler)


class TestCheck:
    def test_the_version_comes_back(
        self, soon: Deadline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "kind").write_text("#!/bin/sh\n")
        (tmp_path / "kind").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

        assert KindProvider(answering(version="0.31.0\n")).check(soon) == "0.31.0"

    def test_a_missing_kind_is_named_with_what_to_do(
        self, soon: Deadline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))

        with pytest.raises(ToolMissingError) as caught:
            KindProvider(FakeRunner()).check(soon)

        assert str(caught.value) == (
            f'"kind" is not on PATH ({tmp_path})\nTo fix: {how_to_get("kind")}'
        )


class TestClusters:
    @pytest.mark.parametrize(("name", "there"), [("a-b", True), ("a", False), ("b", False)])
    def test_a_cluster_is_there_under_its_whole_name_only(
        self, name: str, soon: Deadline, *, there: bool
    ) -> None:
        assert KindProvider(answering(clusters="a-b\nother\n")).exists(name, soon) is there

    def test_every_call_names_the_engine(self, soon: Deadline) -> None:
        runner = FakeRunner()
        KindProvider(runner).exists("a", soon)
        KindProvider(runner).nodes("a", soon)
        KindProvider(runner).delete("a", kubeconfig=Path("/k"), deadline=soon)

        assert [call.env for call in runner.calls] == [
            {"KIND_EXPERIMENTAL_PROVIDER": "docker"},
        ] * 3

    def test_the_load_balancer_of_several_control_planes_is_no_kind_node(
        self, soon: Deadline
    ) -> None:
        listed = "a-control-plane\na-control-plane2\na-external-load-balancer\n"

        nodes = KindProvider(answering(nodes=listed)).nodes("a", soon)

        assert nodes == ("a-control-plane", "a-control-plane2")

    def test_creating_waits_for_nothing_and_keeps_what_failed(
        self, soon: Deadline, tmp_path: Path
    ) -> None:
        runner, kubeconfig = answering(nodes="a-control-plane\na-worker\n"), tmp_path / "kubeconfig"

        nodes = KindProvider(runner).create(
            "a", config={"kind": "Cluster"}, kubeconfig=kubeconfig, deadline=soon
        )

        assert nodes == ("a-control-plane", "a-worker")
        assert runner.argvs[0] == (
            *("kind", "create", "cluster", "--name", "a", "--config", str(tmp_path / "kind.json")),
            *("--kubeconfig", str(kubeconfig), "--retain", "--wait", "0s"),
        )
        assert json.loads((tmp_path / "kind.json").read_text()) == {"kind": "Cluster"}
        assert runner.calls[0].log == tmp_path / "kind-create.log"

    def test_credentials_are_private_before_there_are_any(
        self, soon: Deadline, tmp_path: Path
    ) -> None:
        kubeconfig, modes = tmp_path / "kubeconfig", list[int]()

        def handler(argv: Argv) -> str:
            if "create" in argv:
                modes.append(stat.S_IMODE(kubeconfig.stat().st_mode))
            return ""

        KindProvider(FakeRunner(handler)).create(
            "a", config={}, kubeconfig=kubeconfig, deadline=soon
        )

        assert modes == [0o600]

    def test_the_config_is_private_since_it_may_hold_a_registrys_password(
        self, soon: Deadline, tmp_path: Path
    ) -> None:
        kubeconfig = tmp_path / "kubeconfig"

        KindProvider(FakeRunner()).create("a", config={}, kubeconfig=kubeconfig, deadline=soon)

        assert stat.S_IMODE((tmp_path / "kind.json").stat().st_mode) == 0o600

    def test_a_cluster_that_cannot_be_made_is_named(self, soon: Deadline, tmp_path: Path) -> None:
        runner = answering(create=Completed("", "ERROR: port is already allocated\n", 1))

        with pytest.raises(ClusterError, match=r'^creating cluster "a": exit code 1\n') as caught:
            KindProvider(runner).create("a", config={}, kubeconfig=tmp_path / "k", deadline=soon)

        assert "port is already allocated" in str(caught.value)

    def test_deleting_names_the_cluster_and_its_credentials(self, soon: Deadline) -> None:
        runner = FakeRunner()

        KindProvider(runner).delete("a", kubeconfig=Path("/run/kubeconfig"), deadline=soon)

        assert runner.argvs == [
            ("kind", "delete", "cluster", "--name", "a", "--kubeconfig", "/run/kubeconfig")
        ]
        assert runner.calls[0].what == 'deleting cluster "a"'

    def test_a_node_that_a_killed_run_is_removing_is_waited_for(self, soon: Deadline) -> None:
        busy = "Error: removal of container a-control-plane is already in progress"
        answers = [Completed("", busy, 1), Completed("", busy, 1), Completed("", "")]
        runner = FakeRunner(lambda _argv: answers.pop(0))

        KindProvider(runner).delete("a", kubeconfig=Path("/k"), deadline=soon)

        assert len(runner.argvs) == 3

    def test_a_cluster_that_cannot_be_deleted_fails_at_once(self, soon: Deadline) -> None:
        runner = answering(delete=Completed("", "permission denied", 1))

        with pytest.raises(CommandError, match="permission denied"):
            KindProvider(runner).delete("a", kubeconfig=Path("/k"), deadline=soon)

        assert len(runner.argvs) == 1

    def test_a_removal_by_another_that_never_ends_is_reported(self) -> None:
        busy = "removal of container a-control-plane is already in progress"
        runner = answering(delete=Completed("", busy, 1))

        with pytest.raises(CommandError, match="already in progress"):
            KindProvider(runner).delete("a", kubeconfig=Path("/k"), deadline=Deadline.after(0.01))

    def test_a_person_deletes_it_with_fewer_words(self) -> None:
        assert KindProvider(FakeRunner()).delete_command("a") == (
            "kind",
            "delete",
            "cluster",
            "--name",
            "a",
        )

    def test_logs_are_exported_into_the_folder(self, soon: Deadline) -> None:
        runner = FakeRunner()

        KindProvider(runner).export_logs("a", Path("/run/kind"), soon)

        assert runner.argvs == [("kind", "export", "logs", "/run/kind", "--name", "a")]


class TestNodes:
    def test_those_whose_runtime_answers_take_images(self, soon: Deadline) -> None:
        def handler(argv: Argv) -> str | Completed:
            if "nodes" in argv:
                return "one\ntwo\n"
            return Completed("", "is not running", 1) if "two" in argv else "Client: ..."

        assert KindProvider(FakeRunner(handler)).image_ready_nodes("a", soon) == ("one",)

    def test_images_are_asked_of_the_runtime(self, soon: Deadline) -> None:
        runner = answering(ctr="docker.io/library/redis:7\nsha256:1f\n")

        assert KindProvider(runner).images_in("node", soon) == {
            "docker.io/library/redis:7",
            "sha256:1f",
        }
        assert runner.argvs == [
            ("docker", "exec", "node", "ctr", "--namespace", "k8s.io", "images", "list", "-q")
        ]

    def test_a_node_that_does_not_answer_is_a_failure(self, soon: Deadline) -> None:
        with pytest.raises(CommandError):
            KindProvider(answering(ctr=Completed("", "not running", 1))).images_in("node", soon)

    def test_blobs_are_those_in_the_content_store(self, soon: Deadline) -> None:
        runner = answering(content="sha256:1f\nsha256:2e\n")

        assert KindProvider(runner).blobs_in("node", soon) == {"sha256:1f", "sha256:2e"}
        assert runner.argvs == [
            ("docker", "exec", "node", "ctr", "--namespace", "k8s.io", "content", "list", "-q")
        ]

    def test_images_are_forgotten_under_their_full_names(self, soon: Deadline) -> None:
        runner = answering(remove=Completed("", "redis: not found", 1))

        KindProvider(runner).forget_images("node", ["redis:7", "localhost/api:1"], soon)

        (words,) = runner.argvs
        assert words[-4:] == ("images", "remove", "docker.io/library/redis:7", "localhost/api:1")

    def test_an_archive_is_read_from_standard_input(self) -> None:
        """`--all-platforms` fails for attestations (kind#3795), and `--snapshotter` would need
        what ends in `failed to detect containerd snapshotter` (kind#3853).
        """  # noqa: D205
        command = KindProvider(FakeRunner()).import_command("node")

        assert command[:5] == ("docker", "exec", "--privileged", "-i", "node")
        assert command[5:] == (
            *("ctr", "--namespace", "k8s.io", "images", "import", "--digests", "-"),
        )

    def test_its_address_is_the_first_of_its_networks(self, soon: Deadline) -> None:
        assert (
            KindProvider(answering(inspect="172.18.0.2 \n")).node_address("node", soon)
            == "172.18.0.2"
        )

    @pytest.mark.parametrize(("ipv6", "address"), [(False, "172.18.0.2"), (True, "fc00::2")])
    def test_its_address_is_of_the_family_that_the_cluster_has(
        self, soon: Deadline, *, ipv6: bool, address: str
    ) -> None:
        kind = KindProvider(answering(inspect="172.18.0.2 fc00::2 \n"))

        assert kind.node_address("node", soon, ipv6=ipv6) == address

    def test_its_address_is_asked_once_for_all_services(self, soon: Deadline) -> None:
        runner = answering(inspect="172.18.0.2 \n")
        kind = KindProvider(runner)

        assert {kind.node_address("node", soon) for _ in range(3)} == {"172.18.0.2"}
        assert len(runner.argvs) == 1

    def test_one_without_an_ipv4_address_is_reached_by_the_other(self, soon: Deadline) -> None:
        """It was an IndexError."""
        assert (
            KindProvider(answering(inspect=" fc00::2 \n")).node_address("node", soon) == "fc00::2"
        )

    def test_one_in_no_network_is_named(self, soon: Deadline) -> None:
        with pytest.raises(ClusterError, match='kind node "k-control-plane" has no address'):
            KindProvider(answering(inspect="\n")).node_address("k-control-plane", soon)


class TestTheEndOfANode:
    def test_it_comes_with_the_exit_code(self, soon: Deadline) -> None:
        answers: dict[str, str | Completed] = {"wait": "137\n"}
        answers["inspect"] = Completed("", "No such object", 1)
        runner = FakeRunner(lambda argv: answers[argv[1]])

        assert KindProvider(runner).await_end("k-control-plane", soon) == "exit code 137"
        assert runner.argvs[0] == ("docker", "wait", "k-control-plane")

    def test_it_comes_with_what_the_engine_says(self, soon: Deadline) -> None:
        gone = "Error response from daemon: No such container: k"
        runner = FakeRunner(lambda _: Completed("", gone, 1))

        assert KindProvider(runner).await_end("k", soon) == gone

    def test_an_engine_that_restarts_below_a_running_node_is_no_end(
        self, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pytest_kindinfra.clusters.kind._BETWEEN_WAITS", 0.01)
        states = iter(["true", "true", "false"])
        runner = FakeRunner(lambda argv: "0" if argv[1] == "wait" else next(states))

        KindProvider(runner).await_end("k", soon)

        assert [argv[1] for argv in runner.argvs] == ["wait", "inspect"] * 3


class TestTakenPorts:
    @pytest.mark.parametrize(
        "says",
        [
            "Bind for 127.0.0.1:8080 failed: port is already allocated.",
            (
                "failed to bind host port for 127.0.0.1:8080:172.18.0.2:30000/tcp: "
                "address already in use"
            ),
            "listen tcp4 127.0.0.1:8080: bind: address already in use.",
            "[Errno 98] Address already in use: 8080",
        ],
    )
    def test_are_an_error_of_their_own(self, says: str, soon: Deadline, tmp_path: Path) -> None:
        runner = FakeRunner(lambda _: Completed(says, "", 1))

        with pytest.raises(PortTakenError, match="8080"):
            KindProvider(runner).create(
                "k", config={}, kubeconfig=tmp_path / "kubeconfig", deadline=soon
            )


class TestRunsOfOurs:
    CONTAINERS = (
        {
            "Config": {"Labels": {"io.x-k8s.kind.cluster": "ours"}},
            "Mounts": [
                {"Destination": "/var", "Source": "/somewhere"},
                {"Destination": RUN_MOUNT, "Source": "/project/.kindinfra/run-1"},
            ],
        },
        {"Config": {"Labels": {"io.x-k8s.kind.cluster": "foreign"}}, "Mounts": []},
    )

    def test_they_are_known_by_the_run_directory_mounted_in_them(self, soon: Deadline) -> None:
        printed = "\n".join(json.dumps(one) for one in self.CONTAINERS)

        found = KindProvider(answering(ps="1\n2\n", inspect=printed)).run_directories(soon)

        assert found == {"ours": Path("/project/.kindinfra/run-1")}

    @pytest.mark.parametrize(
        "asked",
        [
            {"Binds": ["/lib/modules:/lib/modules:ro", f"/Users/me/shop/run:{RUN_MOUNT}:ro"]},
            {"Binds": [f"/Users/me/shop/run:{RUN_MOUNT}:ro,rprivate,rbind"]},  # podman
            {"Binds": [f"/Users/me/shop/run:{RUN_MOUNT}"]},
            {"Mounts": [{"Type": "bind", "Source": "/Users/me/shop/run", "Target": RUN_MOUNT}]},
        ],
    )
    def test_what_was_asked_for_counts_before_a_path_of_the_engines_machine(
        self, soon: Deadline, asked: dict[str, object]
    ) -> None:
        """Docker Desktop shows the paths of its virtual machine, none of which is here."""
        shown = {
            "Name": "/ours-control-plane",
            "State": {"Running": True},
            "Config": {"Labels": {"io.x-k8s.kind.cluster": "ours"}},
            "HostConfig": asked,
            "Mounts": [{"Destination": RUN_MOUNT, "Source": "/host_mnt/Users/me/shop/run"}],
        }
        kind = KindProvider(answering(ps="1\n", inspect=json.dumps(shown)))
        observed = kind.observe("ours", soon)

        assert kind.run_directories(soon) == {"ours": Path("/Users/me/shop/run")}
        assert observed
        assert observed.folder == Path("/Users/me/shop/run")

    def test_without_a_cluster_nothing_is_inspected(self, soon: Deadline) -> None:
        runner = answering(ps="")

        assert KindProvider(runner).run_directories(soon) == {}
        assert len(runner.calls) == 1


class TestPodman:
    def test_every_call_goes_to_podman(self, soon: Deadline) -> None:
        runner = answering(clusters="a\n", nodes="a-control-plane\n", ps="9ff8546f6258\n")
        kind = KindProvider(runner, program="podman", kill_first=True)
        kind.exists("a", soon)
        kind.image_ready_nodes("a", soon)
        kind.images_in("a-control-plane", soon)
        kind.forget_images("a-control-plane", ["redis"], soon)
        kind.delete("a", kubeconfig=Path("/k"), deadline=soon)

        assert {argv[0] for argv in runner.argvs} == {"kind", "podman"}
        assert kind.import_command("a-control-plane")[0] == "podman"
        assert {call.env["KIND_EXPERIMENTAL_PROVIDER"] for call in runner.calls if call.env} == {
            "podman"
        }

    def test_kind_nodes_are_killed_before_podman_waits_for_them(self, soon: Deadline) -> None:
        runner = answering(ps="9ff8546f6258\n0b27c158feb3\n")
        KindProvider(runner, program="podman", kill_first=True).delete(
            "a", kubeconfig=Path("/k"), deadline=soon
        )

        assert runner.argvs == [
            ("podman", "ps", "--quiet", "--filter", "label=io.x-k8s.kind.cluster=a"),
            ("podman", "kill", "--signal", "KILL", "9ff8546f6258", "0b27c158feb3"),
            ("kind", "delete", "cluster", "--name", "a", "--kubeconfig", "/k"),
        ]

    def test_what_a_person_types_to_delete_names_the_engine(self) -> None:
        assert KindProvider(FakeRunner(), program="podman").delete_command("a") == (
            *("env", "KIND_EXPERIMENTAL_PROVIDER=podman"),
            *("kind", "delete", "cluster", "--name", "a"),
        )

    def test_run_directories_are_found_in_one_array(self, soon: Deadline) -> None:
        node = {
            "Config": {"Labels": {"io.x-k8s.kind.cluster": "a"}},
            "Mounts": [
                {"Type": "bind", "Source": "/lib/modules", "Destination": "/lib/modules"},
                {"Type": "bind", "Source": "/runs/1", "Destination": RUN_MOUNT},
            ],
        }
        runner = answering(ps="9ff8546f6258\n", inspect=json.dumps([node], indent=5) + "\n")

        assert KindProvider(runner, program="podman").run_directories(soon) == {
            "a": Path("/runs/1")
        }

    def test_a_port_that_is_taken_is_known_by_podmans_words(
        self, soon: Deadline, tmp_path: Path
    ) -> None:
        says = (
            "Error: cannot listen on the TCP port: listen tcp4 127.0.0.1:28999: bind: "
            "address already in use\n"
        )
        runner = answering(create=Completed("", says, 1))

        with pytest.raises(PortTakenError):
            KindProvider(runner, program="podman").create(
                "a", config={}, kubeconfig=tmp_path / "kubeconfig", deadline=soon
            )


class TestTheNodeImage:
    """One that is not there is pulled by kind, which offline says no more than that it failed."""

    SAYS = (
        'ERROR: failed to create cluster: failed to pull image "kindest/node:v1.33.1@sha256:05": '
        'command "docker pull kindest/node:v1.33.1@sha256:05" failed with error: exit status 1\n'
        'Command Output: Error response from daemon: Get "https://registry-1.docker.io/v2/": dial '
        "tcp: lookup registry-1.docker.io: no such host\n"
    )

    def error(self, images: str, soon: Deadline, folder: Path) -> str:
        def run(argv: Argv) -> Completed:
            return Completed(images, "", 0) if argv[1] == "image" else Completed(self.SAYS, "", 1)

        with pytest.raises(ClusterError) as caught:
            KindProvider(FakeRunner(run)).create(
                "k", config={}, kubeconfig=folder / "kubeconfig", deadline=soon
            )
        return str(caught.value)

    def test_others_that_would_do_are_named(self, soon: Deadline, tmp_path: Path) -> None:
        images = "redis:7\nkindest/node:v1.9.11\nkindest/node:<none>\nkindest/node:v1.34.4\n"

        text = self.error(images, soon, tmp_path)

        assert "no such host" in text
        assert (
            "To fix: use a node image that the engine has: "
            "--kindinfra-node-image=kindest/node:v1.34.4"
            ", or --kindinfra-node-image=kindest/node:v1.9.11; or check that the engine can reach"
        ) in text
        assert "(`docker pull kindest/node:v1.33.1@sha256:05` repeats only the pull)" in text

    def test_without_another_the_remedy_is_that_of_the_pull(
        self, soon: Deadline, tmp_path: Path
    ) -> None:
        text = self.error("redis:7\n", soon, tmp_path)

        assert "To fix: check that the engine can reach the registry" in text
