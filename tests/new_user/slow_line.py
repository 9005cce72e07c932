"""A slow line: passes connections on to PORT, and lets so many bytes a second through to whoever listens.

    slow_line.py PORT BYTES_PER_SEC

Prints the port that it listens on. Its buffers are small, as those of a modem are: what waits, waits in the broker.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

PIECE = 512
BUFFER = 4096


def small(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return connection


def carry(source: socket.socket, sink: socket.socket, bytes_per_sec: float | None) -> None:
    try:
        while piece := source.recv(PIECE):
            sink.sendall(piece)
            if bytes_per_sec is not None:
                time.sleep(len(piece) / bytes_per_sec)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue


def main(port: int, bytes_per_sec: float) -> None:
    door = small(socket.socket())
    door.bind(("127.0.0.1", 0))
    door.listen()
    print(door.getsockname()[1], flush=True)
    while True:
        client, _ = door.accept()
        # Before it connects: later the window would not get smaller.
        broker = small(socket.socket())
        broker.connect(("127.0.0.1", port))
        threading.Thread(target=carry, args=(broker, client, bytes_per_sec), daemon=True).start()
        threading.Thread(target=carry, args=(client, broker, None), daemon=True).start()


main(int(sys.argv[1]), float(sys.argv[2]))
