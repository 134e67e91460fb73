"""What a service answers in JSON, as a form."""

from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from rlad_core.client.errors import ServiceError

Form = TypeVar("Form", bound=BaseModel)


def read_as(form: type[Form], answer: httpx.Response) -> Form:
    """A successful answer as `form`.

    Raises:
        ServiceError: it is none, as another service's is; names the address and the first fault.
    """
    try:
        return form.model_validate_json(answer.content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        fault = ": ".join([".".join(map(str, first["loc"])), first["msg"]]).removeprefix(": ")
        asked = answer.request
        raise ServiceError(
            f"{asked.method} {asked.url} answered what is no {form.__name__} ({fault}); is it the address of "
            "another service, or of another release?"
        ) from error
