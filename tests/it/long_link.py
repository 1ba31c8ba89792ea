"""A node and a listener at the two ends of a long link, without any help of the kernel's but TUN devices.

Each end is a network namespace. What one end sends, this program holds for a while, drops now and then, and
gives to the other. It watches TCP: a *send* is what leaves after a silence; a *flight* of it is what leaves before an
acknowledgement of it is back. One flight is one round trip.

    long_link.py RELAYCTL ONE_WAY_SECONDS LOSS SENDS SLOW_START_AFTER_IDLE CONGESTION_CONTROL

prints one line of JSON: of each send its bytes, its flights, and the milliseconds until its last byte arrived.
"""

import base64
import collections
import ctypes
import fcntl
import json
import os
import random
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

BINARY, ONE_WAY, LOSS, SENDS, IDLE, CONTROL = (
    sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6])
NODE, PEER = f"rn{os.getpid()}", f"rp{os.getpid()}"
NODE_IP, PEER_IP = "10.9.0.1", "10.9.0.2"
CLONE_NEWNET, TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x40000000, 0x400454CA, 0x0001, 0x1000
# Between two sends lies most of a second, within one never this much.
SILENCE = 0.4


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def enter(name):
    """This thread's sockets are in that namespace from now on."""
    handle = os.open(f"/var/run/netns/{name}", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(handle)


def tun(name, address):
    """A device of that namespace; its packets are read from and written to the file returned."""
    result = []

    def make():
        enter(name)
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"long0", IFF_TUN | IFF_NO_PI))
        result.append(device)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    run("ip", "-n", name, "addr", "add", address + "/24", "dev", "long0")
    run("ip", "-n", name, "link", "set", "dev", "long0", "up", "mtu", "1500", "txqueuelen", "10000")
    return result[0]


class Watch:
    """The sends of the node to the listener, as they enter the link."""

    def __init__(self):
        self.sends, self.last, self.port = [], 0.0, None

    def leaves(self, packet, now):
        start, length, port, _ = tcp(packet)
        if length == 0 or port != self.port:
            return
        new = not self.sends or not after(self.sends[-1]["end"], start)
        if new and now - self.last > SILENCE:
            self.sends.append({"first": start, "end": start, "bytes": 0, "flights": 1, "acked": False, "at": now, "ms": None})
        self.last = now
        send = self.sends[-1]
        if after(start + length, send["end"]):
            if send["acked"]:
                send["flights"] += 1
                send["acked"] = False
            send["bytes"] += (start + length - send["end"]) & 0xFFFFFFFF
            send["end"] = (start + length) & 0xFFFFFFFF
            send["ms"] = None

    def acknowledged(self, packet):
        if self.sends:
            number = tcp(packet)[3]
            if after(number, self.sends[-1]["first"]):
                self.sends[-1]["acked"] = True

    def arrived(self, packet, now):
        """The listener acknowledges: by then it has all below that number."""
        number = tcp(packet)[3]
        for send in self.sends[-3:]:
            if send["ms"] is None and not after(send["end"], number):
                send["ms"] = (now - send["at"]) * 1000


def after(one, other):
    return 0 < ((one - other) & 0xFFFFFFFF) < 0x80000000


def tcp(packet):
    head = (packet[0] & 15) * 4
    total = struct.unpack_from("!H", packet, 2)[0]
    source, _, sequence, acknowledgement, offset = struct.unpack_from("!HHIIB", packet, head)
    return sequence, total - head - (offset >> 4) * 4, source, acknowledgement


def link(node, peer, watch, stop):
    chance = random.Random(7)
    held, other = collections.deque(), {node: peer, peer: node}
    poll = select.epoll()
    for device in other:
        poll.register(device, select.EPOLLIN)
    while not stop.is_set():
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, to, packet = held.popleft()
            is_tcp = packet[0] >> 4 == 4 and packet[9] == 6
            if is_tcp and to == node:
                watch.acknowledged(packet)
            try:
                os.write(to, packet)
            except OSError:
                pass
        wait = max(0.0, held[0][0] - now) + 0.0002 if held else 0.1
        for device, _ in poll.poll(wait):
            for _ in range(64):
                try:
                    packet = os.read(device, 2000)
                except BlockingIOError:
                    break
                now = time.monotonic()
                if packet[0] >> 4 == 4 and packet[9] == 6:
                    if device == node:
                        watch.leaves(packet, now)
                    else:
                        watch.arrived(packet, now)
                if LOSS == 0 or chance.random() >= LOSS:
                    held.append((now + ONE_WAY, other[device], packet))


def feed(port, password, stop):
    """128 kbit/s in real time, after eight seconds at once."""
    enter(NODE)
    login = base64.b64encode(b"source:" + password.encode()).decode()
    source = socket.create_connection(("127.0.0.1", port))
    source.sendall((f"PUT /live.mp3 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {login}\r\n"
                    "Content-Type: audio/mpeg\r\nicy-br: 128\r\n\r\n").encode())
    frame, number, start = bytes([0xFF, 0xFB, 0x94, 0xC4]) + b"\x55" * 380, 0, time.monotonic() - 8
    while not stop.is_set():
        due = int((time.monotonic() - start) / 0.024)
        source.sendall(frame * (due - number))
        number = due
        stop.wait(0.024)


def hear(port, watch, stop):
    enter(PEER)
    while True:
        listener = socket.create_connection((NODE_IP, port))
        watch.port = port
        listener.sendall(b"GET /live.mp3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if b" 200 " in listener.recv(13, socket.MSG_WAITALL):
            break
        listener.close()
        stop.wait(0.2)
    listener.settimeout(0.2)
    while not stop.is_set():
        try:
            if not listener.recv(1 << 20):
                raise SystemExit("the node hung up")
        except TimeoutError:
            pass


def main():
    stop, watch, data, node = threading.Event(), Watch(), tempfile.TemporaryDirectory(), None
    threads = []
    try:
        for name, address in ((NODE, NODE_IP), (PEER, PEER_IP)):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "netns", "exec", NODE, "sysctl", "-qw", f"net.ipv4.tcp_slow_start_after_idle={IDLE}",
            f"net.ipv4.tcp_congestion_control={CONTROL}")
        ends = tun(NODE, NODE_IP), tun(PEER, PEER_IP)
        environment = dict(os.environ, RELAYCTL_SOURCE_PASSWORD="hackme-not", RELAYCTL_FANOUT__MIN_DELAY="1s",
                           RELAYCTL_FANOUT__MAX_DELAY="1s")
        node = subprocess.Popen(
            ["ip", "netns", "exec", NODE, BINARY, "primary", "--bind", "0.0.0.0:0", "--data-dir", data.name],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
        port = int(re.search(r":(\d+)/?\s*$", node.stdout.readline()).group(1))
        for work, words in ((link, (*ends, watch, stop)), (feed, (port, "hackme-not", stop)), (hear, (port, watch, stop))):
            threads.append(threading.Thread(target=work, args=words, daemon=True))
            threads[-1].start()
        deadline = time.monotonic() + 60 + 3 * SENDS
        # The burst and the last one, which may not be whole, do not count.
        while len(watch.sends) < SENDS + 2:
            if time.monotonic() > deadline or not all(thread.is_alive() for thread in threads):
                raise SystemExit(f"{len(watch.sends)} sends were seen, {SENDS + 2} were expected")
            stop.wait(0.1)
        print(json.dumps([{word: send[word] for word in ("bytes", "flights", "ms")} for send in watch.sends[1:-1]]))
    finally:
        stop.set()
        if node:
            node.terminate()
            node.wait()
        for name in (NODE, PEER):
            subprocess.run(["ip", "netns", "del", name], check=False)


main()
