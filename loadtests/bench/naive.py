"""What a first try looks like: stock Ray Serve, one Ray actor, one Ray call for each action.

`python -m loadtests.bench.naive PORT` serves until its standard input closes.
Nothing is saved, so it does less than what it is compared with.
"""

# Ray types its interface in part only.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")

import ray
from fastapi import FastAPI, Request
from ray import serve

from rivet_ray_serve.local import adopt_orphans, end_descendants, start_ray


class NaiveCounter:
    def __init__(self) -> None:
        self._count = 0

    def increment(self, amount: int) -> int:
        self._count += amount
        return self._count


def build() -> FastAPI:
    app = FastAPI()
    options: dict[str, Any] = {"name": "counter", "get_if_exists": True, "num_cpus": 0}
    counter: Any = ray.remote(NaiveCounter).options(**options).remote()

    async def increment(request: Request) -> dict[str, int]:
        body = await request.json()
        return {"o": await counter.increment.remote(*body["a"])}

    app.post("/registry/actors/actions/increment")(increment)
    return app


def main() -> None:
    adopt_orphans()
    directory = Path(tempfile.mkdtemp(prefix="rivet-ray-"))
    try:
        start_ray(directory)
        serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
        deployment: Any = serve.deployment(
            name="naive", max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0}
        )
        serve.run(deployment(serve.ingress(build)()).bind())
        print("serves", flush=True)
        sys.stdin.read()
        ray.shutdown()
    finally:
        end_descendants()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
