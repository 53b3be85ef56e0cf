#!/usr/bin/env bash
# asyncio: TCP_NODELAY is not set on the connections of a listening socket that was made as usual.
#
# Guess:     "the socket option TCP_NODELAY is set by default for all TCP connections" (documentation of asyncio, since
#            3.6), so also for those of `loop.create_server(sock=...)`, as of a server that binds its port itself, like
#            uvicorn with `Server.run(sockets=[...])`.
# Behaviour: only for sockets whose protocol is named. `socket.socket(AF_INET, SOCK_STREAM)` has protocol 0, which means
#            TCP and is not IPPROTO_TCP; what it accepts inherits the 0, and keeps Nagle's algorithm. A server that
#            writes head and body of an answer in two calls then waits for the client's delayed acknowledgement: 40 ms
#            for every answer on the loopback of Linux, where it takes 0.5 ms.
#            So: make the socket with `socket.IPPROTO_TCP`.
# Version:   Python 3.11.7
set -euo pipefail
seen=$(python3 - <<'PYTHON'
import asyncio
import socket


async def nodelay(**place) -> bool:
    found = asyncio.get_running_loop().create_future()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        option = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        found.set_result(bool(option))
        writer.close()

    async with await asyncio.start_server(accepted, **place) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        result = await found
        writer.close()
    return result


def bound(protocol: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    made.bind(("127.0.0.1", 0))
    return made


print("by host and port:", asyncio.run(nodelay(host="127.0.0.1", port=0)))
print("a socket as usual:", asyncio.run(nodelay(sock=bound(0))))
print("with IPPROTO_TCP:", asyncio.run(nodelay(sock=bound(socket.IPPROTO_TCP))))
PYTHON
)
echo "$seen"
expected="by host and port: True
a socket as usual: False
with IPPROTO_TCP: True"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
