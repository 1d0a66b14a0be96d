"""Hypothesis strategies for uploads of which anything may be large."""

from typing import Any

from hypothesis import strategies as st

from tests.builders import Json, Rec, records
from tests.streams import events


@st.composite
def uploads(draw: st.DrawFn) -> Json:
    """Draw an upload of which anything may be large."""
    size: st.SearchStrategy[int] = st.sampled_from([0, 1, 20, 150, 600, 2000])
    content: Json = {"mp_deviceid": draw(st.sampled_from("ab"))}
    for name, made in _PARTS.items():
        if draw(st.booleans()):
            content[name] = made(draw(size))
    drawn: list[Json] = draw(st.lists(events(), max_size=6))
    for one in drawn:
        if draw(st.integers(0, 3)) == 0:
            one["data"]["t"] = "é" * draw(size)
    listed = draw(st.booleans()) or bool(drawn)
    return {**content, "events": drawn} if listed else content


_PARTS: dict[str, Any] = {
    "mpid": lambda size: 17 if size < 9 else "m" * size,
    "system_notifications": lambda size: [{"x": "y" * size}],
    "deleted_user_attributes": lambda size: [f"a{n}" for n in range(size // 5)],
    "user_attributes": lambda size: {f"a{n}": "z" for n in range(size // 10)},
    "user_identities": lambda size: {f"i{n}": n for n in range(size // 30)},
    "device_info": lambda size: {"platform": "iOS", "x": "d" * size},
    "context": lambda size: {"x": "c" * size, "location": {"latitude": 1}},
    "api_key": lambda size: "k" * size,
    "unheard_of": lambda size: {"u": "v" * size},
}


@st.composite
def streams(draw: st.DrawFn) -> list[Rec]:
    """Draw records of such uploads."""
    fed = draw(st.lists(uploads(), min_size=1, max_size=12))
    return records(*fed, step=draw(st.sampled_from([0, 1000, 40_000])))
