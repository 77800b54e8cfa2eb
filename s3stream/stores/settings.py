"""Where the objects are and how to reach them: store URLs and what stands beside them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from s3stream.errors import Invalid

_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What a store URL may leave open. Empty text means: not set. Credentials that are not set come from the
    environment (AWS_ACCESS_KEY_ID ...), else from the instance's or container's role.

    `max_put_bytes`: larger bodies go up in parts of `part_size_bytes` (S3: at least 5 MiB).
    """

    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    path_style: bool | None = None
    create_bucket: bool = False
    request_timeout_ms: int = 30_000
    connect_timeout_ms: int = 5_000
    inflight_bytes: int = 256 << 20
    max_put_bytes: int = 64 << 20
    part_size_bytes: int = 16 << 20
    list_page_size: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLocation:
    """`memory:`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderLocation:
    """`file:///path`"""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Location:
    """`s3://bucket/prefix`. `prefix` is "" or ends with a slash. `endpoint` "" means AWS. Secrets stay out of `repr`
    and of error texts by not being here."""

    bucket: str
    prefix: str
    endpoint: str
    region: str
    path_style: bool
    create_bucket: bool


Location = MemoryLocation | FolderLocation | S3Location


def parse_location(url: str, settings: StoreSettings, environment: Mapping[str, str]) -> Location:
    """The place a URL names; Invalid with what was expected for any other text. What the URL says beats the settings,
    and the settings beat the environment."""
    parts = urlsplit(url)
    if parts.scheme == "memory":
        if parts.netloc or parts.path.strip("/") or parts.query:
            raise Invalid(f"store URL {url!r}: memory: takes nothing more")
        return MemoryLocation()
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query:
            raise Invalid(f"store URL {url!r}: expected file:///absolute/path")
        return FolderLocation(path=Path(unquote(parts.path)))
    if parts.scheme == "s3":
        if parts.username is not None or parts.fragment:
            raise Invalid("store URL: credentials and fragments do not belong into it; use settings or environment")
        return _s3_location(url, settings, environment)
    raise Invalid(f"store URL {url!r}: expected memory:, file:///path or s3://bucket/prefix?endpoint=URL&region=NAME")


def _s3_location(url: str, settings: StoreSettings, environment: Mapping[str, str]) -> S3Location:
    parts = urlsplit(url)
    if not parts.netloc:
        raise Invalid(f"store URL {url!r}: expected s3://bucket/prefix")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(query) - {"endpoint", "region", "path_style", "create"})
    if unknown:
        raise Invalid(f"store URL {url!r}: unknown {', '.join(unknown)}; known: endpoint, region, path_style, create")
    endpoint = (
        query.get("endpoint")
        or settings.endpoint
        or environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL")
        or ""
    ).rstrip("/")
    if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
        raise Invalid(f"S3 endpoint {endpoint!r}: expected http://host:port or https://host")
    region = (
        query.get("region")
        or settings.region
        or environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION")
        or "us-east-1"
    )
    path_style = bool(endpoint) if settings.path_style is None else settings.path_style
    prefix = unquote(parts.path).strip("/")
    return S3Location(
        bucket=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
        endpoint=endpoint,
        region=region,
        path_style=_truth(url, query, "path_style", path_style),
        create_bucket=_truth(url, query, "create", settings.create_bucket),
    )


def _truth(url: str, query: Mapping[str, str], name: str, default: bool) -> bool:
    text = query.get(name)
    if text is None:
        return default
    if text not in _TRUTH:
        raise Invalid(f"store URL {url!r}: {name} is {text!r}, expected true or false")
    return _TRUTH[text]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Static credentials; `None` instead of this means the role of the machine."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id!r}, ...)"


def find_credentials(settings: StoreSettings, environment: Mapping[str, str]) -> Credentials | None:
    """Those of the settings, else of the environment, else None. Invalid if only one half is there."""
    for source, key, secret, token in (
        ("settings", settings.access_key_id, settings.secret_access_key, settings.session_token),
        (
            "environment",
            environment.get("AWS_ACCESS_KEY_ID"),
            environment.get("AWS_SECRET_ACCESS_KEY"),
            environment.get("AWS_SESSION_TOKEN"),
        ),
    ):
        if bool(key) != bool(secret):
            raise Invalid(f"S3 credentials of the {source}: access key id and secret access key go together")
        if key and secret:
            return Credentials(key, secret, token or None)
    return None
