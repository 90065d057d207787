"""``tallystick worker``: settling and observing in a process of its own."""

import asyncio
import signal

from tallystick.config import Settings, read_settings
from tallystick.kernel.log import configure_logging
from tallystick.running import preflight, work_alone
from tallystick.safe_settings import check_worker


def worker() -> None:
    """Settle and observe in a process of its own, beside servers that hold no key.

    Needs a PostgreSQL that all of them use. Several may run: each relayer key has one
    owner at a time, and whoever dies is succeeded within seconds.
    """
    settings = read_settings()
    configure_logging(settings.log_level, as_json=settings.log_json)
    check_worker(settings)
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await preflight(settings)
    await work_alone(settings, ended)
