"""Names for the fields and types of generated code, from the names that artifacts give."""

import keyword
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel

RESERVED: Final = {
    *("Annotated", "Any", "Array", "BaseModel", "ConfigDict", "Field", "Final", "Instance"),
    *("Literal", "Prediction", "Refused", "Sequence", "Tensors"),
    *("bool", "dict", "float", "int", "list", "str", "tuple"),
    *("field_validator", "get_args", "instance", "instances", "np", "outputs", "row"),
}
"""What generated code means something else by."""
_TAKEN: Final = RESERVED.union(dir(BaseModel))
"""A field of such a name would hide what pydantic has there."""
_LONGEST: Final = 50


def identifiers(names: Iterable[str]) -> list[str]:
    """Return an identifier for each name, which no other has."""
    found: list[str] = []
    for name in names:
        identifier = _identifier(name)
        unique, count = identifier, 1
        while unique in found:
            count += 1
            unique = f"{identifier}_{count}"
        found.append(unique)
    return found


def type_name(identifier: str, taken: Iterable[str]) -> str:
    """Return the name of a type, after a field, which is not taken."""
    words = [word for word in identifier.split("_") if word]
    name = "".join(word[:1].upper() + word[1:] for word in words)
    unique, count = name, 1
    while unique in taken:
        count += 1
        unique = f"{name}{count}"
    return unique


def _identifier(name: str) -> str:
    text = re.sub(r"[\W_]+", "_", unicodedata.normalize("NFKC", name)).strip("_")
    text = text[: _LONGEST if text.isascii() else _LONGEST // 2].rstrip("_")
    if text.isupper():
        text = text.lower()
    if not text or not text.isidentifier():
        text = f"field_{text}".rstrip("_")
    if keyword.iskeyword(text) or keyword.issoftkeyword(text) or text in _TAKEN:
        text += "_"
    return re.sub(r"\Amodel_", "the_model_", text) if text.startswith("model_") else text
