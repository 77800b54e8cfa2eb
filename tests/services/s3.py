"""What the two S3 services have in common: endpoint, credentials and the few bucket operations tests do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from tests.services.process import Service

if TYPE_CHECKING:
    from collections.abc import Iterator


class S3Service(Service):
    """A running S3 store: `endpoint` (URL), `access_key`, `secret_key`."""

    endpoint: str
    access_key = "test"
    secret_key = "testtest"
    region = "us-east-1"

    def client(self) -> Any:
        """A boto3 client for it (path style, no checksums the store does not ask for)."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def create_bucket(self, name: str) -> None:
        """Create a bucket; an existing one is an error."""
        self.client().create_bucket(Bucket=name)

    def objects(self, bucket: str, prefix: str = "") -> Iterator[tuple[str, int]]:
        """(key, size in bytes) of every object under the prefix."""
        for page in self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                yield entry["Key"], entry["Size"]
