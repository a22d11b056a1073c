from __future__ import annotations

import pytest

from ota_agent.config.address import check_endpoint, check_host, check_repository, host_of


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.com/fw.git",
        "https://git.example.com:8443/group/sub/fw.git",
        "https://[2001:db8::1]/fw.git",
        "ssh://git@git.example.com/fw.git",
        "ssh://git@git.example.com:2222/fw.git",
        "git@git.example.com:group/fw.git",
        "file:///srv/fw.git",
        "/srv/fw.git",
        "http://localhost:8080/fw.git",
        "http://127.0.0.1/fw.git",
        "http://127.8.8.8/fw.git",
        "http://[::1]:80/fw.git",
    ],
)
def test_address_that_the_agent_may_fetch_from_is_given_back(url: str) -> None:
    assert check_repository(url) == url


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "empty"),
        ("https://git.example.com/a b", "blank"),
        ("https://git.example.com/\x7f", "control"),
        ("http://git.example.com/fw.git", "plain http"),
        ("http://127.0.0.1.example.com/fw.git", "plain http"),
        ("http://127.0.0.999/fw.git", "plain http"),
        ("git://git.example.com/fw.git", "git:// is not supported"),
        ("htps://git.example.com/fw.git", "htps:// is not supported"),
        ("ext::sh", "not an address of a repository"),
        ("fw.git", "not an address of a repository"),
        ("git.example.com:fw.git", "not an address of a repository"),
        ("https://git.example.com", "no repository"),
        ("https://git.example.com/", "no repository"),
        ("https://git.example.com:70000/fw.git", "cannot be read"),
        ("https://[::1/fw.git", "cannot be read"),
        ("https:///fw.git", "no usable host"),
        ("https://gît.example.com/fw.git", "xn--"),
        ("https://-x/fw.git", "no usable host"),
        ("ssh://-oProxyCommand=x@git.example.com/fw.git", "begins with -"),
        ("git@-oProxyCommand=x:fw.git", "cannot be"),
        ("git@git.example.com:-fw.git", "cannot be"),
        ("file://git.example.com/fw.git", "three slashes"),
    ],
)
def test_other_address_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_repository(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cr3t@git.example.com/fw.git",
        "https://s3cr3t@git.example.com/fw.git",
        "ssh://git:s3cr3t@git.example.com/fw.git",
        "https://git.example.com/fw.git?private_token=s3cr3t",
        "https://git.example.com/fw.git#s3cr3t",
        "user:s3cr3t@git.example.com:fw.git",
        "https://user:s3cr3t@git.example.com:port/fw.git",
        "https://user:s3cr3t@[x/fw.git",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="address") as caught:
        check_repository(url)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Git.Example.com/fw.git", "git.example.com"),
        ("https://git.example.com:443/fw.git", "git.example.com"),
        ("https://git.example.com./fw.git", "git.example.com"),
        ("https://git.example.com:8443/fw.git", "git.example.com:8443"),
        ("http://localhost:80/fw.git", "localhost"),
        ("http://[::1]:8080/fw.git", "[::1]:8080"),
        ("ssh://git@git.example.com/fw.git", None),
        ("git@git.example.com:fw.git", None),
        ("file:///srv/fw.git", None),
        ("/srv/fw.git", None),
        ("https://[x/fw.git", None),
    ],
)
def test_token_goes_to_the_host_of_a_web_address_only(url: str, host: str | None) -> None:
    assert host_of(url) == host


def test_host_is_written_in_one_way() -> None:
    assert check_host("Git.Example.com:443") == "git.example.com"
    assert check_host("git.example.com:8443") == "git.example.com:8443"


@pytest.mark.parametrize("text", ["", "https://git.example.com", "a@b", "a b", "a:b", "-x"])
def test_other_text_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match="not a host"):
        check_host(text)


@pytest.mark.parametrize("url", ["https://x.supabase.co", "http://127.0.0.1:54321"])
def test_address_of_a_service_is_https_or_loopback(url: str) -> None:
    assert check_endpoint(url) == url


@pytest.mark.parametrize(
    "url",
    ["http://x.supabase.co", "x.supabase.co", "https://", "https://a@x.supabase.co", "ftp://x"],
)
def test_other_address_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        check_endpoint(url)
