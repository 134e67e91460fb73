"""Through which proxy a URL is asked, where the environment names one."""

from __future__ import annotations

from urllib.parse import urlsplit


def proxy_of(url: str) -> tuple[str, str] | None:
    """The environment variable that sends requests for this URL through a proxy, and the proxy's address."""
    from urllib.request import getproxies, proxy_bypass  # takes a while, and `rlad plan` seldom needs it

    parts = urlsplit(url)
    if proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    for scheme in (parts.scheme, "all"):
        if proxy := proxies.get(scheme):
            shown = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            port = f":{shown.port}" if shown.port else ""
            return f"{scheme.upper()}_PROXY", f"{shown.scheme}://{shown.hostname}{port}"  # without a password
    return None


def through(url: str) -> str:
    """`` through the proxy ...``, or nothing."""
    found = proxy_of(url)
    if found is None:
        return ""
    variable, proxy = found
    return f" through the proxy {proxy} ({variable}; NO_PROXY={urlsplit(url).hostname} goes around it)"
