"""A cable to a server on this machine that can be cut."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_AT_ONCE = struct.pack("ii", 1, 0)


class Cable:
    """Passes on what is sent until it is cut; then both ends get a reset.

    With ``tells_end`` false nobody learns that the other end has closed.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._ends: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.tells_end = True

    async def connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._ends |= {writer, far_writer}
        await asyncio.gather(
            self._pass(reader, far_writer), self._pass(far_reader, writer)
        )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while some := await reader.read(65_536):
                writer.write(some)
        except ConnectionError:
            pass
        if self.tells_end:
            self._ends.discard(writer)
            writer.close()

    def cut(self) -> int:
        """Reset what is connected now; how many ends that were."""
        for end in self._ends:
            line: socket.socket = end.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            end.transport.abort()
        ends, self._ends = len(self._ends), set()
        return ends


@asynccontextmanager
async def cable_to(port: int) -> AsyncIterator[Cable]:
    """Listens on a free port of this machine while it is open."""
    cable = Cable(port)
    async with await asyncio.start_server(cable.connected, "127.0.0.1", 0) as server:
        cable.port = server.sockets[0].getsockname()[1]
        yield cable
        cable.cut()
