"""The example of docs/pinpoint.md that apps with Amplify add, so that the tests' app runs it."""

import json
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "pinpoint.md"
BLOCK = re.compile(r"^```js\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fetch_wrapper(url: str, api_key: str) -> str:
    """Return the page's wrapper of fetch, for a gateway at a URL and an app's key."""
    blocks: list[str] = BLOCK.findall(PAGE.read_text())
    (found,) = [text for text in blocks if "globalThis.fetch =" in text]
    own = found.replace("https://events.example", url)
    return own.replace('"PINPOINT_API_KEY"', json.dumps(api_key))
