"""``GET /v1/models``: what a service serves, which is one model."""

import time
from typing import Literal

from fastapi import FastAPI
from msgspec import UnsetType
from pydantic import BaseModel, Field

from rlad_core.client.errors import UnknownNameError
from services.serve import here
from services.serve.http.problems import documented


class Model(BaseModel):
    """The served model."""

    id: str = Field(description="What requests call it.")
    object: Literal["model"] = "model"
    created: int = Field(description="When the replica began to serve it, in seconds since 1970.")
    owned_by: str = "rlad"
    max_model_len: int = Field(description="Tokens of prompt and completion together.")


class ModelList(BaseModel):
    """The models that are served."""

    object: Literal["list"] = "list"
    data: list[Model]


class ServedModel:
    """The model of a replica.

    Args:
        name: what the API calls it.
        max_model_len: tokens of prompt and completion together.
    """

    def __init__(self, name: str, max_model_len: int) -> None:
        self.name = name
        self._model = Model(id=name, created=int(time.time()), max_model_len=max_model_len)

    def list(self) -> ModelList:
        """All there are."""
        return ModelList(data=[self._model])

    def get(self, name: str) -> Model:
        """The one of this name.

        Raises:
            UnknownNameError: it is not served here.
        """
        self.check(name)
        return self._model

    def check(self, asked: str | UnsetType | None) -> None:
        """See that a request names this model, or none.

        Raises:
            UnknownNameError: it names another.
        """
        if isinstance(asked, str) and asked != self.name:
            raise UnknownNameError(f"model {asked[:200]!r} is not served here; this is {self.name!r}")


def serve_model(served: ServedModel) -> None:
    """To be called once in a replica."""
    here.keep(served)


def add_model_routes(app: FastAPI) -> None:
    """Give a service's application the two routes."""
    app.add_api_route("/v1/models", models, responses=documented(401, 403, openai=True))
    app.add_api_route("/v1/models/{name:path}", model, responses=documented(401, 403, 404, openai=True))


async def models() -> ModelList:
    """The model that is served, in OpenAI's form."""
    return here.part(ServedModel).list()


async def model(name: str) -> Model:
    """The model, if this is its name."""
    return here.part(ServedModel).get(name)
