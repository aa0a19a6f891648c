"""Actors for a Flask application, which blocks and so calls a server beside it.

rivet-ray dev examples.counter:App
flask --app examples.frameworks.with_flask run
"""

import os

from flask import Flask, Response

from examples.counter import App, Counter

# One client for all threads. It may be made before the server forks its workers:
# its own thread starts in the worker, with the first call.
client = App.sync_client(os.environ.get("RIVET_ENDPOINT", "http://localhost:8080"))
app = Flask(__name__)


@app.post("/increment/<name>")
def increment(name: str) -> dict[str, int]:
    return {"count": client.get_or_create(Counter, name).call(Counter.increment, 1)}


@app.get("/count/<name>")
def count(name: str) -> dict[str, int]:
    return {"count": client.get_or_create(Counter, name).call(Counter.get_count)}


@app.get("/next/<name>")
def following(name: str) -> dict[str, int]:
    """The next count, whoever changes it."""
    with client.get_or_create(Counter, name).connect() as conn:
        events = conn.events(Counter.new_count, timeout=10)
        conn.call(Counter.increment, 1)
        return {"count": next(events)}


@app.after_request
def sign(response: Response) -> Response:
    response.headers["X-Application"] = "Flask"
    return response
