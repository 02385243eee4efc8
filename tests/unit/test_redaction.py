"""What is taken for a secret and what is not, and that nothing is left of one."""

from __future__ import annotations

import base64
import json
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kindinfra.system import secrets as redaction
from pytest_kindinfra.system.secrets import RedactedStream, Redactor, credentials_in, looks_secret

TOKEN = "tok-4f3a9c2e77"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJl-_x"
KEY = base64.b64encode(b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n").decode()
CERTIFICATE = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIC\n").decode()
KUBECONFIG = f"""\
apiVersion: v1
clusters:
- cluster: {{certificate-authority-data: {CERTIFICATE}, server: https://127.0.0.1:1}}
users:
- name: kind-a
  user:
    client-certificate-data: {CERTIFICATE}
    client-key-data: {KEY}
- name: other
  user: {{token: abc-of-other, password: 'pw-of-other'}}
"""


class TestValues:
    @pytest.mark.parametrize(
        "written",
        [
            TOKEN,
            f"'{TOKEN}'",
            f"x{TOKEN}x",
            f"{TOKEN}\n{TOKEN}",
            f"#5 0.1 token is {TOKEN}\r\n",
            base64.b64encode(TOKEN.encode()).decode(),
        ],
    )
    def test_a_value_is_found_wherever_it_stands(self, written: str) -> None:
        shown = Redactor([TOKEN]).text(written)

        assert "4f3a" not in shown
        assert "***" in shown

    def test_what_stands_around_it_stays(self) -> None:
        assert Redactor([TOKEN]).text(f"a {TOKEN}, b") == "a ***, b"

    @pytest.mark.parametrize("notation", [json.dumps, quote, repr, str])
    def test_usual_notations_are_known(self, notation: type[str]) -> None:
        value = 'pass"w/ö rd\\1'

        assert "pass" not in Redactor([value]).text(notation(value))

    def test_a_part_of_another_secret_leaves_nothing_of_the_longer_one(self) -> None:
        assert Redactor(["secret-1", "my-secret-1-long"]).text("my-secret-1-long") == "***"

    @pytest.mark.parametrize(
        "value", ["", "x", "true", "dev", "12345", "Production", "postgres", "  dev \n", "======="]
    )
    def test_what_is_short_or_common_is_no_secret(self, value: str) -> None:
        text = f"a {value} of production and postgres, true in dev: 12345\n  dev \n======="

        assert Redactor([value]).text(text) == text

    def test_the_lines_of_a_file_count_each_for_itself(self) -> None:
        """An error shows the last lines of an output, indented."""
        key = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA\nq83vEjRWeJCrze8S\n-----END KEY-----\n"

        shown = Redactor([key]).text("    -----BEGIN KEY-----\n    q83vEjRWeJCrze8S\n")

        assert shown == "    -----BEGIN KEY-----\n    ***\n"

    @pytest.mark.parametrize(
        "file",
        [
            "//registry.npmjs.org/:_authToken=npm_a8f2k4\nemail=me\n",
            '{"auths": {"registry": {"auth": "npm_a8f2k4"}}}',
            "machine registry login me password npm_a8f2k4",
            "index-url = https://me:npm_a8f2k4@pypi.internal/simple",
        ],
    )
    def test_a_token_is_found_that_was_taken_out_of_a_file(self, file: str) -> None:
        shown = Redactor([file]).text("registry says that npm_a8f2k4 has expired")

        assert shown == "registry says that *** has expired"

    def test_values_may_be_learnt_later(self) -> None:
        redactor = Redactor()
        before = redactor.text(TOKEN)
        redactor.learn([TOKEN])

        assert (before, redactor.text(TOKEN)) == (TOKEN, "***")

    def test_bytes_that_are_no_text_come_through(self) -> None:
        assert Redactor([TOKEN]).data(b"\xff" + TOKEN.encode() + b"\xfe") == b"\xff***\xfe"

    def test_a_lone_surrogate_does_no_harm(self) -> None:
        assert Redactor([TOKEN, "\udcff-abcdef"]).text("\ud83d") == "\ud83d"

    def test_records_are_redacted_in_all_their_texts(self) -> None:
        record = {"a": [TOKEN, 1, None, {TOKEN: f"x {TOKEN}"}], "b": True}

        assert Redactor([TOKEN]).record(record) == {
            "a": ["***", 1, None, {"***": "x ***"}],
            "b": True,
        }


class TestForms:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            (f"client-key-data: {KEY}\n", "client-key-data: ***\n"),
            ('"client-key-data": "c2hvcnQ="', '"client-key-data": "***"'),
            (f"a {KEY} b", "a *** b"),
            (f"got {JWT}.", "got ***."),
            ("Authorization: Bearer abc", "Authorization: Bearer ***"),
            ("'authorization': 'Basic dTpw'", "'authorization': 'Basic ***'"),
            ("bearer 0123456789abcdef0", "bearer ***"),
            ("Using token: abcdef.0123456789abcdef", "Using token: ***"),
            ("kubectl --token=abc get", "kubectl --token=*** get"),
            ("['--password', 'abc', 'x']", "['--password', '***', 'x']"),
            ("--client-token abc", "--client-token ***"),
            ("postgres://me:pw@db:5432/x", "postgres://me:***@db:5432/x"),
            ("https://0123456789abcdef@host", "https://***@host"),
        ],
    )
    def test_what_only_credentials_look_like_is_found(self, text: str, shown: str) -> None:
        assert Redactor().text(text) == shown

    @pytest.mark.parametrize(
        "text",
        [
            f"certificate-authority-data: {CERTIFICATE}",
            "http://127.0.0.1:30000/health",
            "https://git@github.com/a/b",
            "docker-image://python:3.11@sha256:0123",
            'unexpected token: ")"',
            "token = next(tokens)",
            "the bearer of this",
            "docker buildx build --secret id=x,env=TOKEN .",
            "see http://a:80 and mail me@host",
            "password must not be empty",
        ],
    )
    def test_what_is_no_credential_stays(self, text: str) -> None:
        assert Redactor().text(text) == text


class TestCommands:
    @pytest.mark.parametrize(
        ("argv", "shown"),
        [
            (("--build-arg", "NPM_TOKEN=abc"), ("--build-arg", "NPM_TOKEN=***")),
            (("--build-arg=NPM_TOKEN=a b",), ("--build-arg=NPM_TOKEN=***",)),
            (("--build-arg", "VERSION=abc"), ("--build-arg", "VERSION=abc")),
            (("--build-arg", "NPM_TOKEN"), ("--build-arg", "NPM_TOKEN")),
            (("--token", "a b", "get"), ("--token", "***", "get")),
            (("--token=a b",), ("--token=***",)),
            (("--password-stdin", "registry"), ("--password-stdin", "registry")),
            (("-H", "Authorization: Bearer abc"), ("-H", "Authorization: Bearer ***")),
            (("--secret", "id=x,env=TOKEN"), ("--secret", "id=x,env=TOKEN")),
            (("--secret=id=x,src=f",), ("--secret=id=x,src=f",)),
        ],
    )
    def test_flags_and_names_tell_what_is_secret(
        self, argv: tuple[str, ...], shown: tuple[str, ...]
    ) -> None:
        assert Redactor().words(argv) == shown

    def test_values_are_found_in_words(self) -> None:
        assert Redactor([TOKEN]).words(["curl", f"http://a?b={TOKEN}"]) == (
            "curl",
            "http://a?b=***",
        )


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("TOKEN", True),
        ("NPM_TOKEN", True),
        ("github-token", True),
        ("APIKEY", True),
        ("SECRET_KEY_BASE", True),
        ("DB_PASSWORD", True),
        ("PASSWORD2", True),
        ("CREDENTIALS", True),
        ("DOCKER_AUTH", True),
        ("VERSION", False),
        ("AUTHOR", False),
        ("KEYCLOAK_VERSION", False),
        ("TOKENIZER", False),
        ("GIT_COMMIT", False),
    ],
)
def test_a_name_tells_whether_its_value_is_secret(name: str, *, secret: bool) -> None:
    assert looks_secret(name) is secret


def test_keys_tokens_and_passwords_are_read_from_a_kubeconfig() -> None:
    assert credentials_in(KUBECONFIG) == (KEY, "abc-of-other", "pw-of-other")


class TestStream:
    @given(
        st.lists(st.sampled_from([TOKEN, "\n", "x", "tok-", "4f3a", "ö", "***"]), max_size=30),
        st.lists(st.integers(min_value=1, max_value=20), min_size=1),
    )
    def test_however_it_is_cut_the_same_comes_out(self, parts: list[str], sizes: list[int]) -> None:
        redactor = Redactor([TOKEN])
        data, stream, out = "".join(parts).encode(), RedactedStream(redactor), b""

        rest = data
        while rest:
            size = sizes[len(out) % len(sizes)]
            out += stream.feed(rest[:size])
            rest = rest[size:]
        out += stream.end()

        assert out == redactor.data(data)

    @given(st.text(string.ascii_lowercase + "\n"), st.integers(min_value=1, max_value=5))
    def test_without_secrets_nothing_is_changed(self, text: str, size: int) -> None:
        stream = RedactedStream(Redactor([TOKEN]))

        pieces = [text[at : at + size].encode() for at in range(0, len(text), size)]

        assert b"".join(map(stream.feed, pieces)) + stream.end() == text.encode()

    def test_a_line_goes_on_as_soon_as_its_end_is_there(self) -> None:
        stream = RedactedStream(Redactor([TOKEN]))

        fed = [stream.feed(piece) for piece in (b"one\ntok-4f3", b"a9c2e77", b"\ntwo")]

        assert (fed, stream.end()) == ([b"one\n", b"", b"***\n"], b"two")

    def test_what_is_learnt_meanwhile_counts_from_the_next_line_on(self) -> None:
        redactor = Redactor()
        stream = RedactedStream(redactor)
        stream.feed(b"line\ntok-4f3a")
        redactor.learn([TOKEN])

        assert stream.feed(b"9c2e77\n") == b"***\n"

    def test_the_rest_of_an_endless_line_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may end in the middle of a secret."""
        monkeypatch.setattr(redaction, "LONGEST_LINE", 10)
        stream = RedactedStream(Redactor([TOKEN]))

        out = [stream.feed(piece) for piece in (b"aaaaatok-4f3a9c", b"2e77 bbb", b"bb\nnext\n")]

        notice = b"[the rest of a very long line is left out]"
        assert out == [notice, b"", b"\nnext\n"]
