"""FastAPI with VerityDB's streams mounted, and a Datastar page fed by hand: ``uvicorn fastapi_live:app``."""

import html
import os
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse

import veritydb.aio
from veritydb.sse import Role, Settings, TableRule, create_app

HERE = Path(__file__).parent
WARD = Role(name="ward", tables={"patients": TableRule(columns=("id", "name", "ward"))})

app = FastAPI()
# Whoever reaches this program may see the ward; with api_keys or jwt in the settings, only who presents one.
app.mount("/live", create_app("clinic.db", settings=Settings(roles={"ward": WARD}, anonymous="ward")))


@app.get("/")
async def plain() -> HTMLResponse:
    """A page with a plain EventSource."""
    return HTMLResponse((HERE / "plain.html").read_text(encoding="utf-8"))


@app.get("/datastar")
async def datastar() -> HTMLResponse:
    """A page that Datastar keeps current; its script is served from here, see the README."""
    return HTMLResponse((HERE / "datastar.html").read_text(encoding="utf-8"))


@app.get("/patients")
async def patients() -> StreamingResponse:
    """The list, drawn anew after each commit that touches it, as Datastar's events."""

    async def events():
        async with veritydb.aio.connect("clinic.db") as db, db.subscribe(tables="patients") as updates:
            yield await drawn(db)
            async for _ in updates:
                yield await drawn(db)

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def drawn(db) -> str:
    """Return the list as an event that morphs the element with its id; who keeps an id, keeps its element."""
    rows = await (await db.execute("SELECT id, name, ward FROM patients ORDER BY name")).fetchall()
    items = "".join(f'<li id="patient-{number}">{html.escape(f"{name}, {ward}")}</li>' for number, name, ward in rows)
    # Each line is data of its own. Otherwise a line break in a name would end the event there, and what follows
    # it would be an event of its own, which can hold an expression for Datastar to run: a script out of a row.
    lines = f'<ul id="patients">{items}</ul>'.splitlines()
    return "event: datastar-patch-elements\n" + "".join(f"data: elements {line}\n" for line in lines) + "\n"


if os.environ.get("DATASTAR"):  # The folder that holds datastar.js.
    from fastapi.staticfiles import StaticFiles

    app.mount("/static", StaticFiles(directory=os.environ["DATASTAR"]))
