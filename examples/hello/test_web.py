from urllib.request import urlopen

import pytest

from pytest_kindinfra import Stack


@pytest.mark.kindinfra("web")
def test_web_says_hello(kindinfra: Stack) -> None:
    with urlopen(kindinfra.url("web"), timeout=5) as response:
        assert response.read() == b"hello\n"


def test_arithmetic() -> None:
    assert 1 + 1 == 2
