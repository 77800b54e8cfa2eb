"""Real services the tests use, as plain processes on loopback; `python -m tests.services` installs them.

A service that is not on the machine raises `NotInstalledError` with the command that installs it; tests turn that
into a skip.
"""

from tests.services.ceph import CephRgw
from tests.services.kafka import KafkaProcess
from tests.services.locate import NotInstalledError, cache_dir
from tests.services.minio import Minio
from tests.services.process import Service, StartError, free_port, free_ports
from tests.services.s3 import S3Service
from tests.services.weir import Store, WeirProcess

__all__ = [
    "CephRgw",
    "KafkaProcess",
    "Minio",
    "NotInstalledError",
    "S3Service",
    "Service",
    "StartError",
    "Store",
    "WeirProcess",
    "cache_dir",
    "free_port",
    "free_ports",
]
