"""The engine's side of a plugin in Python: the socket protocol of plugins/README.md.

Standard input is a socket. A frame is two lengths of 32 bits, lowest byte first, then that many bytes
of JSON and of anything.
"""

import hashlib
import json
import select
import socket
import struct

OK, REJECTED, UNAVAILABLE, PANICKED = range(4)


class Rejected(Exception):
    """The input is at fault, and another try would fail too: a person has to look."""

    def __init__(self, code, reason):
        super().__init__(reason)
        self.code, self.reason = code, reason


class Unavailable(Exception):
    """Something around the node is at fault: another try may succeed."""


class Cancelled(Unavailable):
    """The run was cancelled."""


class Context:
    """The services of the engine, lent for the length of one call."""

    def __init__(self, connection, files):
        self._connection = connection
        self.files = files

    def log(self, message, level=3):
        """Writes a line to the engine's log. The line must not identify a patient."""
        self._connection.send({"type": "log", "level": level, "message": message})

    def put_artifact(self, content):
        """Stores bytes, and returns the reference that segments hold."""
        self._connection.send({"type": "artifact"}, content)
        return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    def infer(self, question):
        """Asks the shared model (plugins/README.md), and returns its answer."""
        self._connection.send({"type": "infer"}, json.dumps(question).encode())
        message = self._connection.receive()
        while message.get("type") != "inferred":
            if message.get("type") == "cancel":
                raise Cancelled("the run was cancelled")
            message = self._connection.receive()
        if message["status"] == OK:
            return json.loads(message["body"])
        if message["status"] == REJECTED:
            raise Rejected(**json.loads(message["body"]))
        raise Unavailable(message["body"])

    def stop_if_cancelled(self):
        """Raises if the run was cancelled. Call it regularly during long work."""
        if self._connection.has_more() and self._connection.receive().get("type") == "cancel":
            raise Cancelled("the run was cancelled")


class Connection:
    """Frames on the socket."""

    def __init__(self):
        self._socket = socket.socket(fileno=0)

    def send(self, message, blob=b""):
        text = json.dumps(message).encode()
        self._socket.sendall(struct.pack("<II", len(text), len(blob)) + text + blob)

    def has_more(self):
        return bool(select.select([self._socket], [], [], 0)[0])

    def receive(self):
        text, blob = struct.unpack("<II", self._read(8))
        message = json.loads(self._read(text))
        self._read(blob)
        return message

    def _read(self, length):
        content = b""
        while len(content) < length:
            more = self._socket.recv(min(length - len(content), 1 << 20))
            if not more:
                # The engine has ended, or has no more work for this process.
                raise SystemExit(0)
            content += more
        return content


def run(name, version, process, check=lambda settings: None):
    """Serves the engine until it closes the socket."""
    connection = Connection()
    connection.send({"type": "ready", "name": name, "version": version})
    while True:
        message = connection.receive()
        if message["type"] == "check":
            connection.send({"type": "checked", "problem": check(message["settings"])})
        elif message["type"] == "process":
            status, body = _run_node(connection, process, message)
            connection.send({"type": "done", "status": status, "body": body})


def _run_node(connection, process, message):
    context = Context(connection, message["files"])
    try:
        output = process(context, message["settings"], message["input"])
        return OK, json.dumps(output)
    except Rejected as error:
        return REJECTED, json.dumps({"code": error.code, "reason": error.reason})
    except Unavailable as error:
        return UNAVAILABLE, str(error)
    except Exception as error:  # a bug of the plugin must not look like anything else
        return PANICKED, f"{type(error).__name__}: {error}"
