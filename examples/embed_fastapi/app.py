"""A seller's own FastAPI app: a text desk with a free route and three paid ones."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from tallystick import Settings, install, paid

app = FastAPI(title="Text desk")


class Manuscript(BaseModel):
    """A text, page by page."""

    pages: list[str]


@app.get("/")
async def welcome() -> dict[str, str]:
    """Free, as every route is that says nothing else."""
    return {"see": "/openapi.json", "prices": "/api/catalog"}


@app.get("/analysis", dependencies=[Depends(paid("ai_analyst"))])
async def analyse(text: Annotated[str, Query(min_length=1)]) -> dict[str, Any]:
    """One price a call."""
    words = text.lower().split()
    common = Counter(words).most_common(1)
    return {"words": len(words), "most_common": common[0][0] if common else None}


async def count_pages(request: Request) -> int:
    """What a manuscript costs depends on its length."""
    return len((await request.json())["pages"])


@app.post("/proofs", dependencies=[Depends(paid("proof", quantity=count_pages))])
async def proofread(manuscript: Manuscript) -> list[str]:
    """A price for each page."""
    return [page.strip().capitalize() for page in manuscript.pages]


@app.get("/story", dependencies=[Depends(paid("story"))])
async def tell(hero: str = "A tally stick") -> StreamingResponse:
    """A stream is charged before its first byte, and costs nothing if it has none."""

    async def sentences() -> AsyncIterator[str]:
        for sentence in ("was split in two.", "Both halves matched.", "The end."):
            yield f"{hero} {sentence}\n" if sentence[0].islower() else f"{sentence}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(sentences(), media_type="text/plain")


# Last, so that everything above it is there. Settings come from the environment.
install(app, Settings(catalog=str(Path(__file__).with_name("catalog.toml"))))
