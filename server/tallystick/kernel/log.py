"""Structured logs in which no secret survives.

A logged payment header is a bearer cheque until it is settled, so what looks like a
signature, key or token is masked in what is rendered (``kernel.redaction``).
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from tallystick.kernel.redaction import redact, redact_text

__all__ = ["configure_logging", "get_logger", "redact"]


def _redact_event(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    clean: dict[str, Any] = redact(dict(event))
    return clean


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Libraries log through the standard module; their lines look and hide as ours do.

    The finished text is masked and not the record, so that tracebacks are included.
    """

    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))


def configure_logging(level: str = "INFO", *, as_json: bool = True) -> None:
    """Send our own and the libraries' logs to standard error, masked.

    A server that installs handlers of its own (uvicorn does, unless it is started with
    ``log_config=None``) bypasses this.
    """
    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    told: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *told, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _RedactingFormatter(
            foreign_pre_chain=told,
            processors=[_RedactingFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in (
        *("httpx", "httpcore", "web3", "aiosqlite"),
        *("uvicorn.access", "alembic.runtime.migration"),
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)


get_logger = structlog.get_logger
