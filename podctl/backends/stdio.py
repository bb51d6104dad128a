"""An MCP server that speaks on its standard input and output, behind a port: each connection gets a process of its own. A plain script.

``stdio.py '{"host": …, "port": …, "most": …}' COMMAND…``. The connection is the process's standard input and output; when it ends the
process ends with all that it started. What the process says on standard error goes where this script's goes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading

#: How long a server may take to see that its input ended.
GOODBYE = 1.0


def serve(connection: socket.socket, command: list[str]) -> None:
    with connection:
        # Whoever only sees whether the port answers starts nothing.
        if not connection.recv(1, socket.MSG_PEEK):
            return
        process = subprocess.Popen(command, stdin=connection.fileno(), stdout=connection.fileno(), start_new_session=True)
        try:
            watch = select.poll()
            watch.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
            ended = os.pidfd_open(process.pid)
            watch.register(ended, select.POLLIN)
            watch.poll()
            os.close(ended)
            connection.shutdown(socket.SHUT_RDWR)
            try:
                process.wait(GOODBYE)
            except subprocess.TimeoutExpired:
                pass
        except OSError:
            pass
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


def accept(listener: socket.socket, command: list[str], most: int) -> None:
    room = threading.Semaphore(most)

    def one(connection: socket.socket) -> None:
        try:
            serve(connection, command)
        except OSError as error:
            print(f"{command[0]}: {error}", file=sys.stderr, flush=True)
        finally:
            room.release()

    while True:
        room.acquire()
        connection, _ = listener.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


def main() -> None:
    config, command = json.loads(sys.argv[1]), sys.argv[2:]
    with socket.create_server((config["host"], config["port"])) as listener:
        accept(listener, command, config["most"])


if __name__ == "__main__":
    main()
