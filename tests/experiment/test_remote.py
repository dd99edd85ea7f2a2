"""The search on NNI's remote training service, over SSH to a server on the loopback address."""

import contextlib
import getpass
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SEARCH, rows, status, wait

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None, reason="Debian's package openssh-server is not installed"),
]

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
SetEnv HOME={home}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(place):
    """An SSH server with a key made for the test: its port and the key."""
    folder = place.root / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    number = free_port()
    (folder / "config").write_text(CONFIG.format(port=number, folder=folder, home=place.home))
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.PIPE, text=True)

    def answers():
        with socket.create_connection(("127.0.0.1", number), timeout=1):
            return True

    with contextlib.suppress(AssertionError):
        wait(lambda: process.poll() is not None or answers(), timeout=10)
    if process.poll() is not None:
        pytest.skip(f"no SSH server can be started here: {process.stderr.read().strip()}")
    yield number, folder / "key"
    process.terminate()
    process.wait()


def test_the_search_over_ssh_is_the_one_in_process(place, port, server, in_process):
    ssh_port, key = server
    changes = {
        **SEARCH,
        "/shared": str(place.root),
        "# nniManagerIp: 192.0.2.1": "nniManagerIp: 127.0.0.1",
        "worker.example.org": "127.0.0.1",
        "port: 22": f"port: {ssh_port}",
        "user: researcher": f"user: {getpass.getuser()}",
        "~/.ssh/id_ed25519": str(key),
        "/home/researcher/venv/bin": str(Path(sys.executable).parent),
    }
    config = place.config("remote", changes)
    place.run("nni-autoformer", "launch", config, "--port", port)
    wait(lambda: status(port) == "DONE")
    assert rows(place.folder(place.latest()) / "search") == in_process
