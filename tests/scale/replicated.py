"""A database that writes to a primary and reads from a standby which may lag."""

import asyncio
from dataclasses import dataclass

from sqlalchemy import text

from tallystick.kernel.clock import Clock
from tallystick.kernel.db import Database
from tallystick.kernel.engines import postgresql_engine
from tests.postgres import PostgresServer


@dataclass
class Replicated:
    """One primary and its standby; how far the standby follows is the test's to say."""

    primary: PostgresServer
    standby: PostgresServer
    name: str

    @property
    def primary_url(self) -> str:
        return self.primary.url(self.name)

    def open(self, clock: Clock | None = None) -> Database:
        """Writes go to the primary, reads to the standby."""
        writer = postgresql_engine(self.primary_url, writes=True)
        reader = postgresql_engine(self.standby.url(self.name), writes=False)
        return Database(writer, reader, clock)

    async def fall_behind(self) -> None:
        """From now on the standby receives everything and shows nothing of it."""
        await self.catch_up()
        await self.standby.administer("SELECT pg_wal_replay_pause()")
        await self._until("SELECT pg_get_wal_replay_pause_state() = 'paused'")

    async def catch_up(self) -> None:
        """Wait until the standby shows what the primary has by now."""
        await self.standby.administer("SELECT pg_wal_replay_resume()")
        written = await self.primary.ask("SELECT pg_current_wal_lsn()::text")
        await self._until(f"SELECT pg_last_wal_replay_lsn() >= '{written}'")

    async def _until(self, question: str) -> None:
        for _ in range(2_000):
            if await self.standby.ask(question):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"the standby never says yes: {question}")

    async def set_patience(self, delay: str) -> None:
        """How long the log waits for a read that is in its way."""
        setting = "max_standby_streaming_delay"
        await self.standby.administer(f"ALTER SYSTEM SET {setting} = '{delay}'")
        await self.standby.administer("SELECT pg_reload_conf()")

    async def vacuum(self, table: str) -> None:
        """Clear away what no transaction of the primary sees any more."""
        engine = postgresql_engine(self.primary_url, writes=True)
        async with engine.connect() as connection:
            alone = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await alone.execute(text(f"VACUUM {table}"))
        await engine.dispose()
