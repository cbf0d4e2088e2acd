"""The contract suite of the drivers over SFTP, against every server."""

import os
import subprocess

import conftest
import pytest
import servers


@pytest.mark.parametrize("kind", sorted(conftest.KINDS))
def test_sftp_keeps_the_contract(start, keys, build, work, remote, kind):
    program = os.path.join(build, "tests", "contract", "test_io_contract")
    if not os.path.exists(program):
        pytest.skip("the contract suite is not built (make tests)")
    server = start(conftest.KINDS[kind], keys)
    known_hosts = os.path.join(work, "known_hosts")
    with open(known_hosts, "w") as f:
        f.write(keys.known_hosts_lines(server.port))
    env = {k: v for k, v in os.environ.items() if k != "SSH_AUTH_SOCK"}
    env.update(HAUL_CONTRACT_URL=server.url(remote + "/"),
               HAUL_CONTRACT_IDENTITY=keys.identity,
               HAUL_CONTRACT_KNOWN_HOSTS=known_hosts)
    run = subprocess.run([program], env=env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, timeout=200)
    assert run.returncode == 0, run.stdout
    assert "PASSED" in run.stdout
