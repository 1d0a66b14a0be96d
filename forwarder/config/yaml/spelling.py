"""The known word nearest to a misspelt one, for "did you mean …?"."""

from collections.abc import Sequence
from difflib import get_close_matches

_MIN_PREFIX_CHARS, _MAX_WORD_CHARS = 3, 100


def did_you_mean(text: str, known: Sequence[str]) -> str:
    """Return a question naming the known word nearest to a wrong one, else nothing."""
    found = nearest_word(text, known)
    return f" (did you mean {found}?)" if found else ""


def nearest_word(text: str, known: Sequence[str]) -> str | None:
    """Return the known word that a wrong one is a spelling of, None where it is of none."""
    wrong, folded = text.lower(), {word.lower(): word for word in known}
    swapped = [word for word in folded if sorted(word) == sorted(wrong)]
    begun = [word for word in folded if len(wrong) >= _MIN_PREFIX_CHARS and word.startswith(wrong)]
    near = get_close_matches(wrong[:_MAX_WORD_CHARS], folded, n=1, cutoff=0.6)
    return next((folded[word] for word in (*swapped, *begun, *near)), None)
