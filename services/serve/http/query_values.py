"""Values of query parameters as they have to be written: what OpenAPI calls a boolean, or a number.

Pydantic takes more than that of a string: yes and on for true, 1_0 and " 10" for 10, digits of any script.
What nobody means to write is a slip, and is told instead of taken for something.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


def _written_as(pattern: str, how: str) -> Callable[[Any], Any]:
    """What refuses a string of another form; anything else is for its type to check."""
    form = re.compile(pattern, re.ASCII)

    def check(value: Any) -> Any:
        if isinstance(value, str) and not form.fullmatch(value):
            raise PydanticCustomError("query_value", "{how}", {"how": f"has to be written as {how}"})
        return value

    return check


AS_WHOLE = BeforeValidator(_written_as(r"-?[0-9]{1,20}", "a whole number, in digits"))
"""For integers with bounds of their own, which have to stand before it."""
Flag = Annotated[bool, BeforeValidator(_written_as("(?i:true|false)", "true or false"))]
"""Python's `requests` writes True."""
Whole = Annotated[int, AS_WHOLE]
Number = Annotated[
    float,
    BeforeValidator(
        _written_as(r"-?[0-9]{1,20}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", "a number, such as 0.7")
    ),
]
