"""The page of a blind vote (`earl evaluate vote`). Neither names nor sides of the runs leave the server."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import HTMLResponse

from earl.evaluation.voting import Ballot
from earl.pages.rendering import render
from earl.vision.images import open_image
from earl.vision.saving import encode_image


def voting_app(ballot: Ballot) -> FastAPI:
    """The application. Images are sent without the metadata of their files, which could name the editor."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def check(number: int) -> None:
        if not 0 <= number < len(ballot.pairs):
            raise HTTPException(404, "there is no such pair")

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(render("vote.html"))

    @app.get("/pair")
    def pair() -> dict[str, Any]:
        number = ballot.next()
        if number is None:
            return {"number": None}
        left = len(ballot.pairs) - number
        return {"number": number, "left": left, "instruction": ballot.pairs[number].instruction}

    @app.get("/image/{number}/{which}")
    def image(number: int, which: Literal["source", "left", "right"]) -> Response:
        check(number)
        left, right = ballot.sides(number)
        path = {"source": ballot.pairs[number].source, "left": left, "right": right}[which]
        return Response(
            encode_image(open_image(path), "PNG"),
            media_type="image/png",
            headers={"cache-control": "no-store"},
        )

    @app.post("/vote/{number}/{side}")
    def vote(number: int, side: Literal["left", "right", "tie"]) -> dict[str, Any]:
        check(number)
        ballot.vote(number, side)
        return {}

    return app
