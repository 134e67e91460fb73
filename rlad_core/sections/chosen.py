"""A section whose class one of its own keys chooses: a name that is built in, or a user's class by its place.

    objective: Annotated[Objective, Chosen(key="kind", known=KINDS, own=own_objective)]

takes ``{kind: trrd, alpha: 0.5}`` and ``{kind: my_objective.py:Mine, ...}`` alike. What the class refuses is
told with the path inside the recipe, see `rlad_core.sections.findings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError, core_schema

from rlad_core.sections import code
from rlad_core.sections.paths import folder_of


@dataclass(frozen=True)
class Chosen:
    """How the class of a field's section is chosen.

    Attributes:
        key: the key that names it.
        known: built-in classes by name.
        own: place of a user's code -> the class that validates the section; raises `CodeError` or `TypeError`
            where there is none.
        default: the name where the key is left out.
    """

    key: str
    known: Mapping[str, type[BaseModel]]
    own: Callable[[str], type[BaseModel]]
    default: str | None = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(
            lambda value, info: self._validate(source, value, info),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda section, info: section.model_dump(mode=info.mode), info_arg=True
            ),
        )

    def __hash__(self) -> int:  # pydantic keeps metadata in sets; the mapping is not hashable
        return id(self)

    def _validate(self, base: type[BaseModel], value: Any, info: ValidationInfo) -> BaseModel:
        if isinstance(value, base):
            return value
        if not isinstance(value, Mapping):
            raise PydanticCustomError("model_type", "is no section")
        name = value.get(self.key, self.default)
        names = {"key": self.key, "known": list(self.known)}
        if name is None:
            raise PydanticCustomError("choice_missing", "{key} is needed", names)
        if isinstance(name, str) and name in self.known:
            section = self.known[name]
        elif code.is_place(name):
            place = code.absolute(name, folder_of(name, info))
            try:
                section = self.own(place)
            except (code.CodeError, TypeError) as error:
                reason = {"key": self.key, "reason": str(error)}
                raise PydanticCustomError("choice_refused", "{reason}", reason) from error
            value = {**value, self.key: place}
        else:
            raise PydanticCustomError("choice_unknown", "{key} is not known", names)
        try:
            return section.model_validate(value, context=info.context)
        except ValidationError as error:
            found = {"listing": str(error), "error": error, "section": section}
            raise PydanticCustomError("section_refused", "{listing}", found) from error
        except Exception as error:
            if name in self.known:
                raise
            reason = {"key": self.key, "reason": code.fault(error)}
            raise PydanticCustomError("choice_refused", "{reason}", reason) from error


def subclass_at(place: str, base: Any, what: str) -> Any:
    """A user's class that must derive from the class `base` and have its methods.

    Raises:
        CodeError: there is none at this place, or it does not run.
        TypeError: it is something else.
    """
    made = code.load(place)
    if not (isinstance(made, type) and issubclass(made, base)):
        raise TypeError(
            f"{code.name_in(place)} is no {what}: its class must derive from "
            f"{base.__module__}.{base.__qualname__}"
        )
    if missing := getattr(made, "__abstractmethods__", None):
        raise TypeError(f"{made.__name__} is no {what} yet: it has no {', '.join(sorted(missing))}")
    return made
