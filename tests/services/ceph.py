"""A one-node Ceph cluster with its S3 gateway: monitor, one OSD and radosgw as plain processes on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from tests.services.locate import NotInstalledError, find_program
from tests.services.process import Child, StartError, free_ports
from tests.services.s3 import S3Service

_PACKAGES = ("radosgw", "ceph-osd", "ceph-mon", "ceph-common")
_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_ADVICE = "python -m tests.services install ceph"
# One replica, few placement groups (creating pools is most of the start-up), no checks for disks that are filling.
# cephx stays on: with authentication "none" the gateway loops.
_GLOBAL = {
    "public addr": "127.0.0.1",
    "cluster addr": "127.0.0.1",
    "public network": "127.0.0.0/8",
    "auth cluster required": "cephx",
    "auth service required": "cephx",
    "auth client required": "cephx",
    "auth allow insecure global id reclaim": "true",
    "osd pool default size": "1",
    "osd pool default min size": "1",
    "osd pool default pg num": "4",
    "osd pool default pgp num": "4",
    "osd pool default pg autoscale mode": "off",
    "osd crush chooseleaf type": "0",
    "mon allow pool size one": "true",
    "mon warn on pool no redundancy": "false",
    "mon max pg per osd": "1000",
    "mon data avail crit": "1",
    "ms bind ipv4": "true",
    "ms bind ipv6": "false",
}


def install() -> None:
    """Install Debian's packages (as root; 345 MB on disk)."""
    if os.geteuid() != 0:
        raise NotInstalledError(f"run as root: apt-get install -y --no-install-recommends {' '.join(_PACKAGES)}")
    subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *_PACKAGES], check=True)


class CephRgw(S3Service):
    """One Ceph node with its data in `directory`; `memory=True` keeps objects in memory (faster, gone on stop)."""

    def __init__(self, directory: Path, *, memory: bool = True) -> None:
        self.directory = directory.absolute()
        self.programs = {name: find_program(name, install=_ADVICE) for name in _PROGRAMS}
        self.memory = memory
        mon_v1, mon_v2, gateway = free_ports(3)
        self.monitor_address = f"[v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]"
        self.endpoint = f"http://127.0.0.1:{gateway}"
        self.gateway_port = gateway
        self.conf = self.directory / "ceph.conf"
        self.monitor = self._daemon("ceph-mon", "-i", "a")
        self.osd = self._daemon("ceph-osd", "-i", "0")
        self.gateway = self._daemon("radosgw", "-n", "client.rgw.a")

    def _daemon(self, name: str, *arguments: str) -> Child:
        command = [str(self.programs[name]), "-c", str(self.conf), *arguments, "-f"]
        return Child(command, self.directory / "log" / f"{name}.out")

    def _run(self, name: str, *arguments: str, timeout_s: float = 60) -> str:
        done = subprocess.run(
            [self.programs[name], *arguments],
            env={**os.environ, "CEPH_ARGS": f"-c {self.conf}"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode != 0:
            raise StartError(f"{name} {' '.join(arguments)} failed: {done.stderr[-2000:]}")
        return done.stdout

    def _configuration(self) -> str:
        d = self.directory
        everywhere = {
            "fsid": str(uuid.uuid4()),
            "mon host": self.monitor_address,
            "keyring": f"{d}/keyring",
            "run dir": f"{d}/run",
            "admin socket": f"{d}/run/$cluster-$name.asok",
            "pid file": f"{d}/run/$name.pid",
            "log file": f"{d}/log/$name.log",
            **_GLOBAL,
        }
        osd = {
            "osd data": f"{d}/osd",
            "osd objectstore": "memstore" if self.memory else "bluestore",
            "memstore device bytes": str(4 << 30),
            "bluestore block size": str(8 << 30),
            "bluestore block create": "true",
            "osd memory target": str(1 << 30),
        }
        gateway = {
            "rgw data": f"{d}/rgw",
            "rgw frontends": f"beast endpoint=127.0.0.1:{self.gateway_port}",
            "rgw dns name": "localhost",
            "rgw enable usage log": "false",
            "rgw enable ops log": "false",
            "rgw gc max objs": "4",
            "rgw lc max objs": "4",
            "rgw override bucket index max shards": "1",
            "rgw dynamic resharding": "false",
            "rgw run sync thread": "false",
        }
        sections = {
            "global": everywhere,
            "mon": {"mon data": f"{d}/mon"},
            "osd": osd,
            "client.rgw.a": gateway,
        }
        return "\n".join(
            f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
            for name, values in sections.items()
        )

    def _keys(self) -> None:
        ring = str(self.directory / "keyring")
        self._run("ceph-authtool", "--create-keyring", ring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name, capabilities in (
            ("client.admin", {"mon": "allow *", "osd": "allow *", "mgr": "allow *"}),
            ("client.rgw.a", {"mon": "allow *", "osd": "allow *"}),
            ("osd.0", {"mon": "allow profile osd", "osd": "allow *"}),
        ):
            caps = [part for kind, rule in capabilities.items() for part in ("--cap", kind, rule)]
            self._run("ceph-authtool", ring, "--gen-key", "-n", name, *caps)

    def start(self) -> None:
        """Make a fresh cluster in `directory` (what was there is deleted) and wait for the gateway."""
        shutil.rmtree(self.directory, ignore_errors=True)
        for name in ("mon", "osd", "log", "run", "rgw"):
            (self.directory / name).mkdir(parents=True)
        text = self._configuration()
        self.conf.write_text(text)
        self._keys()
        monmap = str(self.directory / "monmap")
        cluster_id = text.split("fsid = ")[1].split()[0]
        self._run("monmaptool", "--create", "--fsid", cluster_id, "--addv", "a", self.monitor_address, monmap)
        ring = str(self.directory / "keyring")
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", ring)
        self.monitor.start()
        self._run("ceph", "-s")
        osd_id = str(uuid.uuid4())
        self._run("ceph", "osd", "new", osd_id)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        self.osd.start()
        self._wait_for_osd()
        self._start_gateway()
        self._run(
            "radosgw-admin",
            *("user", "create", "--uid=test", "--display-name=test"),
            *(f"--access-key={self.access_key}", f"--secret-key={self.secret_key}"),
        )

    def _wait_for_osd(self) -> None:
        deadline = time.monotonic() + 60
        while "1 up" not in self._run("ceph", "osd", "stat"):
            if time.monotonic() > deadline:
                raise StartError(f"the OSD did not come up:\n{self.osd.log_tail()}")
            time.sleep(0.3)

    def _start_gateway(self) -> None:
        self.gateway.start()
        self.gateway.wait_until(self._answers, timeout_s=90, what="the S3 gateway's readiness")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.endpoint, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def restart(self) -> None:
        """Start the daemons again on what is on disk (only with `memory=False`)."""
        self.monitor.start()
        self.osd.start()
        self._start_gateway()

    def kill9(self) -> None:
        """SIGKILL all three daemons."""
        for child in (self.gateway, self.osd, self.monitor):
            child.kill9()

    def stop(self) -> None:
        for child in (self.gateway, self.osd, self.monitor):
            child.stop(timeout_s=10)

    def pause(self) -> None:
        self.gateway.pause()

    def resume(self) -> None:
        self.gateway.resume()
