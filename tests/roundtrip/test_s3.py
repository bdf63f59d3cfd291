"""Publish to S3 and restore from it, as docs/two_engines.md says: against a server of that protocol on this machine."""

import socket
import subprocess
import time
import urllib.request
from contextlib import closing

import pytest

from tests.roundtrip.conftest import TABLE, Clone, bridge, commit

pytestmark = pytest.mark.workflow

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of an S3 server with the bucket `poses`."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("s3") / "log").open("w")
    server = subprocess.Popen(["moto_server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        made = urllib.request.Request(f"http://127.0.0.1:{port}/poses", method="PUT")
        for _ in range(300):
            try:
                urllib.request.urlopen(made).close()
                break
            except OSError:
                assert server.poll() is None, "the server has ended"
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()
        log.close()


def test_what_is_published_to_s3_is_restored_from_it(author, address, tmp_path):
    (tmp_path / "author").mkdir()
    project = author.copy(tmp_path / "author")
    project.variables |= KEYS
    project.run("dvc", "remote", "add", "--default", "storage", "s3://poses/isopose")
    project.run("dvc", "remote", "modify", "storage", "endpointurl", address)
    bridge(project, "publish")
    commit(project, "published to S3")
    clone = Clone(project, tmp_path / "clone")
    clone.variables |= KEYS
    bridge(clone, "restore")
    assert clone.planned() == {}
    assert (clone.folder / TABLE).read_bytes() == (project.folder / TABLE).read_bytes()
    assert " outputs agree, " in bridge(clone, "verify").stdout
