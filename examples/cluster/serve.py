"""Pictures over HTTP with Ray Serve: a scene comes as JSON, a PNG goes back. docs/serve.md says how to start it."""

import asyncio
from pathlib import Path
from uuid import uuid4

from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from amdm_framework.batch.drawing import Drawer
from amdm_framework.batch.jobs import make_job
from amdm_framework.batch.plain_json import parse_object
from amdm_framework.errors import InputError
from amdm_framework.yaml_files import read_yaml


@serve.deployment(max_ongoing_requests=1, ray_actor_options={"num_cpus": 1, "num_gpus": 0})
class Pictures:
    def __init__(self, composition: str) -> None:
        path = Path(composition).absolute()
        self.drawer = Drawer(read_yaml(path), str(path.parent))

    async def __call__(self, request: Request) -> Response:
        try:
            scene, seed = parse_object(await request.body()), int(request.query_params.get("seed", 0))
        except (InputError, ValueError) as error:
            return Response(str(error), status_code=422)
        job = make_job(uuid4().hex, scene, Path(), seed)
        (drawn,) = await asyncio.to_thread(self.drawer.draw, [job])
        if drawn.png is None:
            return Response(drawn.error, status_code=422)
        return Response(drawn.png, media_type="image/png")


def app(arguments: dict[str, str]) -> serve.Application:
    return Pictures.bind(arguments["composition"])
