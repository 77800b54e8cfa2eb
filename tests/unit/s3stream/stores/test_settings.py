"""Store URLs, settings and environment together name one place, or the mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from s3stream.errors import Invalid
from s3stream.stores import StoreSettings, open_store
from s3stream.stores.settings import (
    FolderLocation,
    MemoryLocation,
    S3Location,
    find_credentials,
    parse_location,
)


def s3(url: str, settings: StoreSettings = StoreSettings(), environment: Mapping[str, str] = {}) -> S3Location:  # noqa: B008
    location = parse_location(url, settings, environment)
    assert isinstance(location, S3Location)
    return location


@pytest.mark.parametrize("url", ["memory:", "memory://"])
def test_memory(url: str) -> None:
    assert parse_location(url, StoreSettings(), {}) == MemoryLocation()


def test_folder() -> None:
    assert parse_location("file:///a/b%20c", StoreSettings(), {}) == FolderLocation(path=Path("/a/b c"))
    assert parse_location(Path("/a/ü #?x").as_uri(), StoreSettings(), {}) == FolderLocation(path=Path("/a/ü #?x"))


def test_s3_on_aws() -> None:
    assert s3("s3://logs") == S3Location(
        bucket="logs", prefix="", endpoint="", region="us-east-1", path_style=False, create_bucket=False
    )
    assert s3("s3://logs/a/b/", environment={"AWS_REGION": "eu-west-1"}).region == "eu-west-1"
    assert s3("s3://logs/a/b/").prefix == "a/b/"


def test_url_beats_settings_beat_environment() -> None:
    environment = {"AWS_ENDPOINT_URL": "http://env:1", "AWS_DEFAULT_REGION": "env"}
    settings = StoreSettings(endpoint="http://settings:2/", region="settings")
    assert s3("s3://b", environment=environment).endpoint == "http://env:1"
    assert s3("s3://b", settings, environment).endpoint == "http://settings:2"
    assert s3("s3://b?endpoint=http://url:3&region=url", settings, environment).region == "url"
    assert s3("s3://b?endpoint=http://url:3", settings, environment).endpoint == "http://url:3"
    assert s3("s3://b", settings).path_style is True
    assert s3("s3://b?path_style=false", settings).path_style is False
    assert s3("s3://b?create=true").create_bucket is True


@pytest.mark.parametrize(
    "url",
    ["", "bucket", "http://x", "memory:x", "file:", "file://host/x", "file:relative", "s3://", "s3:///x", "s3://b?x=1",
     "s3://b?path_style=yes", "s3://b?endpoint=host:9000", "s3://user:secret@b", "file:///x?y=1"],
)  # fmt: skip
def test_bad_urls_are_refused_and_say_what_was_expected(url: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse_location(url, StoreSettings(), {})
    assert "secret" not in str(raised.value)


def test_credentials() -> None:
    environment = {"AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_SESSION_TOKEN": "t"}
    assert find_credentials(StoreSettings(), {}) is None
    found = find_credentials(StoreSettings(), environment)
    assert found is not None
    assert (found.access_key_id, found.session_token) == ("env", "t")
    assert "hidden" not in repr(found)
    mine = find_credentials(StoreSettings(access_key_id="mine", secret_access_key="x"), environment)
    assert mine is not None
    assert (mine.access_key_id, mine.session_token) == ("mine", None)
    with pytest.raises(Invalid, match="go together"):
        find_credentials(StoreSettings(access_key_id="half"), environment)


async def test_open_store_refuses_bad_urls() -> None:
    with pytest.raises(Invalid, match="expected memory:, file:///path or s3://bucket"):
        await open_store("ftp://x")
