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
    """The input is at fault, and would be tomorrow: a person has to look."""

    def __init__(self, code, reason):
        super().__init__(reason)
        self.code, self.reason = code, reason


class Unavailable(Exception):
    """Something around the node is at fault: another try may help."""


class Cancelled(Unavailable):
    """The run was cancelled."""


class Context:
    """What the engine lends to a plugin while it works on a node."""

    def __init__(self, connection, files):
        self._connection = connection
        self.files = files

    def log(self, message, level=3):
        """Writes a line to the engine's log. Name no patient in it."""
        self._connection.say({"say": "log", "level": level, "message": message})

    def put_artifact(self, content):
        """Keeps bytes, and gives the name under which findings refer to them."""
        self._connection.say({"say": "artifact"}, content)
        return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    def infer(self, question):
        """Asks the shared model (plugins/README.md), and gives its answer."""
        self._connection.say({"say": "infer"}, json.dumps(question).encode())
        heard = self._connection.hear()
        while heard.get("ask") != "inferred":
            if heard.get("ask") == "cancel":
                raise Cancelled("the run was cancelled")
            heard = self._connection.hear()
        if heard["status"] == OK:
            return json.loads(heard["body"])
        if heard["status"] == REJECTED:
            raise Rejected("model", heard["body"])
        raise Unavailable(heard["body"])

    def stop_if_cancelled(self):
        """Raises if the run was cancelled. Call it now and then."""
        if self._connection.has_more() and self._connection.hear().get("ask") == "cancel":
            raise Cancelled("the run was cancelled")


class Connection:
    """Frames on the socket."""

    def __init__(self):
        self._socket = socket.socket(fileno=0)

    def say(self, what, blob=b""):
        text = json.dumps(what).encode()
        self._socket.sendall(struct.pack("<II", len(text), len(blob)) + text + blob)

    def has_more(self):
        return bool(select.select([self._socket], [], [], 0)[0])

    def hear(self):
        text, blob = struct.unpack("<II", self._read(8))
        what = json.loads(self._read(text))
        self._read(blob)
        return what

    def _read(self, length):
        content = b""
        while len(content) < length:
            more = self._socket.recv(min(length - len(content), 1 << 20))
            if not more:
                # The engine is gone, or has no more to do for us.
                raise SystemExit(0)
            content += more
        return content


def run(name, version, process, check=lambda settings: None):
    """Serves the engine until it closes the socket."""
    connection = Connection()
    connection.say({"say": "ready", "name": name, "version": version})
    while True:
        ask = connection.hear()
        if ask["ask"] == "check":
            connection.say({"say": "checked", "problem": check(ask["settings"])})
        elif ask["ask"] == "process":
            status, body = _work(connection, process, ask)
            connection.say({"say": "done", "status": status, "body": body})


def _work(connection, process, ask):
    try:
        output = process(Context(connection, ask["files"]), ask["settings"], ask["input"])
        return OK, json.dumps(output)
    except Rejected as error:
        return REJECTED, json.dumps({"code": error.code, "reason": error.reason})
    except Unavailable as error:
        return UNAVAILABLE, str(error)
    except Exception as error:  # a bug of the plugin must not look like anything else
        return PANICKED, f"{type(error).__name__}: {error}"
