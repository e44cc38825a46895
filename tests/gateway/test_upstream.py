from __future__ import annotations

import pytest

from gateway.settings.faults import FaultyConfigError
from gateway.settings.load import read_configuration
from gateway.settings.upstream import url_fault


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.1.1:8000",
        "2852039166",
        "0xa9fea9fe",
        "0xa9.0xfe.43518",
        "0251.0376.0251.0376",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "100.100.100.200",
        "metadata.google.internal",
        "METADATA.google.internal.",
    ],
)
def test_addresses_that_hand_out_credentials_need_explicit_consent(host: str) -> None:
    url = f"http://{host}/v1"
    assert "link-local" in (url_fault(url, allow_link_local=False) or "")
    assert url_fault(url, allow_link_local=True) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "http://127.0.0.1:8001/v1",
        "http://10.0.0.7:8001/v1",
        "http://[::1]:8001/v1",
        "http://169-254.example.com/v1",
        "http://metadata.example.com/v1",
    ],
)
def test_ordinary_hosts_are_called(url: str) -> None:
    assert url_fault(url, allow_link_local=False) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/v1", "must begin with http"),
        ("file:///etc/passwd", "must begin with http"),
        ("host/v1", "must begin with http"),
        ("http://", "host"),
        ("http:///v1", "host"),
        ("http://a b/v1", "host"),
        ("http://host:99999/v1", "is no URL"),
        ("http://[::1/v1", "is no URL"),
        ("https://me:s3cr3t@host/v1", "user name or password"),
        ("https://host/v1?key=s3cr3t", "without `?`"),
    ],
)
def test_what_is_no_place_to_call_is_refused_without_being_quoted(url: str, words: str) -> None:
    fault = url_fault(url, allow_link_local=False)
    assert fault is not None
    assert words in fault
    assert "s3cr3t" not in fault


def test_the_fault_stands_at_the_url() -> None:
    text = "experts:\n- id: a\n  base_url: http://169.254.169.254/v1"
    with pytest.raises(FaultyConfigError, match=r"^c:3:3: experts\[0\]\.base_url: is a link"):
        read_configuration(text, "c")
    allowed = read_configuration(f"{text}\n  allow_link_local: true", "c")
    assert allowed.settings.experts
