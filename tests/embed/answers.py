"""What an answer of the tests' shop says of its charge."""

import httpx
from fastapi import (
    Depends,
)

from tallystick import paid

REPORT = [Depends(paid("report"))]


def charged(answer: httpx.Response) -> tuple[str, str]:
    return answer.headers["credits-charged"], answer.headers["credits-remaining"]
