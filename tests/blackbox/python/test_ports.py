"""The harness itself: two servers of a test, or of two tests at once, never get the same port."""

import pathlib
import socket
import subprocess
import sys

from harness.ports import BLOCK, BLOCKS, BLOCKS_WITH_BUS, BUS, Ports, free_port, free_port_with_bus

# Several blocks each, and less than the range holds for all of them.
COUNT = 3 * BLOCK
GIVE_OUT = f"from harness.ports import free_port; print([free_port() for _ in range({COUNT})]); input()"


def test_never_the_same_port_twice():
    # A node would find the port of its Redis taken, one run in hundreds, and nobody would know why.
    command = [sys.executable, "-c", GIVE_OUT]
    others = [
        subprocess.Popen(command, cwd=pathlib.Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        ports = [free_port() for _ in range(COUNT)]
        for other in others:
            ports += map(int, other.stdout.readline().strip("[]\n").split(","))
    finally:
        for other in others:
            other.communicate("\n", timeout=10)
    assert len(ports) == len(set(ports)) == 3 * COUNT
    assert 12_000 < min(ports) and max(ports) < 32_768


def test_busses_of_clusters_meet_no_other_port():
    # Redis before 7.0 computes them.
    taken = {port for block in (*BLOCKS, *BLOCKS_WITH_BUS) for port in block}
    assert not taken & {port + BUS for block in BLOCKS_WITH_BUS for port in block}
    assert max(block[-1] for block in BLOCKS_WITH_BUS) + BUS < 32_768
    assert len({free_port_with_bus() for _ in range(60)}) == 60


def test_when_all_are_given_out():
    # The longest run begins anew instead of ending, and leaves out what is in use.
    ports = Ports(BLOCKS_WITH_BUS[:2])
    first = {ports.take() for _ in range(98)}
    with socket.create_server(("127.0.0.1", min(first))):
        again = {ports.take() for _ in range(97)}
    assert again == first - {min(first)}
