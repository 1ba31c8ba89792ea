"""A wire between two interfaces of this namespace that takes time and loses frames.

usage: link.py NAME: the interface leaves checksums and segmentation to nobody else, so that such a wire carries
its frames.
usage: link.py LEFT RIGHT FILE: the wire. FILE holds "MILLISECONDS PERMILLE" and is read again whenever it changes.
"""
import array, fcntl, heapq, os, random, select, socket, struct, sys, time

SIOCETHTOOL = 0x8946
# Checksums, segmentation and scatter-gather in "hardware" would leave frames that no wire carries.
OFF = (0x17, 0x1F, 0x24, 0x2C, 0x19, 0x15)


def plain(name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in OFF:
            value = array.array("B", struct.pack("II", command, 0))
            request = struct.pack("16sP", name.encode(), value.buffer_info()[0])
            try:
                fcntl.ioctl(control, SIOCETHTOOL, request.ljust(40, b"\0"))
            except OSError:
                pass


def opened(name):
    plain(name)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.bind((name, 0))
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    wire.setblocking(False)
    return wire


if len(sys.argv) == 2:
    plain(sys.argv[1])
    sys.exit()
left, right, file = sys.argv[1:4]
wires = [opened(left), opened(right)]
seed = int(os.environ.get("LINK_SEED", "1"))
chance = random.Random(seed)
queue, count, looked, delay, loss = [], 0, 0.0, 0.0, 0.0
print("link: up", flush=True)
while True:
    now = time.monotonic()
    if now - looked > 0.02:
        looked = now
        millis, permille = open(file).read().split()
        delay, loss = float(millis) / 1000, float(permille) / 1000
    while queue and queue[0][0] <= now:
        _, _, out, frame = heapq.heappop(queue)
        try:
            out.send(frame)
        except OSError:
            pass
    wait = min(queue[0][0] - now, 0.02) if queue else 0.02
    for wire in select.select(wires, [], [], max(wait, 0))[0]:
        out = wires[1 - wires.index(wire)]
        while True:
            try:
                frame, source = wire.recvfrom(65536)
            except OSError:
                # Nothing there, or an interface that was down for a while.
                break
            # 4 is PACKET_OUTGOING: what this program sent itself.
            if source[2] == 4 or chance.random() < loss:
                continue
            count += 1
            heapq.heappush(queue, (time.monotonic() + delay, count, out, frame))
