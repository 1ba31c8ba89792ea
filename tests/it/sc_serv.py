#!/usr/bin/env python3
"""A stand-in for Shoutcast's sc_serv (DNAS 2.6), which cannot be installed by a package.

It is no DNAS. It does what the DNAS documents say of the parts that relayctl uses, and refuses what they do not
name: a configuration with an unknown key, equal or missing passwords, or a port that is taken. It takes one kind of
source (Shoutcast v1, on portbase + 1), answers listeners, /statistics, /7.html and /admin.cgi, and reads its
configuration again on USR1. Written from the documents alone.
"""

import base64
import json
import re
import signal
import socket
import sys
import threading
import urllib.parse

KEYS = """portbase destip publicip portlegacy password adminpassword maxuser autodumptime publicserver
requirestreamconfigs relayreconnecttime relayconnectretries logfile w3clog banfile ripfile agentfile
pidfile""".split()
STREAM_KEYS = """streamid streampath streamrelayurl streampassword streammaxuser streamlistenertime streamintrofile
streampublicserver streamhidestats streamauthhash""".split()


def say(level, text):
    print(f"2026-01-01 00:00:00\t{level}\t{text}".replace("\t", " "), flush=True)


def refuse(text):
    say("ERROR", f"[CONFIG] {text}")
    sys.exit(1)


def read_configuration(path):
    """`key=value` by line; `;` begins a remark."""
    found = {}
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            line = line.strip()
            if not line or line.startswith(";"):
                continue
            key, equals, value = line.partition("=")
            stem = re.sub(r"_\d+$", "", key)
            known = key in KEYS or (stem in STREAM_KEYS and stem != key)
            if not equals or not known:
                refuse(f"line {number}: unknown key `{key}`")
            found[key] = value
    for key in ("password", "adminpassword", "portbase"):
        if not found.get(key):
            refuse(f"no `{key}`")
    if found["password"] == found["adminpassword"]:
        refuse("`password` and `adminpassword` are equal")
    if ":" in found["password"]:
        refuse("`password` holds a colon")
    return found


class Stream:
    def __init__(self, number, path):
        self.number, self.path = number, path
        self.source, self.fields, self.title = None, {}, ""
        self.listeners, self.lock = [], threading.Lock()

    def spread(self, data):
        with self.lock:
            for listener in list(self.listeners):
                try:
                    listener.sendall(data)
                except OSError:
                    self.listeners.remove(listener)
                    listener.close()

    def end(self):
        with self.lock:
            self.source, listeners, self.listeners = None, self.listeners, []
            for listener in listeners:
                listener.close()


class Server:
    def __init__(self, path):
        self.path = path
        self.configuration = read_configuration(path)
        self.streams = {}
        self.take_streams()

    def take_streams(self):
        for key, value in self.configuration.items():
            if key.startswith("streamid_"):
                number = int(value)
                where = urllib.parse.unquote(self.configuration.get(f"streampath_{number}", f"/stream/{number}/"))
                self.streams.setdefault(number, Stream(number, where)).path = where
        if not self.streams:
            self.streams[1] = Stream(1, "/stream/1/")

    def reload(self, *_):
        self.configuration = read_configuration(self.path)
        self.take_streams()
        say("INFO", "[MAIN] configuration read again")

    def password(self, number):
        return self.configuration.get(f"streampassword_{number}", self.configuration["password"])

    def statistics(self):
        rows = []
        for stream in self.streams.values():
            rows.append({
                "id": stream.number,
                "currentlisteners": len(stream.listeners),
                "songtitle": stream.title,
                "streamstatus": int(stream.source is not None),
                "streampath": stream.path,
                "bitrate": stream.fields.get("icy-br", "0"),
                "content": stream.fields.get("content-type", "audio/mpeg"),
            })
        return {
            "totalstreams": len(rows),
            "activestreams": sum(row["streamstatus"] for row in rows),
            "currentlisteners": sum(row["currentlisteners"] for row in rows),
            "version": "2.6.0.0 (a stand-in for tests)",
            "streams": rows,
        }

    def source(self, connection):
        lines = connection.makefile("rb")
        line = lines.readline(256).decode("latin-1").strip()
        password, _, number = line.partition(":#")
        stream = self.streams.get(int(number or 1))
        if stream is None or password != self.password(stream.number):
            connection.sendall(b"invalid password\r\n")
            return
        if stream.source is not None:
            connection.sendall(b"stream in use\r\n")
            return
        stream.source = connection
        connection.sendall(b"OK2\r\nicy-caps:11\r\n\r\n")
        stream.fields = {}
        while True:
            field = lines.readline(4096).decode("latin-1").strip()
            if not field:
                break
            name, _, value = field.partition(":")
            stream.fields[name.lower()] = value
        say("INFO", f"[SRC] stream {stream.number} begins")
        try:
            while data := lines.read1(8192):
                stream.spread(data)
        except OSError:
            pass
        stream.end()
        say("INFO", f"[SRC] stream {stream.number} ended")

    def client(self, connection):
        lines = connection.makefile("rb")
        target = lines.readline(8192).decode("latin-1").split(" ")[1]
        login = ""
        while field := lines.readline(8192).decode("latin-1").strip():
            name, _, value = field.partition(":")
            if name.lower() == "authorization":
                login = base64.b64decode(value.split()[1]).decode()
        path, _, query = target.partition("?")
        query = dict(urllib.parse.parse_qsl(query))
        stream = self.streams.get(int(query.get("sid", 1)))
        if path == "/statistics" and query.get("json") == "1":
            return self.answer(connection, json.dumps(self.statistics()), "application/json")
        if path == "/7.html":
            row = f"{len(stream.listeners)},{int(stream.source is not None)},0,512,0,128,{stream.title}"
            return self.answer(connection, f"<html><body>{row}</body></html>", "text/html")
        if path == "/admin.cgi":
            return self.admin(connection, stream, query, login)
        path = urllib.parse.unquote(path)
        found = [s for s in self.streams.values() if s.path.rstrip("/") == path.rstrip("/")]
        if not found or found[0].source is None:
            return self.answer(connection, "no such stream", "text/plain", "404 Not Found")
        kind = found[0].fields.get("content-type", "audio/mpeg")
        head = f"HTTP/1.0 200 OK\r\ncontent-type:{kind}\r\nicy-name:stand-in\r\n\r\n"
        connection.sendall(head.encode())
        with found[0].lock:
            found[0].listeners.append(connection)
        return True

    def admin(self, connection, stream, query, login):
        given = query.get("pass", "")
        administrator = f"admin:{self.configuration['adminpassword']}"
        if query.get("mode") == "updinfo":
            if given not in (self.password(stream.number), self.configuration["adminpassword"]):
                return self.answer(connection, "no", "text/plain", "401 Unauthorized")
            stream.title = query.get("song", "")
        elif query.get("mode") == "kicksrc" and login == administrator:
            if stream.source is not None:
                stream.source.shutdown(socket.SHUT_RDWR)
        else:
            return self.answer(connection, "no", "text/plain", "401 Unauthorized")
        return self.answer(connection, "<html>ok</html>", "text/html")

    @staticmethod
    def answer(connection, body, kind, status="200 OK"):
        body = body.encode()
        head = f"HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)


def serve(listener, handle):
    def one(connection):
        kept = False
        try:
            kept = handle(connection)
        except (OSError, ValueError, IndexError):
            pass
        if not kept:
            connection.close()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


def main():
    server = Server(sys.argv[1])
    configuration = server.configuration
    address = configuration.get("destip", "any")
    base = int(configuration["portbase"])
    legacy = int(configuration.get("portlegacy", base + 1))
    listeners = []
    for port, handle in ((base, server.client), (legacy, server.source)):
        if port == 0:
            continue
        try:
            listeners.append((socket.create_server((address if address != "any" else "", port)), handle))
        except OSError as error:
            refuse(f"port {port}: {error}")
    signal.signal(signal.SIGUSR1, server.reload)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for listener, handle in listeners:
        threading.Thread(target=serve, args=(listener, handle), daemon=True).start()
    say("INFO", f"[MAIN] a stand-in for sc_serv listens on {base}")
    while True:
        signal.pause()


main()
