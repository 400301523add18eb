"""Addresses of servers and the keys they ask for: what is none is refused, and no secret of them is ever shown."""

import hashlib
import re
from urllib.parse import parse_qsl, urlsplit
from urllib.request import getproxies, proxy_bypass


# The key that a query carries says who asks and not who answers: it may change, and the server is the same.
_NAMES_A_KEY = re.compile(r"key|token|secret|passw|auth|^sig(nature)?$", re.IGNORECASE)


def check_address(url: str, setting: str) -> None:
    """
    Args:
        url (`str`): address of a server.
        setting (`str`): what the user gave it as, for the error.

    Raises:
        `ValueError`: when it is none, or has a user or password in it, which would be sent as Basic authentication.
    """
    shown = f"{setting}={without_secrets(url)!r}"
    example = "for example http://localhost:8000/v1"
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        raise ValueError(f"{shown} has a space or a line break in it; leave it out.")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{shown} is not an address; it has to start with http:// or https://, {example}.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        # urllib quotes what it could not read, which may have been a password
        reason = "" if "@" in url else f" ({error})"
        raise ValueError(f"{shown} is not an address{reason}; write host and port, {example}.") from None
    if not host:
        raise ValueError(f"{shown} names no host; write host and port, {example}.")
    if "@" in parts.netloc:
        raise ValueError(
            f"{shown} was given with a user or a password before the @; leave them out and give the secret as "
            "`api_key`, on the command line in the environment variable that `api_key_env` names."
        )


def check_key(key: str | None) -> None:
    """
    Raises:
        `ValueError`: when no request can carry the key, which is not shown.
    """
    if key and not re.fullmatch(r"[!-~]+", key):
        raise ValueError(
            "The `api_key` has a space, a line break or a letter in it that no request can carry; set it again without, "
            "on the command line in the environment variable that `api_key_env` names."
        )


def secrets_in_url(url: str) -> list[str]:
    return [value for _, value in parse_qsl(urlsplit(url).query)]


def without_secrets(url: str) -> str:
    """The address without user, password and query, also of what is no address."""
    return re.sub(r"^(\w+://)?[^/]*@", r"\1", re.split(r"[?#]", url)[0])


def address_of(url: str) -> str:
    """
    What tells one server from another: its address without secrets, in one spelling. Of a query, by which a gateway may tell
    its backends apart, it has a digest.
    """
    scheme, _, rest = without_secrets(url).partition("://")
    host, _, path = rest.partition("/")
    given = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    query = [(name, value) for name, value in given if not _NAMES_A_KEY.search(name)]
    digest = "?" + hashlib.sha256(repr(query).encode()).hexdigest()[:16] if query else ""
    return f"{scheme}://{host}".lower() + f"/{path}".rstrip("/") + digest


def way_to(url: str) -> str:
    """Words about the proxy that the environment puts before a server; none where there is none."""
    parts = urlsplit(url)
    proxies = getproxies()
    name = next((scheme for scheme in (parts.scheme, "all") if scheme in proxies), None)
    if name is None or proxy_bypass(parts.hostname or ""):
        return ""
    return f" through the proxy that `{name}_proxy` names in the environment"
